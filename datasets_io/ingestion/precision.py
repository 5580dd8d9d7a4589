"""Find what float32, in which rows are stored, cannot hold: small changes on top of a large offset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from datasets_io.episode import Array, Episode
from datasets_io.faults import Fault

MEASURED_COLUMNS = ("obs", "actions", "rewards")
"""Columns with stored statistics."""

LEVELS = 256
"""A column whose whole range has fewer steps of float32 than this has lost what it recorded."""
ROUNDING = 1e-12
"""Relative size of changes that are rounding errors of float64 itself."""
REFUSED_FROM, STEPS_REFUSED_FROM = 16.0, 2.0**20
"""Sizes from which a loss is an offset. Smaller values that hardly change are noise of a simulator."""
_BLOCK = 2**21  # numbers at once


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges and steps of a column in the numbers of its source; every array has the shape of a row.

    Args:
        low: Least value.
        high: Largest value.
        steps: Sum of the changes from row to row of an episode.
        changes: Number of these changes.
        inexact: Number of values that float32 rounds.
    """

    low: Array
    high: Array
    steps: Array
    changes: Array
    inexact: Array

    @classmethod
    def of(cls, episodes: Sequence[Array]) -> Self | None:
        """Measure a column of episodes, [T, …] each; None if float32 holds its type exactly."""
        kind = np.result_type(*{values.dtype for values in episodes})
        if np.can_cast(kind, np.float32):
            return None
        rows = episodes[0] if len(episodes) == 1 else np.concatenate(episodes)
        last = np.zeros(len(rows), bool)
        last[np.cumsum([len(values) for values in episodes]) - 1] = True
        size = max(1, _BLOCK // max(1, int(np.prod(rows.shape[1:]))))
        blocks = [
            cls._of_block(rows[start : start + size + 1], last[start : start + size], size)
            for start in range(0, len(rows), size)
        ]
        merged = blocks[0]
        for block in blocks[1:]:
            merged = merged.merge(block)
        return merged

    @classmethod
    def _of_block(cls, rows: Array, last: Array, size: int) -> Self:
        """Measure at most `size` rows; one row more, if there is one, is only compared with the last."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = rows.astype(np.float64)
            finite = np.isfinite(values)
            change = np.abs(np.diff(values, axis=0))
            change[~(finite[1:] & finite[:-1])] = 0
            change[change <= ROUNDING * np.abs(values[1:])] = 0
            change[last[: len(change)]] = 0
            values, finite = values[:size], finite[:size]
            inexact = finite & (values.astype(np.float32) != values)
        return cls(
            values.min(0, where=finite, initial=np.inf),
            values.max(0, where=finite, initial=-np.inf),
            change.sum(0),
            (change > 0).sum(0),
            inexact.sum(0),
        )

    def merge(self, other: "Ranges") -> Self:
        """Combine with the ranges of other rows."""
        return type(self)(
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.steps + other.steps,
            self.changes + other.changes,
            self.inexact + other.inexact,
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values; floats keep every bit."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Invert `to_json`."""
        return cls(**{name: np.asarray(value) for name, value in plain.items()})

    @property
    def overflows(self) -> bool:
        """True if a value is too large for float32."""
        return bool(np.maximum(np.abs(self.low), np.abs(self.high)).max() > np.finfo(np.float32).max)

    def fault(self, column: str) -> Fault | None:
        """Return the fault of a column that loses what it recorded in float32, or None."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            largest = np.maximum(np.abs(self.low), np.abs(self.high)).reshape(-1)
            resolution = np.spacing(largest.astype(np.float32)).astype(np.float64)
            spread = (self.high - self.low).reshape(-1)
            step = (self.steps / self.changes).reshape(-1)  # NaN without a change
            is_offset = np.isfinite(largest + resolution) & (self.inexact.reshape(-1) > 0)
            is_offset &= spread > ROUNDING * largest
            flat = is_offset & (spread < LEVELS * resolution)
            frozen = is_offset & ~flat & (step < resolution)
        lost = np.flatnonzero(flat | frozen)
        if not len(lost):
            return None
        refused = (flat & (largest >= REFUSED_FROM)) | (frozen & (largest >= STEPS_REFUSED_FROM))
        worst = int(lost[np.argmax(np.where(refused, 2.0, 1.0)[lost] * (1 + np.log1p(largest[lost])))])
        moves = f"changes by {step[worst]:.3g} a row" if frozen[worst] else f"varies by {spread[worst]:.3g}"
        dimension = f" in dimension {worst}" + (f" and {len(lost) - 1:,} more" if len(lost) > 1 else "")
        return Fault(
            "offset",
            column,
            f"values{dimension if self.low.ndim else ''} reach {largest[worst]:.6g}, where float32 has steps"
            f" of {resolution[worst]:.3g}, but the column {moves}: this is lost. Subtract a constant before,"
            " or leave the column out",
            refused=bool(refused.any()),
        )

    def rounded(self, column: str) -> Fault:
        """Return the fault of a column of whole numbers that float32 rounds."""
        return Fault(
            "rounded",
            column,
            "whole numbers above 16,777,216 are rounded, as rows are stored in float32",
            count=int(self.inexact.sum()),
        )


def measure(episodes: Sequence[Episode], ranges: dict[str, Ranges]) -> tuple[set[str], list[Fault]]:
    """Add episodes to the ranges of the columns that float32 rounds.

    Args:
        episodes: The episodes, in the numbers of their source.
        ranges: Ranges by column, which are updated.

    Returns:
        Columns with values that are too large for float32; faults.
    """
    too_large, faults = set(), []
    for name in MEASURED_COLUMNS:
        values = [getattr(episode, name) for episode in episodes]
        if name == "actions" and values[0].ndim == 1:
            continue  # choices are stored as whole numbers
        found = Ranges.of(values)
        if found is None:
            continue
        if values[0].dtype.kind in "iu" and found.inexact.any():
            faults.append(found.rounded(name))
        if found.overflows:
            too_large.add(name)
        ranges[name] = found.merge(ranges[name]) if name in ranges else found
    return too_large, faults
