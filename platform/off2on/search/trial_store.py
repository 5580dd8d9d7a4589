"""Trials of a search on disk: a file each, and a table of those that have ended.

    trials/007/trial.yaml    drawn, values, scores on the way, outcome
    trials.csv               one row per trial that has ended

A search that is killed goes on from these alone.
"""

import csv
import io
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field

from datasets_io import storage
from datasets_io.storage import Place
from datasets_io.storage.documents import dump_yaml, read_yaml
from off2on.runs.folder import write
from off2on.search.spec import TRIALS

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
COUNTED = ("seeds", "updates", "env_steps", "episodes", "seconds")
COLUMNS = ("trial", "status", "score", "low", "high", *COUNTED, "folder")
SHEET, SEARCH, TRIAL = "trials.csv", "search.yaml", "trial.yaml"


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

    name: Annotated[str, Field(pattern=r"^\d{1,9}$")]
    tune: str
    drawn: dict[str, Any]
    values: dict[str, str]
    scores: list[list[float]] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """True if the trial is not to be run again."""
        return self.outcome.get("status") in (FINISHED, STOPPED)


class TrialStore:
    """The trials of a search.

    Args:
        place: The search's, which may be in a bucket.
        names: What is searched.
    """

    def __init__(self, place: Place, names: list[str]) -> None:
        self.place, self.names = place, names
        files = (folder / TRIAL for folder in storage.list_folders(place / TRIALS))
        self.trials = [read_yaml(file, Trial) for file in files if storage.is_file(file)]

    def __getitem__(self, tune: str) -> Trial:
        # Of a population, Tune numbers the trials of each command anew, and puts a name of its own before.
        number = tune.rpartition("_")[2]
        return next(trial for trial in self.trials if trial.tune == number and not trial.is_done)

    def add(self, tune: str, drawn: dict[str, Any], values: dict[str, str]) -> Trial:
        """Create a new trial and store it."""
        trial = Trial(f"{len(self.trials):03d}", tune, drawn, values)
        self.trials.append(trial)
        self.keep(trial)
        return trial

    def keep(self, trial: Trial) -> None:
        """Write the file of a trial."""
        file = self.place / TRIALS / trial.name / TRIAL
        write(file, dump_yaml(asdict(trial)))

    def end(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Write the outcome of a trial, and the table."""
        trial.outcome = outcome
        self.keep(trial)
        self.tabulate()

    def tabulate(self) -> None:
        """Write the table of the trials that have ended."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*COLUMNS, *self.names], lineterminator="\n", restval="")
        writer.writeheader()
        for trial in self.trials:
            if trial.outcome:
                folder = f"{TRIALS}/{trial.name}"
                writer.writerow({"trial": trial.name, **trial.outcome, "folder": folder, **trial.values})
        write(self.place / SHEET, text.getvalue())


def find(place: Place, tune: str) -> Trial:
    """Return the trial with an identifier of Ray Tune."""
    return TrialStore(place, [])[tune]
