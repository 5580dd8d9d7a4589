"""Convert columns of a user's table to arrays of numbers; errors name the column and the row."""

from bisect import bisect_left
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datasets_io.episode import NO_CHOICE, Array
from datasets_io.errors import BadValues
from datasets_io.sources.column_checks import to_flags

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:nan|inf|infinity)$"
_WHOLE = r"^-?\d{1,18}$"


def side_by_side(
    role: str, names: tuple[str, ...], block: Any, first_row: int, continuous: bool = False
) -> Array:
    """Return the columns of a role as numbers: [N] for one column, [N, D] for several or for lists.

    Args:
        role: Role of the columns.
        names: Their names.
        block: Columns by name.
        first_row: Row of the table with which the block begins, for messages.
        continuous: Return a column of whole numbers for `actions` as amounts, not as choices.

    Raises:
        BadValues: A cell is not a number, or the columns have different lengths.
    """
    convert = _moments if role == "step" else _numbers
    if role == "actions" and len(names) == 1 and not continuous:
        convert = _choices
    columns = [convert(name, block[name], first_row) for name in names]
    if role == "actions" and continuous:
        columns = [values.astype(np.float64) for values in columns]
    for name, values in zip(names, columns, strict=True):
        if values.ndim == 0:
            raise BadValues(f"column {name!r} is one value.", "Expected: a value for each row.")
    if len(columns) > 1:
        for name, values in zip(names, columns, strict=True):
            if values.ndim > 2:
                raise BadValues(
                    f"column {name!r} holds matrices.", "One of several columns must hold numbers or vectors."
                )
        if len({len(values) for values in columns}) > 1:
            found = ", ".join(f"{name} {len(values):,}" for name, values in zip(names, columns, strict=True))
            raise BadValues("columns of different lengths.", found)
        return np.concatenate([values[:, None] if values.ndim == 1 else values for values in columns], axis=1)
    (values,), (name,) = columns, names
    if role not in ("obs", "new_obs", "actions") and values.ndim > 1:
        if values.shape[1:] != (1,):
            raise BadValues(f"column {name!r} holds lists.", f"Expected: one number a row for {role}.")
        values = values[:, 0]
    return to_flags(values, f"column {name!r}", first_row) if role in ("terminated", "truncated") else values


MAX_EPISODES = 5_000_000
"""Episodes of a table, at most: their ids are held in memory."""


class EpisodeCodes:
    """Numbers the ids of episodes in the order of their first appearance, over all blocks of a table."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, name: str, column: Any) -> Array:
        """Return the number [N] of each row's episode; -1 where the cell is empty.

        Raises:
            BadValues: The cells are lists or structures.
        """
        if isinstance(column, pa.Array) and pa.types.is_nested(column.type):
            raise BadValues(f"column {name!r} has the type {column.type}.", "Expected: an id of the episode.")
        if not isinstance(column, pa.Array) and np.ndim(column) != 1:
            raise BadValues(f"column {name!r} has shape {list(np.shape(column))}.", "Expected: one id a row.")
        plain = column.to_pandas() if isinstance(column, pa.Array) else pd.Series(np.asarray(column))
        try:
            codes, found = pd.factorize(plain)
        except TypeError:
            raise BadValues(f"column {name!r} holds values that are no ids of episodes.") from None
        if len(self.known) + len(found) > MAX_EPISODES:
            raise BadValues(
                f"column {name!r} has more than {MAX_EPISODES:,} ids of episodes.", "Is it another one?"
            )
        numbers = np.array([self.known.setdefault(value, len(self.known)) for value in found] or [0])
        return np.where(codes < 0, -1, numbers[codes])


def _moments(name: str, column: Any, first_row: int) -> Array:
    """Convert numbers, dates, times, and texts of these, to numbers that have the same order."""
    if not isinstance(column, pa.Array):
        column = _to_arrow(name, np.asarray(column), first_row)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        column = _times(column)
    if pa.types.is_temporal(column.type):
        short = column.type.bit_width == 32
        column = (column.cast(pa.int32()) if short else column).cast(pa.int64())
    try:
        return _from_arrow(name, column, first_row)
    except BadValues as error:
        if not _is_text(column.type):
            raise
        place = max(_readable(column, kind) for kind in (*_TIMES, pa.float64()))
        what = error.what  # names the first that is no number
        if 0 < place < len(column):
            what = _holds(name, column, place, first_row)
        expected = "Numbers or times were expected, such as 2026-01-31T08:00:00Z, all or none with a zone."
        raise BadValues(what, expected) from None


_TIMES = pa.timestamp("ns"), pa.timestamp("ns", "UTC")


def _times(column: Any) -> Any:
    """Convert texts in ISO 8601, without or with a zone, to times of one unit; return others as they are."""
    for kind in _TIMES:
        with suppress(pa.ArrowException):
            return column.cast(kind)
    return column


def _readable(column: Any, kind: Any) -> int:
    """Return how many texts from the first on can be cast to a type."""

    def fails(last: int) -> bool:
        try:
            column.slice(0, last + 1).cast(kind)
        except pa.ArrowException:
            return True
        return False

    return bisect_left(range(len(column)), True, key=fails)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _numbers(name: str, column: Any, first_row: int) -> Array:
    if not isinstance(column, pa.Array):
        values = np.asarray(column)
        if values.dtype.kind in "fiub":
            return values
        column = _to_arrow(name, values, first_row)
    return _from_arrow(name, column, first_row)


def _choices(name: str, column: Any, first_row: int) -> Array:
    """Convert numbers; whole ones stay whole beside empty cells, which are `NO_CHOICE`."""
    values = _numbers(name, column, first_row)
    if values.ndim > 1 or values.dtype.kind != "f" or not (empty := np.isnan(values)).any():
        return values
    if isinstance(column, pa.Array):
        rest = column.filter(pa.array(~empty))
    else:  # a series of pandas keeps its type
        rest = (column if isinstance(column, pd.Series) else np.asarray(column))[~empty]
    if (known := _numbers(name, rest, first_row)).dtype.kind == "f":
        return values
    choices = np.full(len(values), NO_CHOICE)
    choices[~empty] = known
    return choices


def _to_arrow(name: str, values: Array, first_row: int) -> Any:
    """Convert objects, texts or lists of a column in memory."""
    if values.dtype.kind in "mM":
        return pa.array(values)
    cells = values.tolist()
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowException, OverflowError):  # cells of different kinds
        texts = [None if cell is None else str(cell) for cell in cells]
    return pa.array(texts, pa.string())


def _from_arrow(name: str, column: Any, first_row: int) -> Array:
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _from_arrow(name, column.storage, first_row).reshape(len(column), *kind.shape)
    if pa.types.is_dictionary(kind):
        return _from_arrow(name, column.dictionary_decode(), first_row)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(name, column, first_row)
    if _is_text(kind):
        return _texts(name, column, first_row)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BadValues(f"column {name!r} has the type {kind}.", "Expected: numbers.")
    return np.asarray(column.to_numpy(zero_copy_only=False))  # null becomes NaN


def _lists(name: str, column: Any, first_row: int) -> Array:
    """Convert a column of lists [N, W, …], which must have the same length."""
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise BadValues(f"column {name!r} is empty in row {row:,}.", "Expected: a list of numbers.")
    if not len(column):
        return np.zeros((0, 1))
    widths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if (widths != widths[0]).any():
        place = int(np.argmax(widths != widths[0]))
        raise BadValues(
            f"column {name!r} is ragged: {widths[place]} values in row {first_row + place:,}.",
            f"{widths[0]} were expected, as in row {first_row:,}.",
        )
    if not widths[0]:
        raise BadValues(f"column {name!r} holds empty lists.", "Expected: lists of numbers.")
    width = int(widths[0])
    try:
        inside = _from_arrow(name, column.flatten(), 0)
    except BadValues as error:  # its row counts the values of all lists
        raise BadValues(f"lists of {error.what}", error.expected) from None
    return inside.reshape(len(column), width, *inside.shape[1:])


def _texts(name: str, column: Any, first_row: int) -> Array:
    """Convert texts to whole numbers if all are, else to floats; true is 1, false 0, an empty cell NaN."""
    with suppress(pa.ArrowInvalid):  # plain numbers, which need no expression to be matched, are most tables
        floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        if not np.array_equal(floats, np.floor(floats)):
            return np.asarray(floats)
    column = pc.utf8_trim_whitespace(column)
    for word, number in (("true", "1"), ("false", "0")):
        column = pc.replace_substring_regex(column, f"^(?i:{word})$", number)
    if not column.null_count and pc.all(pc.match_substring_regex(column, _WHOLE)).as_py():
        return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    is_number = pc.fill_null(pc.match_substring_regex(column, _NUMBER), True)
    if not pc.all(is_number).as_py():
        place = int(np.argmin(is_number.to_numpy(zero_copy_only=False)))
        raise BadValues(
            _holds(name, column, place, first_row),
            "Numbers were expected, with a point before decimals. Turn text in observations into one column"
            " of 0 and 1 per value (pandas.get_dummies), a time into numbers such as the hour.",
        )
    column = pc.replace_substring_regex(column, r"^\+", "")
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _holds(name: str, column: Any, place: int, first_row: int) -> str:
    """Return the sentence that names a cell, shortened."""
    cell = repr(column[place].as_py())
    cell = cell if len(cell) <= 60 else f"{cell[:57]}..."
    return f"column {name!r} holds {cell} in row {first_row + place:,}."
