"""The content of run.yaml: the fields that are read again, with their types and ranges.

A file may have more fields; they are kept when a run writes its file again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from datasets_io.errors import Corrupt
from datasets_io.imports import is_known
from datasets_io.scores import Key
from datasets_io.storage.documents import read_yaml
from off2on.errors import SimulatorError, UserError
from off2on.runs.tables import LARGEST

if TYPE_CHECKING:
    from datasets_io import Shards

FILE = "run.yaml"
Count = Annotated[int, Field(ge=0, le=2**53)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0)]


def _differ(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] == pair[1]:
        raise ValueError("the returns that score 0 and 100 must differ")
    return pair


@dataclass(frozen=True)
class RecordedValue:
    """The value of an option, a hyperparameter or a setting, with its default and where it was set."""

    value: Any
    default: Any = None
    origin: str = "default"

    def count(self, name: str) -> int:
        """Return the value as a number of steps or processes; `name` is for the message.

        Raises:
            Corrupt: It is not a whole number.
        """
        if not isinstance(self.value, int | str) or not re.fullmatch(r"\d{1,15}", str(self.value)):
            raise Corrupt(f"{FILE}: {name} is {str(self.value)[:40]!r}, expected a whole number.")
        return int(self.value)


@dataclass(frozen=True)
class RecordedScore:
    """The key of the scores, and whether the reference returns are valid for it."""

    data: Name
    environment: str | None
    horizon: Count | None
    standing: str = "unknown"
    why: str = ""
    simulator: Name | None = None

    @property
    def key(self) -> Key:
        """The key."""
        return Key(self.data, self.environment, self.horizon, self.simulator)


@dataclass(frozen=True)
class TrainingData:
    """The training data.

    Attributes:
        name: Their name.
        pinned: Folder and generations, ``FOLDER@FIRST-LAST``.
        content_hash: Hash of their rows.
        reference: Returns that score 0 and 100.
    """

    name: Name
    pinned: Annotated[str, Field(pattern=r"^.+@\d{1,9}-\d{1,9}$")] | None = None
    content_hash: str | None = None
    rows: Count | None = None
    episodes: Count | None = None
    return_mean: Number | None = None
    return_to_go_mean: Number | None = None
    return_to_go_max: Number | None = None
    reference: Annotated[tuple[Number, Number], AfterValidator(_differ)] | None = None


@dataclass(frozen=True)
class RunMetadata:
    """The fields of run.yaml that are read.

    Attributes:
        strategy: The fine-tuning strategy; None without an online phase.
        updates, online: Planned updates, and planned environment steps.
        env, env_options: The environment and the arguments for making it.
        plan: Every option of the command line.
        hyperparameters: Those of the offline phase.
        online_side: The strategy's options, the online settings and the hyperparameters of the online phase.
        status: running, finished, interrupted or failed.
        extended_at: Numbers of updates that the run was planned for before, one for each extension.
        not_made: Counts of a copied run that were made elsewhere, see `off2on.search.trial`.
    """

    algorithm: Name
    data: TrainingData
    seed: Count
    plan: Mapping[str, RecordedValue]
    hyperparameters: Mapping[str, RecordedValue] = field(default_factory=dict)
    online_side: Mapping[str, RecordedValue] | None = None
    strategy: Name | None = None
    updates: Count = 0
    online: Count = 0
    env: Name | None = None
    env_options: Mapping[str, Any] | None = None
    score: RecordedScore | None = None
    status: str = "running"
    command: str | None = None
    commit: str | None = None
    versions: Mapping[str, str | None] | None = None
    device: str | None = None
    threads: Count | None = None
    compiled_since: Count | None = None
    wall_s: NonNegative = 0.0
    started: str = "some time ago"
    tracked: Mapping[str, str] = field(default_factory=dict)
    taken_over: list[Mapping[str, Any]] = field(default_factory=list)
    extended_at: list[Count] = field(default_factory=list)
    not_made: Mapping[str, int] = field(default_factory=dict)

    def option(self, name: str) -> RecordedValue:
        """Return an option of the command line.

        Raises:
            Corrupt: It is not recorded.
        """
        if name not in self.plan:
            raise Corrupt(f"{FILE} lacks plan.{name}.", "Expected the value of every option of the run.")
        return self.plan[name]

    def known_env(self) -> str | None:
        """Return the environment; it can be made without importing a module that only the file names.

        Raises:
            SimulatorError: It cannot.
        """
        from datasets_io.environments import may_make

        if self.env is not None and not may_make(self.env):
            raise SimulatorError(
                f"{FILE} names the environment {self.env}: its module would be imported.",
                "A module is imported only if it is named on the command line.",
                f"--env {self.env}",
            )
        return self.env

    def known_algorithm(self) -> str:
        """Return the algorithm; it can be found without importing a module that only the file names.

        Raises:
            UserError: It cannot.
        """
        if ":" in self.algorithm and not is_known(self.algorithm.partition(":")[0]):
            raise UserError(
                f"{FILE} names the algorithm {self.algorithm}: its module would be imported.",
                f"A module is imported only if it is named on the command line: give {self.algorithm} there.",
            )
        return self.algorithm

    def training_data_hash(self) -> str:
        """Return the hash of the rows that the run was trained on.

        Raises:
            Corrupt: The file does not say which they are.
        """
        for name in ("pinned", "content_hash"):
            if getattr(self.data, name) is None:
                raise Corrupt(f"{FILE} lacks data.{name}.", "It tells which rows the run was trained on.")
        return str(self.data.content_hash)

    def training_data(self) -> "Shards":
        """Open the rows that the run was trained on.

        Raises:
            UnknownName: They are not on this machine.
            Corrupt: The file does not say which they are, or other rows are there.
        """
        from datasets_io import open_shards

        expected = self.training_data_hash()
        shards = open_shards(str(self.data.pinned))
        if shards.manifest.content_hash != expected:
            raise Corrupt(
                f"{self.data.pinned} does not hold the rows that the run was trained on.",
                f"Their hash is {shards.manifest.content_hash}, that in {FILE} {expected}.",
            )
        return shards


def read_metadata(folder: Path) -> RunMetadata:
    """Read run.yaml of a run.

    Raises:
        UserError: There is none, or it does not describe a run.
    """
    path = folder / FILE
    if not path.exists():
        raise UserError(f"{folder} is not a run: it has no {FILE}", f"Looked for {path}.")
    return read_yaml(path, RunMetadata)
