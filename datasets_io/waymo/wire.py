"""Decode thousands of small protobuf messages to columns, without a Python step per message.

Messages of one length mostly have one layout: the same fields at the same offsets. The layout is taken from
the first message, every tag of the others is compared with it, and the values are extracted as columns.
Fields and their order differ between files, so no layout is assumed; messages that match none of the first
layouts are parsed by protobuf one by one. The result equals that of protobuf in every case.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from datasets_io.episode import Array
from datasets_io.waymo.frames import HEADER, MessageRun
from datasets_io.waymo.schema import fields, message

_DTYPES = {"double": "<f8", "float": "<f4", "int64": "<i8", "int32": "<i4", "bool": "?"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {"double": _FIXED64, "float": _FIXED32, "int64": _VARINT, "int32": _VARINT, "bool": _VARINT}
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
# Ten bytes encode a negative number, which does not occur, and are the only length at which bits can be lost.
_LONGEST_VARINT = 9
# Layouts tried per length: real files have one or two, and each costs a pass over the remaining messages.
_TRIES = 4


class _Layout(NamedTuple):
    """Positions of the fields in a message.

    Args:
        values: Column → (offset, number of bytes) of its value.
        same: Offsets of tags and lengths, which are equal in all messages of this layout.
        varint: Offsets of the bytes of varints; their highest bits are equal in all messages.
    """

    values: dict[str, tuple[int, int]]
    same: list[int]
    varint: list[int]


def columns(name: str, runs: Sequence[MessageRun]) -> dict[str, Array]:
    """Decode messages.

    Args:
        name: Name of the message class, which has scalars and messages of scalars.
        runs: Runs of n messages in total.

    Returns:
        One array [n] per scalar, with key `name` or `outer.inner`; 0, the default, where a message lacks it.

    Raises:
        google.protobuf.message.DecodeError: The data are not such a message.
    """
    sizes = np.repeat(*np.array([run[1:] for run in runs], np.int64).reshape(-1, 2).T)
    result = {column: np.zeros(len(sizes), dtype) for column, dtype in _dtypes(name).items()}
    for size in {run.size for run in runs if run.size}:
        data = b"".join(run.data for run in runs if run.size == size)
        table = np.frombuffer(data, np.uint8).reshape(-1, HEADER + size)[:, HEADER:]
        _decode(name, table, np.flatnonzero(sizes == size), result)
    return result


def _decode(name: str, table: Array, rows: Array, result: dict[str, Array]) -> None:
    """Fill in `result[rows]` from messages of one size, `table` [n, size]."""
    for _ in range(_TRIES):
        if not len(rows):
            return
        first = table[0].tobytes()
        layout = _layout(name, first)
        if layout is None:
            _take(_parsed(message(name).FromString(first)), rows[:1], result)
            rows, table = rows[1:], table[1:]
            continue
        fits = _fits(table, layout)
        if fits.all():
            _take(_values(table, layout, result), rows, result)
            return
        _take(_values(table[fits], layout, result), rows[fits], result)
        rows, table = rows[~fits], table[~fits]
    for row, data in zip(rows, table, strict=True):
        _take(_parsed(message(name).FromString(data.tobytes())), row, result)


def _take(values: dict[str, Any], rows: Any, result: dict[str, Array]) -> None:
    for column, value in values.items():
        if np.size(rows) == len(result[column]):
            result[column][:] = value
        else:
            result[column][rows] = value


def _fits(table: Array, layout: _Layout) -> Array:
    """Return a mask [n] of the messages with this layout, the layout of the first message."""
    fits = np.ones(len(table), bool)
    for place in layout.same:
        fits &= table[:, place] == table[0, place]
    for place in layout.varint:
        fits &= table[:, place] >> 7 == table[0, place] >> 7
    return fits


def _values(table: Array, layout: _Layout, result: dict[str, Array]) -> dict[str, Array]:
    """Extract the values [n] of each column of the layout."""
    values = {}
    for column, (start, size) in layout.values.items():
        dtype = result[column].dtype
        if dtype.kind == "f":
            values[column] = table[:, start : start + size].view(dtype)[:, 0]
        else:
            values[column] = _as_type(_varints(table[:, start : start + size]), dtype)
    return values


def _varints(table: Array) -> Array:
    """Decode rows [n, bytes] to uint64 [n]: seven bits per byte, the lowest first."""
    numbers = np.zeros(len(table), np.uint64)
    for place in range(table.shape[1]):
        numbers |= (table[:, place] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
    return numbers


def _as_type(numbers: Array, dtype: Any) -> Array:
    """Convert numbers to a dtype: a bool is True if not 0; an int32 is the lower half, as in protobuf."""
    return numbers != 0 if dtype.kind == "b" else numbers.astype(np.int64).astype(dtype)


@cache
def _dtypes(name: str) -> dict[str, str]:
    dtypes = {}
    for field in fields(name):
        if field.kind in _DTYPES:
            dtypes[field.name] = _DTYPES[field.kind]
        else:
            dtypes |= {f"{field.name}.{inner}": dtype for inner, dtype in _dtypes(field.kind).items()}
    return dtypes


def _layout(name: str, blob: bytes) -> _Layout | None:
    """Return the layout of a message; None if only protobuf can decode it."""
    layout = _Layout({}, [], [])
    return layout if _walk(name, "", blob, 0, len(blob), layout) else None


def _walk(name: str, prefix: str, blob: bytes, start: int, stop: int, layout: _Layout) -> bool:
    """Add the fields of the message in blob[start:stop] to the layout; return True on success.

    Tags and lengths of more than one byte, groups, and fields of another wire type than published fail.
    """
    known = {field.number: field for field in fields(name)}
    while start < stop:
        tag = blob[start]
        field, wire_type = known.get(tag >> 3), tag & 7
        if tag < 8 or tag > 127 or (field and _WIRE_TYPES.get(field.kind, _LENGTH) != wire_type):
            return False
        layout.same.append(start)
        start += 1
        size = _size(blob, start, wire_type)
        if wire_type == _LENGTH:
            layout.same.append(start)
            start += 1
        if size is None or start + size > stop:
            return False
        if wire_type == _VARINT:
            layout.varint.extend(range(start, start + size))
        if field and wire_type == _LENGTH:
            if not _walk(field.kind, f"{prefix}{field.name}.", blob, start, start + size, layout):
                return False
        elif field:
            layout.values[prefix + field.name] = start, size
        start += size
    return True


def _size(blob: bytes, start: int, wire_type: int) -> int | None:
    """Return the number of bytes of the value at `start` (after its length, if it has one)."""
    if wire_type == _VARINT:
        ends = (
            size for size in range(1, _LONGEST_VARINT + 1) if blob[start + size - 1 : start + size] < b"\x80"
        )
        return next(ends, None)
    if wire_type == _LENGTH:
        return blob[start] if start < len(blob) and blob[start] < 128 else None
    return _FIXED_BYTES.get(wire_type)


def _parsed(parsed: Any) -> dict[str, Any]:
    """Return the scalars of a message parsed by protobuf."""
    values = {}
    for field in fields(parsed.DESCRIPTOR.name):
        value = getattr(parsed, field.name)
        if field.kind in _DTYPES:
            values[field.name] = value
        else:
            values |= {f"{field.name}.{inner}": number for inner, number in _parsed(value).items()}
    return values
