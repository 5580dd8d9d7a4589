"""Checks and suggestions for the columns that a user gives the roles of a table."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from datasets_io.errors import BadValues

_MARKS = re.compile(
    r"(?i)(^|[_\W])"
    r"(id|ids|no|nr|index|row|batch|trip|run|episode|eps|step|t|time|timestamp|date|day)"
    r"([_\W]|$)"
)
"""Words in names of columns that identify or order rows, and are no measurements."""


def suggest_column(usual: str, free: Sequence[str]) -> str:
    """Return the column to propose for a missing role: the nearest name, else the first possible measurement.

    Args:
        usual: Usual name of the role's column.
        free: Columns without a role.

    Returns:
        The column, or NAME if all seem to identify or order rows.
    """
    candidates = [name for name in free if not _MARKS.search(name)]
    return [*get_close_matches(usual, free, n=1), *candidates, "NAME"][0]


def check_no_leak(roles: Mapping[str, tuple[str, ...]]) -> None:
    """Check that no column is an observation and an action.

    Raises:
        BadValues: A column is both.
    """
    both = [name for name in roles["obs"] if name in roles["actions"]]
    if not both:
        return
    kept = [name for name in roles["obs"] if name not in both]
    raise BadValues(
        f"column {both[0]!r} is an observation and an action.",
        "A policy would see the action that it has to choose. An earlier action is a column of its own.",
        f"--columns obs={','.join(kept)}" if kept else "",
    )
