"""Records of runs, read from run.yaml and metrics.csv of their folders.

    find_runs(["runs/hopper-medium-v2/*"])  ->  folders
    load_run(folder)                        ->  RunRecord

Only the folder is needed: it can be read on another machine without the code that trained it.
"""

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_io import storage
from datasets_io.scores import Key
from datasets_io.storage.buckets import Location
from datasets_io.storage.replacing import PARTIAL
from off2on.errors import UnknownName, UserError
from off2on.runs.bucket_mirror import runs_in
from off2on.runs.curve import Curve
from off2on.runs.guard_file import returns_in_service
from off2on.runs.handover import HandoverReport, read_handover
from off2on.runs.lock import RUNNING, status_now
from off2on.runs.metadata import FILE, RecordedValue, RunMetadata, read_metadata
from off2on.runs.statistics import FloatArray
from off2on.runs.tables import read_metrics


class NoEvaluationError(UserError):
    """The run has no evaluation: none yet, or it has no environment.

    Args:
        folder: Folder of the run.
        metadata: Content of its run.yaml.
    """

    def __init__(self, folder: Path, metadata: RunMetadata) -> None:
        place, command = shlex.quote(str(folder)), metadata.command or ""
        what, expected = f"{folder} has no evaluation yet", "Expected scores in metrics.csv."
        resume = f"{command} --resume" if command.startswith("off2on train ") else ""
        status = status_now(folder, metadata)
        if status == "finished" and metadata.env is None:
            what = f"{folder} has no evaluation, because it has no environment"
            expected += " The return of its policy can be estimated from recorded data:"
            try_ = f"off2on ope {place} {shlex.quote(metadata.data.pinned or metadata.data.name)}"
        elif status == RUNNING or not resume:
            expected += f" The run is {status}: wait for its first evaluation."
            expected += f"\nIf it was killed, continue it: {resume}" if resume else ""
            try_ = f"off2on report {place}"
        else:
            expected += f" The run is {status}: continue it."
            try_ = resume
        super().__init__(what, expected, try_)


@dataclass(frozen=True)
class RunRecord:
    """The record of a run.

    Attributes:
        folder: Its folder.
        algorithm, data: Their names.
        strategy: The fine-tuning strategy; None without an online phase, or before it.
        seed: Seed of the run.
        status: running, finished, interrupted (also by a kill) or failed.
        data_return: Mean return of the data.
        reference: Returns that count as 0 and 100, if they are known for the data in the environment.
        curve: Scores before and after the handover.
        sides: offline, handover or online for each row of `metrics`.
        metrics: The numeric columns of metrics.csv [rows], NaN where a cell is empty.
        metadata: Content of run.yaml.
        handover: Content of handover.yaml; None without the file.
        returns_in_service: Returns of the evaluation episodes of the policy that a guard left in service;
            None without a guard.
    """

    folder: Path
    algorithm: str
    strategy: str | None
    data: str
    seed: int
    status: str
    data_return: float | None
    reference: tuple[float, float] | None
    curve: Curve
    sides: list[str]
    metrics: Mapping[str, FloatArray]
    metadata: RunMetadata
    handover: HandoverReport | None = None
    returns_in_service: list[float] | None = None

    @property
    def name(self) -> str:
        """Algorithm and strategy."""
        return f"{self.algorithm} × {self.strategy}" if self.strategy else self.algorithm

    @property
    def key(self) -> Key:
        """The key of its scores."""
        stored = self.metadata.score
        return stored.key if stored else Key(self.data, self.metadata.env)

    @property
    def hyperparameters(self) -> Mapping[str, RecordedValue]:
        """Value, default and origin of each hyperparameter, strategy option and online setting."""
        online = self.metadata.online_side if self.strategy else None
        return {**self.metadata.hyperparameters, **(online or {})}

    def trace(self, name: str, *sides: str) -> tuple[FloatArray, FloatArray]:
        """Return the updates or, online, environment steps with a value of a column, and the values."""
        values = self.metrics.get(name, np.full(len(self.sides), np.nan))
        known = np.isin(self.sides, sides) & np.isfinite(values)
        return self.metrics["updates" if sides == ("offline",) else "env_steps"][known], values[known]


def load_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        NoEvaluationError: There is no evaluation.
        UserError: It is not a run, or its files are not valid.
    """
    metadata = read_metadata(folder)
    rows = read_metrics(folder)
    if not rows:
        raise NoEvaluationError(folder, metadata)
    sides, metrics = _columns(rows)
    scored = np.isfinite(metrics["score"])
    offline, online = ((np.isin(sides, on) & scored) for on in (["offline"], ["handover", "online"]))
    if not scored.any():
        raise NoEvaluationError(folder, metadata)
    returns = returns_in_service(folder, metrics["env_steps"][-1]) if online.any() else None
    warm_up = (metadata.online_side or {}).get("online.warm_up")
    return RunRecord(
        folder=folder,
        algorithm=metadata.algorithm,
        strategy=metadata.strategy or "online" if online.any() else None,
        data=metadata.data.name,
        seed=metadata.seed,
        status=status_now(folder, metadata),
        data_return=metadata.data.return_mean,
        reference=metadata.data.reference,
        curve=Curve(
            metrics["updates"][offline],
            metrics["score"][offline],
            metrics["env_steps"][online],
            metrics["score"][online],
            planned=metadata.online,
            warm_up=0 if warm_up is None else warm_up.count("online.warm_up"),
            in_service=None if returns is None else float(np.mean(returns)),
        ),
        sides=sides,
        metrics=metrics,
        metadata=metadata,
        handover=read_handover(folder),
        returns_in_service=returns,
    )


def _columns(rows: list[dict[str, str]]) -> tuple[list[str], dict[str, FloatArray]]:
    """Return the phase of each row, and the other columns, as numbers."""
    numbers = {
        name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0] if name != "side"
    }
    return [row["side"] for row in rows], numbers


def find_runs(patterns: Iterable[str], root: Path = Path("runs")) -> list[Path]:
    """Return the run folders of folders, globs, folders of runs, or names with only one match below `root`.

    Folders in a bucket are fetched, see `bucket_mirror`.

    Raises:
        UnknownName: Nothing matches.
        UserError: A name matches several runs.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if isinstance(place := storage.locate(pattern), Location) and (kept := runs_in(place)):
            found |= dict.fromkeys(kept)
            continue
        if not pattern:
            raise UnknownName("'' is no run.", "Expected a folder, or a name.")
        path = Path(os.path.expanduser(pattern))  # that of pathlib fails for an unknown user
        places = [path] if os.path.exists(path) else _matches(path)
        runs = [run for place in places for run in runs_below(place)]
        found |= dict.fromkeys(runs or [_named(pattern, root)])
    return list(found)


def _matches(pattern: Path) -> list[Path]:
    """Return the paths that match a pattern; unlike `glob.glob`, follow no links, which may be loops."""
    parts = pattern.relative_to(pattern.anchor)
    try:
        found = Path(pattern.anchor).glob(str(parts))
        return sorted(path for path in found if path.suffix != PARTIAL or pattern.suffix == PARTIAL)
    except (ValueError, OSError):  # no pattern, or a name that is too long
        return []


def find_run(name: str) -> tuple[Path, RunMetadata]:
    """Find the run of a folder, a glob, or a name with only one match below ./runs.

    Returns:
        Its folder, and the content of its run.yaml.

    Raises:
        UnknownName: There is no such run.
        UserError: There are several, or it is not a run, or its record is damaged.
    """
    found = find_runs([name])
    if len(found) > 1:
        raise _several(name, found)
    read_metrics(found[0])  # a run with a damaged record is not used
    return found[0], read_metadata(found[0])


def runs_below(place: Path) -> list[Path]:
    """Return the folder itself if it is a run, otherwise every run inside it.

    A folder *.partial inside it is a copy that is being made, or what a killed process left of one.
    """
    if (place / FILE).exists():
        return [place]
    return sorted(path.parent for path in place.rglob(FILE) if path.parent.suffix != PARTIAL)


def _named(name: str, root: Path) -> Path:
    known = runs_below(root)
    parts = Path(name).parts
    matches = [run for run in known if run.parts[-len(parts) :] == parts]
    matches = matches or [run for run in known if name in str(run)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise _several(name, matches, f"off2on report {matches[0]}")
    looked = f"Looked for a run.yaml in {name} and below {root} ({len(known)} runs)."
    raise UnknownName(
        f"no run is called '{name}'",
        looked,
        f"off2on report {known[0]}" if known else "",
        given=name,
        known=[*(run.name for run in known), *map(str, known)],
    )


def _several(name: str, matches: list[Path], attempt: str = "") -> UserError:
    return UserError(f"{len(matches)} runs match '{name}'", "\n".join(map(str, matches[:10])), attempt)
