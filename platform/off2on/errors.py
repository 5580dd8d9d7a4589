"""The exceptions of the data (see `datasets_io.errors`) and those of off2on.

UserError
├── UnknownName, Exists, DataError, SimulatorError, Offline, RayNotStarted      from datasets_io
├── HyperparameterError      no such hyperparameter, or a value out of range
├── UserCodeError            a loss, a network, a callback or another part that the user wrote raised an error
├── Diverged                 a loss or a weight became NaN or infinite
└── RecipeError              an algorithm whose class contradicts itself
    └── OnlineSettingsError  an algorithm lacks what the strategy or an online setting needs
LearnerDied                  a learner process stopped and was not replaced     exit code 4
"""

from collections.abc import Iterator
from contextlib import contextmanager

from datasets_io.errors import (
    DataError,
    Exists,
    MissingColumn,
    RayNotStarted,
    SimulatorError,
    UnknownName,
    UserError,
)

__all__ = [
    "DataError",
    "Diverged",
    "Exists",
    "HyperparameterError",
    "LearnerDied",
    "MissingColumn",
    "OnlineSettingsError",
    "RayNotStarted",
    "RecipeError",
    "SimulatorError",
    "UnknownName",
    "UserCodeError",
    "UserError",
    "suggesting",
]


class HyperparameterError(UserError):
    """No such hyperparameter, or a value outside its range."""


class UserCodeError(UserError):
    """Code of the user, such as a loss, raised an error: it is the cause, and `where` its file and line."""


class Diverged(UserError):
    """A loss or a weight became NaN or infinite, which ends the run.

    Args:
        what: The problem.
        objective: Name of the objective, which is that of its network.
        update: Number of the update, counted from 1.
    """

    def __init__(self, what: str, objective: str, update: int) -> None:
        super().__init__(what)
        self.objective, self.update = objective, update


class RecipeError(UserError):
    """An algorithm's class contradicts itself: an objective without a loss, for example."""


class OnlineSettingsError(RecipeError):
    """The algorithm lacks what the strategy or an online setting needs."""


class LearnerDied(RuntimeError):
    """A learner process stopped; the run can be resumed from its last checkpoint."""

    exit_code = 4


@contextmanager
def suggesting(try_: str, kind: type[UserError] = UserError) -> Iterator[None]:
    """Add a line to paste to errors of this kind that have none."""
    try:
        yield
    except kind as error:
        error.try_ = error.try_ or try_
        raise
