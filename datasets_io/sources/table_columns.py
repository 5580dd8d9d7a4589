"""Checks and suggestions for the columns that a user gives the roles of a table, and for their ranges."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from datasets_io.errors import BadValues, UserError
from datasets_io.quantities import number

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


def box_of(bounds: str, columns: int) -> Any:
    """Return the Box of actions with bounds such as ``-2:2`` or, one for each dimension, ``-2:2,0:1``.

    Args:
        bounds: The text.
        columns: Number of columns of the actions, all of which have the range if there is one; a column of
            lists needs one for each dimension.

    Raises:
        UserError: A range is not LOW:HIGH, or their number is wrong.
    """
    from gymnasium.spaces import Box

    ranges = []
    for text in bounds.split(","):
        low, _, high = text.partition(":")
        try:
            ranges.append((number(low), number(high)))
        except ValueError:
            ranges.append((0.0, 0.0))
        if ranges[-1][0] >= ranges[-1][1]:
            raise UserError(f"bounds: {text!r} is no range.", "Expected LOW:HIGH, such as bounds=-1:1.")
    if len(ranges) == 1:
        ranges *= columns
    if columns > 1 and len(ranges) != columns:
        raise UserError(f"bounds has {len(ranges)} ranges, actions {columns} columns.", "Expected as many.")
    low, high = np.asarray(ranges, np.float32).T
    return Box(low, high)
