"""Exceptions for what a user can correct; their fields hold the facts, `str` makes the message.

UserError                 what is wrong, what was expected, a line to paste   exit code 2
├── UnknownName           no such data set, algorithm, hyperparameter …
├── Exists                would overwrite an existing file or data set
├── SimulatorError        an environment that is missing, raises, or does not fit the data
├── DataError             the data were refused                               exit code 3
│   ├── MissingColumn     a required column is missing
│   ├── Corrupt           a file is truncated or is not what its name says
│   ├── BadValues         NaN, shapes that disagree, actions outside their box
│   ├── UnknownData       a data set that its server does not know either (an UnknownName too)
│   ├── Unreachable       a bucket does not answer, or denies access
│   └── NoSpace           the disk is full
└── Offline               a download was needed and could not be made
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake that the user can correct.

    Args:
        what: The problem, with the offending value.
        expected: What was expected instead: the range, the known names, the locations searched.
        try_: A line to paste that corrects the problem, or only the options to add to the command.
        given: The offending name, as the user gave it.
        known: Valid names; the nearest of them to `given` becomes the field `nearest`.
        where: Location of the mistake: ``file:line`` or ``command line``.

    Attributes:
        nearest: The known name that is closest to `given`; empty if none is close.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        expected: str = "",
        try_: str = "",
        *,
        given: str = "",
        known: Iterable[str] = (),
        where: str = "",
    ) -> None:
        super().__init__(what, expected, try_)
        self.what, self.expected, self.try_ = what, expected, try_
        self.given, self.where = given, where
        known = [*known] if given else []
        # A known name is not misspelt: a data set of the catalogue, for example, may not be added yet.
        nearest = [] if given in known else get_close_matches(given, known, n=1, cutoff=0.5)
        self.nearest = next(iter(nearest), "")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields, so that subclasses with another signature can cross processes too."""
        return _restore, (type(self), self.args, self.__dict__)

    @property
    def hint(self) -> str:
        """The nearest name and what was expected, as text."""
        return f"nearest: {self.nearest}. {self.expected}".strip() if self.nearest else self.expected

    def corrected(self, text: str) -> str:
        """Return a text with the nearest name in place of `given`; unchanged if there is none."""
        if not self.nearest:
            return text
        return re.sub(rf"(?<![\w-]){re.escape(self.given)}(?![\w-])", self.nearest, text)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        lines += [f"       {line}" for line in self.hint.splitlines()]
        if self.try_:
            lines.append(f"  try: {self.try_}")
        return printable("\n".join(lines))


def printable(text: str) -> str:
    r"""Return text with control characters as escapes such as ``\x1b``; newlines and tabs stay.

    Text of a file could otherwise move the cursor, hide lines, or change the title of a terminal.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters of ASCII and Latin-1, direction marks, line separators, and halves of characters."""


def _restore(kind: type[UserError], args: tuple[Any, ...], fields: dict[str, Any]) -> UserError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class UnknownName(UserError):
    """No such data set, algorithm, strategy or hyperparameter."""


class Exists(UserError):
    """Something of that name exists and would be overwritten."""


class SimulatorError(UserError):
    """The environment is missing, raises an error, or does not fit the data."""


class DataError(UserError):
    """The data were refused."""

    exit_code = 3


class MissingColumn(DataError):
    """A required column is missing."""


class Corrupt(DataError):
    """A file is truncated, or is not what its name says."""


class BadValues(DataError):
    """NaN, shapes that disagree, actions outside their box."""


class UnknownData(DataError, UnknownName):
    """A data set that neither this machine nor its server has."""


class Unreachable(DataError):
    """A bucket does not answer, or denies access."""


class NoSpace(DataError):
    """The disk is full."""


class RayNotStarted(UserError):
    """A local Ray did not start in time; the same command may succeed later."""


class Offline(UserError):
    """A download was needed and could not be made."""
