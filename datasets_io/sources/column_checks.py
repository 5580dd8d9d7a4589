"""Check the columns of a file of arrays before they are read: shapes, types, sizes; convert flags."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from datasets_io.column_names import SPELLINGS
from datasets_io.episode import Array, ColumnKind, check_column
from datasets_io.errors import BadValues, Corrupt

BLOCK_ROWS, BLOCK_BYTES = 32_768, 2**25
"""Rows and bytes that are read at once, at most."""
ROW_BYTES = 2**24
"""Bytes of a row, at most."""
HELD_BYTES = 2**28
"""Bytes of one episode, or of the flags of all rows, at most; as many as the file has, if it has more."""
COMPRESSION = 256
"""Compression of recorded data, at most; of files that claim more than `EXPANDED_BYTES`."""
EXPANDED_BYTES = 2**30

_ROLES = {spelling: role for role, spellings in SPELLINGS.items() for spelling in spellings}
_KINDS = {
    "obs": ColumnKind.OBSERVATIONS,
    "new_obs": ColumnKind.OBSERVATIONS,
    "actions": ColumnKind.ACTIONS,
    "rewards": ColumnKind.NUMBERS,
    "terminated": ColumnKind.FLAGS,
    "truncated": ColumnKind.FLAGS,
    "episode_terminals": ColumnKind.FLAGS,
    "valids": ColumnKind.FLAGS,
    "masks": ColumnKind.FLAGS,
    "infos/action_log_probs": ColumnKind.NUMBERS,
}


class Declared(Protocol):
    """A column of a file as its header declares it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, …]."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""


def check_columns(columns: Mapping[str, Declared], where: Any, file_bytes: int) -> int:
    """Check what a file declares, before any row is read.

    Args:
        columns: The columns that will be read, by their name in the file.
        where: The file, for messages.
        file_bytes: Its size.

    Returns:
        The number of rows, the same for all columns.

    Raises:
        BadValues: A shape or a type is not that of such a column; lengths differ; there is no row.
        Corrupt: The sizes cannot be those of recorded data in a file of this size.
    """
    obs = next((column for name, column in columns.items() if _ROLES.get(name) == "obs"), None)
    for name, column in columns.items():
        kind = _KINDS.get(_ROLES.get(name, name), ColumnKind.EXTRAS)
        if kind is ColumnKind.NUMBERS and obs is not None and _is_padded(column.shape, obs.shape):
            raise BadValues(
                f"{where}: {name} {list(column.shape)}, observations {list(obs.shape)}: padded sequences.",
                "Expected: one row a step, without padding. HDF5 files may have a column of lengths.",
            )
        check_column(kind, f"{where}: {name}", column.shape, column.dtype)
    rows = {column.shape[0] for column in columns.values()}
    if len(rows) > 1 or 0 in rows:
        listed = ", ".join(f"{name} {list(column.shape)}" for name, column in columns.items())
        raise BadValues(f"{where}: columns of different lengths, or none.", listed)
    for name, column in columns.items():
        if obs is not None and _ROLES.get(name) == "new_obs" and column.shape != obs.shape:
            raise BadValues(
                f"{where}: {name} has shape {list(column.shape)}, observations {list(obs.shape)}."
            )
    check_sizes(columns, where, file_bytes)
    return rows.pop()


def _is_padded(shape: tuple[int, ...], obs: tuple[int, ...]) -> bool:
    return len(shape) == 2 and len(obs) > 2 and shape[1] > 1 and shape == obs[:2]


def check_sizes(columns: Mapping[str, Declared], where: Any, file_bytes: int) -> None:
    """Check declared sizes against the size of the file.

    Raises:
        Corrupt: A row is too wide, there are more rows than bytes, or all would not fit compressed.
    """
    for name, column in columns.items():
        if row_bytes(column) > ROW_BYTES:
            raise Corrupt(
                f"{where}: a row of {name} has {row_bytes(column):,} bytes, shape {list(column.shape[1:])}.",
                f"At most {ROW_BYTES:,} bytes are read.",
            )
        if column.shape[0] > max(HELD_BYTES // 2, file_bytes):
            raise Corrupt(
                f"{where}: {name} declares {column.shape[0]:,} rows, in a file of {file_bytes:,} bytes.",
                "The header is wrong, or the rows were never written.",
            )
    total = sum(column.shape[0] * row_bytes(column) for column in columns.values())
    if total > max(EXPANDED_BYTES, COMPRESSION * file_bytes):
        raise Corrupt(
            f"{where} declares {total:,} bytes of data in a file of {file_bytes:,}.",
            f"Recorded data compress less than {COMPRESSION} : 1: rows were never written, or are all equal.",
        )


def check_episode_size(rows: int, bytes_a_row: int, where: Any, first_row: int, file_bytes: int) -> None:
    """Check that an episode fits into memory.

    Raises:
        BadValues: It does not.
    """
    if rows * bytes_a_row > max(HELD_BYTES, file_bytes):
        raise BadValues(
            f"{where}: the episode at row {first_row:,} has {rows:,} rows of {bytes_a_row:,} bytes.",
            "An episode is held in memory as a whole; are ends of episodes missing?",
        )


def row_bytes(column: Declared) -> int:
    """Return the bytes of a row."""
    size: int = column.dtype.itemsize
    for width in column.shape[1:]:
        size *= int(width)
    return size


def block_rows(bytes_a_row: int) -> int:
    """Return the number of rows to read at once."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, bytes_a_row)))


def to_flags(values: Array, name: str, first_row: int = 0) -> Array:
    """Convert zeros and ones [N] or [N, 1] of any type of numbers to a mask [N] bool.

    Args:
        values: The values.
        name: Name of the column for messages.
        first_row: Row of the first value.

    Raises:
        BadValues: Another shape or type, or a value other than 0 and 1.
    """
    check_column(ColumnKind.FLAGS, name, values.shape, values.dtype)
    values = values.reshape(-1)
    if values.dtype.kind != "b" and (wrong := (values != 0) & (values != 1)).any():
        row = int(np.argmax(wrong))
        raise BadValues(
            f"{name} holds {values[row]:g} in row {first_row + row:,}.",
            "Flags are 0 or 1. Discounts and step types (0 first, 1 middle, 2 last) are no flags: 1 marks the"
            " row that ends an episode.",
        )
    return values.astype(bool)
