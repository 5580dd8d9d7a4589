"""Compute mean, deviation and range of a column in one pass; results of processes can be merged exactly."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from datasets_io.episode import Array


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
        low, high = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
        values = rows.astype(np.float64)
        mean = values.mean(0)
        values -= mean
        np.square(values, out=values)
        return cls(len(rows), mean, values.sum(0), low, high)

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
