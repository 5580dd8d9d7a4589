"""The policies that a search could deploy, and the returns of their last evaluations."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from off2on.reports.search.record import SearchRecord, TrialRecord
from off2on.runs.record import RunRecord
from off2on.runs.statistics import FloatArray
from off2on.runs.tables import read_episodes


@dataclass(frozen=True)
class Policies:
    """Policies of finished runs on one data set, scored in the same environment.

    Attributes:
        data: Name of the data set.
        returns: Returns of the last evaluation of each policy [episodes].
        default: Mean return of the policies with all defaults; None if there are none.
        data_return: Mean return of the data.
    """

    data: str
    returns: list[FloatArray]
    default: float | None
    data_return: float | None


def policies(search: SearchRecord) -> list[Policies]:
    """Return the policies that a search could deploy, by data set: one for each seed of a finished trial."""
    offline = str(search.metadata.get("maximise", "")).startswith("handover")
    found: dict[str, list[tuple[TrialRecord, RunRecord, FloatArray]]] = {}
    for trial in search.finished:
        for run in trial.runs:
            returns = _last_returns(run.folder, offline)
            if run.status == "finished" and len(returns):
                found.setdefault(run.data, []).append((trial, run, returns))
    return [
        Policies(
            data,
            [returns for _, _, returns in each],
            _mean([float(returns.mean()) for trial, _, returns in each if trial.is_default]),
            each[0][1].data_return,
        )
        for data, each in found.items()
    ]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _last_returns(folder: Path, offline: bool) -> FloatArray:
    """Return the returns of the last evaluation; `offline`: of the last one before the handover."""
    rows = [row for row in read_episodes(folder) if not offline or row["side"] == "offline"]
    where = [(row["side"], row["updates"], row["env_steps"]) for row in rows]
    return np.array([float(row["return"]) for row, at in zip(rows, where, strict=True) if at == where[-1]])
