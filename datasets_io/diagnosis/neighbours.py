"""Projection of states for nearest-neighbour search: standardised, and reduced to few dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_io.episode import Array

COMPONENTS = 8
"""Number of principal components kept: in many dimensions all neighbours are about equally far."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Standardisation of observations and projection on their first principal components.

    Args:
        centre: Mean of the observations [d].
        axes: Projection matrix [d, q].
        explained: Share of the standardised variance that each component explains [q].
    """

    centre: Array
    axes: Array
    explained: Array

    @classmethod
    def of(cls, obs: Array) -> "Projection | None":
        """Fit to observations [n, d]; return None if all are equal."""
        values = obs.astype(np.float64)
        centre, scale = values.mean(0), values.std(0)
        varies = scale > 1e-8 * np.maximum(1, np.abs(centre))
        if not varies.any() or len(values) < 2:
            return None
        scale = np.where(varies, scale, np.inf)
        standard = (values - centre) / scale
        variance, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        kept = np.argsort(-variance)[:COMPONENTS]
        kept = kept[variance[kept] > 1e-3 * variance.max()]
        return cls(centre, vectors[:, kept] / scale[:, None], variance[kept] / variance.sum())

    def __call__(self, obs: Array) -> Array:
        """Project observations [n, d] to points [n, q]."""
        points: Array = (obs.astype(np.float64) - self.centre) @ self.axes
        return points


def tree(points: Array) -> Any:
    """Build a k-d tree of points [n, q]."""
    from scipy.spatial import cKDTree

    return cKDTree(points)
