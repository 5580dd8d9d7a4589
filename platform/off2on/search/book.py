"""What is known of a search's trials, on disk: a file each, and the table of those that have ended.

    trials/007/trial.yaml    drawn, values, scores on the way, outcome
    trials.csv               one row per trial that has ended

A search that is killed goes on from these alone.
"""

import csv
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from off2on.errors import UserError
from off2on.runs import write

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
COUNTED = ("seeds", "updates", "env_steps", "episodes", "seconds")
COLUMNS = ("trial", "status", "score", "low", "high", *COUNTED, "folder")
SHEET, SEARCH = "trials.csv", "search.yaml"


@dataclass
class Trial:
    """A trial.

    Attributes:
        name: Its number, and its folder's name.
        tune: What Ray Tune calls it.
        drawn: What was drawn of everything that is searched.
        values: The same as its runs have it, as text.
        scores: Evaluations with a score so far, and the score at each.
        outcome: The columns of its row, once it has ended.
    """

    name: str
    tune: str
    drawn: dict[str, Any]
    values: dict[str, str]
    scores: list[list[float]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether it is not to be run again."""
        return self.outcome.get("status") in (FINISHED, STOPPED)


class Book:
    """The trials of a search.

    Args:
        folder: The search's.
        names: What is searched.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.trials = [_read(path) for path in sorted(folder.glob("trials/*/trial.yaml"))]

    def __getitem__(self, tune: str) -> Trial:
        # Of a population, Tune numbers the trials of each command anew, and puts a name of its own before.
        number = tune.rpartition("_")[2]
        return next(trial for trial in self.trials if trial.tune == number and not trial.is_done)

    def add(self, tune: str, drawn: dict[str, Any], values: dict[str, str]) -> Trial:
        """A trial that is new."""
        trial = Trial(f"{len(self.trials):03d}", tune, drawn, values)
        self.trials.append(trial)
        self.keep(trial)
        return trial

    def keep(self, trial: Trial) -> None:
        """Writes down what is known of it."""
        folder = self.folder / "trials" / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "trial.yaml", yaml.safe_dump(asdict(trial), sort_keys=False, allow_unicode=True))

    def end(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Writes down how it ended, and the table anew."""
        trial.outcome = outcome
        self.keep(trial)
        self.tabulate()

    def tabulate(self) -> Path:
        """The table of the trials that have ended."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*COLUMNS, *self.names], lineterminator="\n", restval="")
        writer.writeheader()
        for trial in self.trials:
            if trial.outcome:
                folder = f"trials/{trial.name}"
                writer.writerow({"trial": trial.name, **trial.outcome, "folder": folder, **trial.values})
        write(self.folder / SHEET, text.getvalue())
        return self.folder / SHEET


def find(folder: Path, tune: str) -> Trial:
    """The trial that Ray Tune calls so."""
    return Book(folder, [])[tune]


def _read(path: Path) -> Trial:
    try:
        return Trial(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError) as error:
        raise UserError(f"{path} does not describe a trial", str(error)) from None
