"""The record of a search, read from search.yaml, trials.csv and the runs of the trials.

The folder is all that is needed: it can be read elsewhere, without what searched.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict
from typing_extensions import TypedDict

from datasets_io.errors import Corrupt
from datasets_io.storage.documents import read_yaml
from off2on.errors import UserError
from off2on.runs.numbers import points
from off2on.runs.record import RunRecord, load_run, runs_below
from off2on.runs.statistics import FloatArray
from off2on.runs.tables import LARGEST, read_episodes, read_table

SPENT = ("updates", "env_steps", "episodes", "seconds")
KNOWN = ("trial", "status", "score", "low", "high", "seeds", *SPENT, "folder")
LISTED = ("algorithm", "strategy")
"""Names that can be searched and are not hyperparameters."""

WIDE_RANGE = 10  # largest by smallest, from which values that were listed are drawn on a logarithmic axis


@dataclass(frozen=True)
class TrialRecord:
    """One trial: the values of the searched names, with the score over its seeds.

    Attributes:
        name: Its number.
        status: finished, stopped or failed; one that was stopped early has the score of fewer updates.
        score: What is maximised, mean over the seeds; NaN if there is none.
        interval: Its 95 % interval.
        seeds: How many.
        values: What is searched, as text.
        spent: Updates, environment steps, evaluation episodes and seconds, of those that are known.
        folder: Of its runs.
    """

    name: str
    status: str
    score: float
    interval: tuple[float, float] | None
    seeds: str
    values: Mapping[str, str]
    spent: Mapping[str, float]
    folder: Path

    @cached_property
    def runs(self) -> list[RunRecord]:
        """Runs of the trial that have an evaluation."""
        found = []
        for folder in runs_below(self.folder):
            try:
                read_episodes(folder)
                found.append(load_run(folder))
            except UserError:
                continue  # it failed early, or its files are damaged
        return found

    @property
    def score_text(self) -> str:
        """The score with its interval, as text."""
        low_high = self.interval
        return points(self.score) + (f" [{points(low_high[0])}, {points(low_high[1])}]" if low_high else "")

    @property
    def is_default(self) -> bool:
        """True if all searched hyperparameters have their defaults, according to its runs."""
        if not self.runs or not self.values:
            return False
        known = self.runs[0].hyperparameters
        return all(name in known and known[name].value == known[name].default for name in self.values)


@dataclass(frozen=True)
class Axis:
    """A searched name with its values as numbers.

    Attributes:
        name: Of the hyperparameter.
        values: One a trial, NaN where it has none [N].
        words: What the whole numbers stand for; empty if they are numbers.
        log: Whether it is drawn on a logarithmic axis.
        listed: The numbers to choose from, if they were listed.
    """

    name: str
    values: FloatArray
    words: list[str] = field(default_factory=list)
    log: bool = False
    listed: FloatArray | None = None


@dataclass(frozen=True)
class SearchRecord:
    """A search and its trials.

    Attributes:
        folder: Where it is.
        metadata: The content of search.yaml, without origins.
        names: What is searched.
        trials: The finished ones first, the best at the top; then the stopped, then the failed.
    """

    folder: Path
    metadata: Mapping[str, Any]
    names: list[str]
    trials: list[TrialRecord]

    @property
    def finished(self) -> list[TrialRecord]:
        """Finished trials with a score, the best first."""
        return [trial for trial in self.trials if trial.status == "finished" and math.isfinite(trial.score)]

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        statuses = [trial.status for trial in self.trials]
        return {status: statuses.count(status) for status in dict.fromkeys(statuses)}

    @property
    def is_online(self) -> bool:
        """True if its runs have an online phase."""
        return str(self.metadata.get("online") or "0") != "0"

    @property
    def objective(self) -> str:
        """Name of the maximised measure."""
        return str(self.metadata.get("maximise") or "score")

    def axes(self, trials: list[TrialRecord]) -> list[Axis]:
        """Return the axes of these trials, without hyperparameters that none of them has."""
        return [self._axis(name, trials) for name in self.names if any(t.values.get(name) for t in trials)]

    def _axis(self, name: str, trials: list[TrialRecord]) -> Axis:
        cells = [trial.values.get(name, "") for trial in trials]
        numbers = [_number(cell) if cell else math.nan for cell in cells]
        if all(abs(number) <= LARGEST for number, cell in zip(numbers, cells, strict=True) if cell):
            values = np.array(numbers)
            least, most = float(np.nanmin(values)), float(np.nanmax(values))
            rule = (self.metadata.get("search") or {}).get(name)
            kinds = [str(key) for key in rule] if isinstance(rule, Mapping) else []
            far = "between" not in kinds and most >= WIDE_RANGE * least
            log = least > 0 and (far or "log_between" in kinds)
            listed = np.unique(values[np.isfinite(values)]) if "one_of" in kinds else None
            return Axis(name, values, log=log, listed=listed)
        words = sorted({cell for cell in cells if cell})
        return Axis(name, np.array([words.index(cell) if cell else math.nan for cell in cells]), words)


def _bare(stored: Any) -> Any:
    """Return stored values without their origins."""
    if not isinstance(stored, dict):
        return stored
    if set(stored) == {"value", "origin"}:
        return _bare(stored["value"])
    return {name: _bare(value) for name, value in stored.items()}


Scalar = str | int | float | bool | None
_Content = TypedDict(
    "_Content",
    {
        "algorithm": Scalar | list[Scalar],
        "data": Scalar | list[Scalar],
        "strategy": Scalar | list[Scalar],
        "with": dict[str, Scalar | list[Scalar]],
        "search": dict[str, Scalar | dict[str, Any]],
    },
    total=False,
)
_Content.__pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[attr-defined]
_SearchFile: Any = Annotated[_Content, BeforeValidator(_bare)]
"""Content of search.yaml, with or without origins; other keys may follow."""


def load_search(folder: Path) -> SearchRecord:
    """Read the folder of a search.

    Raises:
        UserError: It is none, or its files are not what a search's files are.
    """
    metadata = _about(folder / "search.yaml")
    file = folder / "trials.csv"
    if not file.exists():
        raise UserError(f"the search {folder} has no trials yet", f"Looked for {file}.")
    rows = [*read_table(file, ("trial", "status", "score"))]
    names = [name for name in (rows[0][1] if rows else ()) if name not in KNOWN]
    trials = [_trial(folder, names, row, origin) for origin, row in rows]
    order = {"finished": 0, "stopped": 1}

    def rank(trial: TrialRecord) -> tuple[int, float]:
        return order.get(trial.status, 2), -trial.score if math.isfinite(trial.score) else math.inf

    return SearchRecord(folder, metadata, names, sorted(trials, key=rank))


def _about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent} is not a search: it has no search.yaml", f"Looked for {path}.")
    return read_yaml(path, _SearchFile)


def _trial(folder: Path, names: list[str], row: Mapping[str, str], origin: str) -> TrialRecord:
    def cell(name: str) -> float:
        text = (row.get(name) or "").strip()
        number = _number(text)
        if text and math.isnan(number) and text.lower() != "nan":
            raise Corrupt(f"{name} is no number: '{text[:40]}'.", where=origin)
        if LARGEST < abs(number) < math.inf:
            raise Corrupt(f"{name} is {text[:40]}, expected at most {LARGEST:g}.", where=origin)
        return number if math.isfinite(number) else math.nan

    low, high = cell("low"), cell("high")
    name = row["trial"].strip()
    place = folder / "trials" / name
    if not place.is_dir() and row.get("folder"):
        place = folder / row["folder"]
    if not place.resolve().is_relative_to(folder.resolve()):
        raise Corrupt(f"the trial {name[:40]!r} lies outside of the search, in {place}.", where=origin)
    return TrialRecord(
        name=name,
        status=row["status"].strip(),
        score=cell("score"),
        interval=(low, high) if math.isfinite(low + high) else None,
        seeds=row.get("seeds") or "",
        values={name: row[name].strip() for name in names},
        spent={name: value for name in SPENT if math.isfinite(value := cell(name))},
        folder=place,
    )


def _number(text: str) -> float:
    """Return text as a number, NaN if it is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
