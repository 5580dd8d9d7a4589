"""Define faults of the data: found by sources and by the ingest, counted, stored in the manifest."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

TOLERATED = {"next_obs": 0.01}
"""Kind of fault → share of all rows up to which the data are not refused for it.

A few next observations that differ are rounding; many mean that rows are not consecutive.
"""


@dataclass(frozen=True)
class Fault:
    """One kind of fault in one column.

    Args:
        kind: A short key: `nan`, `outside`, `both_ends`, `no_timeouts`, `next_obs`, `no_final_obs`, `env`,
            `quarantined`, `offset`, `rounded`, `one_step`, `d3rlpy`, `left_out`.
        column: The column as the source calls it, or "".
        detail: In words, to be read after the count: "values outside [-1, 1]".
        count: How many values, rows or episodes (the detail says which); 0 where counting means nothing.
        first_row: Row of the source at which it is first seen.
        largest: The value that is furthest out.
        refused: Whether the data are refused for it.
    """

    kind: str
    column: str
    detail: str
    count: int = 0
    first_row: int | None = None
    largest: float | None = None
    refused: bool = False

    def __str__(self) -> str:
        text = f"{self.column:<13} " if self.column else ""
        text += f"{self.count:,} {self.detail}" if self.count else self.detail
        if self.largest is not None:
            text += f", largest {self.largest:.4g}"
        if self.first_row is not None:
            text += f", first at row {self.first_row:,}"
        return text


class Quarantined(NamedTuple):
    """A record of a source that could not be read and was skipped: file, first byte and reason."""

    file: str
    offset: int
    reason: str


def merge(faults: Iterable[Fault]) -> list[Fault]:
    """Add up faults of the same kind, column and detail, in order of first occurrence."""
    merged: dict[tuple[str, str, str], Fault] = {}
    for fault in faults:
        key = fault.kind, fault.column, fault.detail
        other = merged.get(key)
        if other is None:
            merged[key] = fault
            continue
        rows = [row for row in (fault.first_row, other.first_row) if row is not None]
        sizes = [size for size in (fault.largest, other.largest) if size is not None]
        merged[key] = Fault(
            *key,
            count=fault.count + other.count,
            first_row=min(rows, default=None),
            largest=max(sizes, key=abs, default=None),
            refused=fault.refused or other.refused,
        )
    return list(merged.values())


def judge(faults: Iterable[Fault], rows: int) -> list[Fault]:
    """Refuse the data for merged faults in a larger share of all rows than is tolerated."""
    return [
        replace(fault, refused=fault.refused or fault.count > TOLERATED.get(fault.kind, math.inf) * rows)
        for fault in faults
    ]
