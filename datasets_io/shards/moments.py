"""Compute mean, deviation and range of a column in one pass; results of processes can be merged exactly."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from datasets_io.episode import Array

_TOGETHER = 1024
"""Numbers that one step of a minimum or maximum compares: NumPy takes as long for a row of a few numbers."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Running statistics of rows of one shape; every array is float64 and has the shape of a row.

    Args:
        count: Rows seen.
        mean: Their mean.
        m2: Sum of squared deviations from the mean.
        low: Least value.
        high: Largest value.
    """

    count: int
    mean: Array
    m2: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, rows: Array) -> Self:
        """Compute statistics of rows [N, …], N ≥ 1."""
        low, high = (_extreme(rows, ufunc).astype(np.float64) for ufunc in (np.minimum, np.maximum))
        values = rows.astype(np.float64)
        mean = _sum(values) / len(rows)
        values -= mean
        np.square(values, out=values)
        return cls(len(rows), mean, _sum(values), low, high)

    def merge(self, other: "Moments") -> "Moments":
        """Combine the statistics of two sets of rows (Chan, Golub & LeVeque 1979)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * (other.count / count),
            self.m2 + other.m2 + np.square(delta) * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def summary(self) -> dict[str, Any]:
        """Return mean, std (of the population), min and max, as lists or numbers."""
        std = np.sqrt(self.m2 / self.count)
        named = {"mean": self.mean, "std": std, "min": self.low, "max": self.high}
        return {name: np.asarray(value).tolist() for name, value in named.items()}

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values; floats keep every bit."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        """Invert `to_json`."""
        arrays = {key: np.asarray(plain[key], np.float64) for key in ("mean", "m2", "low", "high")}
        return cls(count=int(plain["count"]), **arrays)


def _sum(values: Array) -> Array:
    """Return the sum of rows [N, …]; the same numbers as `values.sum(0)`, several times as fast."""
    if values.size == len(values):  # one number a row, which NumPy adds in pairs
        return np.asarray(values.sum(0))
    total: Array = np.einsum("ij->j", values.reshape(len(values), -1))
    return total.reshape(values.shape[1:])


def _extreme(rows: Array, ufunc: Any) -> Array:
    """Return the least or the largest of rows [N, …]: `ufunc` is `np.minimum` or `np.maximum`."""
    width = rows[0].size
    together = _TOGETHER // width
    whole = len(rows) // max(1, together) * together
    if whole <= together:
        return np.asarray(ufunc.reduce(rows))
    blocks = rows[:whole].reshape(-1, together * width)
    several = ufunc.reduce(blocks).reshape(together, *rows.shape[1:])
    found = ufunc.reduce(np.concatenate([several, rows[whole:]]))
    # Which of 0 and -0 is the least depends on the order of the comparisons.
    return np.asarray(found if np.all(found) else ufunc.reduce(rows))
