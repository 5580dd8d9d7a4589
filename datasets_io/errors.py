"""What a user can do wrong, as exceptions that say how to put it right.

UserError                 what is wrong, what was expected, a line to paste   exit code 2
├── UnknownName           no such data set, algorithm, hyperparameter …
├── Exists                would overwrite what is there
├── DataError             the data were refused                               exit code 3
│   ├── MissingColumn     a column that was asked for is not there
│   ├── Corrupt           a file is truncated or is not what its name says
│   ├── BadValues         NaN, shapes that disagree, actions outside their box
│   ├── UnknownData       a data set that its server does not know either (an UnknownName too)
│   ├── Unreachable       a bucket does not answer, or does not let us in
│   └── NoSpace           the disk is full
└── Offline               a download was needed and could not be made
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake its user can mend.

    Args:
        what: What is wrong, with the offending value.
        expected: What was expected: the nearest name, the range, the places looked in.
        attempt: A line to paste that does the right thing, if there is one.
    """

    exit_code = 2

    def __init__(self, what: str, expected: str = "", attempt: str = "") -> None:
        super().__init__(what, expected, attempt)
        self.what, self.expected, self.attempt = what, expected, attempt

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"       {line}" for line in self.expected.splitlines()]
        if self.attempt:
            lines.append(f"  try: {self.attempt}")
        return "\n".join(lines)


class UnknownName(UserError):
    """No such data set, algorithm, strategy or hyperparameter."""


class Exists(UserError):
    """Something of that name is there already and would be overwritten."""


class DataError(UserError):
    """The data were refused."""

    exit_code = 3


class MissingColumn(DataError):
    """A column that was asked for is not there."""


class Corrupt(DataError):
    """A file is truncated, or is not what its name says."""


class BadValues(DataError):
    """NaN, shapes that disagree, actions outside their box."""


class UnknownData(DataError, UnknownName):
    """A data set that neither this machine nor its server has."""


class Unreachable(DataError):
    """A bucket does not answer, or does not let us in."""


class NoSpace(DataError):
    """The disk is full."""


class Offline(UserError):
    """A download was needed and could not be made."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The closest known name in the form ``nearest: x. `` or nothing if none is close."""
    match = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"nearest: {match[0]}. " if match else ""
