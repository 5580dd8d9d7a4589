"""The tree of exceptions: the data's (see `datasets_io.errors`) and our own.

UserError
├── UnknownName, Exists, DataError, Offline      from datasets_io
├── HyperparameterError      no such hyperparameter, or a value out of range
├── RecipeError              an algorithm whose class contradicts itself
│   └── CrossingError        an algorithm cannot cross in the way that was asked for
└── SimulatorError           an environment that is missing, or does not fit the data
LearnerDied                  a learner process is gone and was not replaced    exit code 4
"""

from collections.abc import Iterator
from contextlib import contextmanager

from datasets_io.errors import DataError, Exists, MissingColumn, UnknownName, UserError, nearest

__all__ = [
    "DataError",
    "Exists",
    "HyperparameterError",
    "LearnerDied",
    "MissingColumn",
    "OnlineSettingsError",
    "RecipeError",
    "SimulatorError",
    "UnknownName",
    "UserError",
    "nearest",
    "suggesting",
]


class HyperparameterError(UserError):
    """No such hyperparameter, or a value outside its range."""


class RecipeError(UserError):
    """An algorithm's class contradicts itself: an objective without a loss, for example."""


class OnlineSettingsError(RecipeError):
    """The algorithm cannot cross so: it lacks what the strategy or a factor of the crossing needs."""


class SimulatorError(UserError):
    """The environment is missing, or its spaces are not those of the data."""


class LearnerDied(RuntimeError):
    """A learner process is gone; the run can go on from its last checkpoint."""

    exit_code = 4


@contextmanager
def suggesting(attempt: str, kind: type[UserError] = UserError) -> Iterator[None]:
    """A line to paste, for errors of this kind that come from inside and have none."""
    try:
        yield
    except kind as error:
        error.attempt = error.attempt or attempt
        raise
