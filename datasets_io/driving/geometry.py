"""Planar geometry of boxes, frames and polylines, vectorised."""

import numpy as np
from scipy.spatial import cKDTree

from datasets_io.episode import Array

EDGE_RANGE = 20.0
"""Largest distance to the edge of the road in m; larger ones are clipped."""
_EDGE_SPACING = 0.5


def wrap_angle(angle: Array) -> Array:
    """Wrap an angle (rad) to [-π, π)."""
    wrapped: Array = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def to_frame(vectors: Array, cos: Array, sin: Array) -> Array:
    """Rotate vectors [B or 1, P, 2] into B frames, given cosine and sine [B] of their headings."""
    x, y, cos, sin = vectors[..., 0], vectors[..., 1], cos[:, None], sin[:, None]
    turned = np.empty((len(cos), *vectors.shape[1:]))
    turned[..., 0] = x * cos + y * sin
    turned[..., 1] = y * cos - x * sin
    return turned


def corners(xy: Array, cos: Array, sin: Array, length: float, width: float) -> Array:
    """Compute the corners [B, 4, 2] of boxes of one size at [B, 2], given cosine and sine of the heading."""
    offsets = 0.5 * np.array([[length, width], [-length, width], [-length, -width], [length, -width]])
    return to_frame(offsets[None], cos, -sin) + xy[:, None]


def overlap(first: Array, second: Array) -> Array:
    """Return True if boxes share an area, pair by pair, by the separating axis theorem.

    Two rectangles are apart if and only if their projections on one of the four side directions are apart.

    Args:
        first: [P, 6] boxes: x, y, cosine and sine of the heading, length, width.
        second: [P, 6] boxes.

    Returns:
        [P] bool. Boxes that only touch do not overlap.
    """
    ax, ay, a_cos, a_sin, a_length, a_width = first.T
    bx, by, b_cos, b_sin, b_length, b_width = second.T
    dx, dy = bx - ax, by - ay
    cos, sin = np.abs(a_cos * b_cos + a_sin * b_sin), np.abs(a_cos * b_sin - a_sin * b_cos)
    meet = 2 * np.abs(dx * a_cos + dy * a_sin) < a_length + b_length * cos + b_width * sin
    meet &= 2 * np.abs(dy * a_cos - dx * a_sin) < a_width + b_length * sin + b_width * cos
    meet &= 2 * np.abs(dx * b_cos + dy * b_sin) < b_length + a_length * cos + a_width * sin
    meet &= 2 * np.abs(dy * b_cos - dx * b_sin) < b_width + a_length * sin + a_width * cos
    return np.asarray(meet)


def subdivide(xy: Array, feature: Array, spacing: float) -> tuple[Array, Array]:
    """Insert points into polylines where neighbours are further apart than a spacing.

    Args:
        xy: [M, 2] points; those of a feature are consecutive and in order.
        feature: [M] ids of the features of the points.
        spacing: Largest distance between neighbours in m.

    Returns:
        The points [K, 2] float64, and [K] the index of the given point at which each piece begins.
    """
    if len(xy) == 0:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    xy = xy.astype(np.float64)
    pieces = np.ones(len(xy), np.int64)
    joined = feature[1:] == feature[:-1]
    pieces[:-1][joined] = np.ceil(_norm(np.diff(xy, axis=0))[joined] / spacing).clip(1)
    if pieces.max() == 1:
        return xy, np.arange(len(xy))
    source = np.repeat(np.arange(len(xy)), pieces)
    share = (np.arange(len(source)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) / pieces[source]
    step = xy[np.minimum(source + 1, len(xy) - 1)] - xy[source]
    return xy[source] + share[:, None] * step, source


def thin(xy: Array, feature: Array, spacing: float) -> Array:
    """Select points that are about a spacing apart within a feature; return the indices. The first is kept.

    Args:
        xy: [M, 2] points; those of a feature are consecutive and in order.
        feature: [M] ids of the features of the points.
        spacing: Distance in m.
    """
    if len(xy) == 0:
        return np.zeros(0, np.int64)
    first = np.concatenate([[True], feature[1:] != feature[:-1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.where(first[1:], 0.0, _norm(np.diff(xy, axis=0))))])
    begun = np.maximum.accumulate(np.where(first, np.arange(len(xy)), 0))
    # Steps are slightly shorter than the nominal spacing of a map: without the margin the next point is kept.
    bucket = np.floor((travelled - travelled[begun]) / spacing + 0.1)
    return np.flatnonzero(first | np.concatenate([[True], bucket[1:] != bucket[:-1]]))


class RoadEdges:
    """Edges of the road, for the distance of points from the road.

    As in Waymax, edges are drawn with the road on their left, so the side of the nearest edge decides. Where
    two segments meet next to a point, it is on the road if it is to the left of either. Unlike there, heights
    are ignored: the edges of a bridge and of a road below it are not distinguished.

    Args:
        xy: [M, 2] points of road edges; those of a feature are consecutive and in order.
        feature: [M] ids of the features of the points.
    """

    def __init__(self, xy: Array, feature: Array) -> None:
        self._xy, source = subdivide(xy, feature, _EDGE_SPACING)
        feature = feature[source]
        step = np.diff(self._xy, axis=0)
        length = _norm(step)
        joined = (feature[1:] == feature[:-1]) & (length > 0)
        unit = np.divide(step, length[:, None], out=np.zeros_like(step), where=joined[:, None])
        # For each point, the segment that begins and the one that ends there: x and y of its unit vector, and
        # its start and end in metres from the point. At the end of a feature both are the same.
        after, before = np.zeros((2, len(self._xy), 4))
        after[:-1, :2], after[:-1, 3] = unit, np.where(joined, length, 0)
        before[1:, :2], before[1:, 2] = unit, -after[:-1, 3]
        ends, begins = np.ones((2, len(self._xy)), bool)
        ends[:-1], begins[1:] = ~joined, ~joined
        after[ends], before[begins] = before[ends], after[begins]
        self._segments = np.stack([after, before])
        self._tree = cKDTree(self._xy, balanced_tree=False, compact_nodes=False)

    def signed_distance(self, points: Array) -> Array:
        """Return the distance in m of points [..., 2] from the nearest edge, clipped at `EDGE_RANGE`.

        Returns:
            [...] float64, negative on the road. Points further than `EDGE_RANGE` keep their side; without
            edges all points are on the road.
        """
        if len(self._xy) == 0:
            return np.full(points.shape[:-1], -EDGE_RANGE)
        # Where edges cross, a segment at another point may be nearer, by a quarter of a metre at most.
        index = self._tree.query(points)[1]
        offset = points - self._xy[index]
        segments = self._segments[:, index]
        x, y, unit_x, unit_y = offset[..., 0], offset[..., 1], segments[..., 0], segments[..., 1]
        side = (x * unit_y - y * unit_x).min(0)
        along = np.maximum(np.minimum(x * unit_x + y * unit_y, segments[..., 3]), segments[..., 2])
        distance = np.sqrt(((x - along * unit_x) ** 2 + (y - along * unit_y) ** 2).min(0))
        distance = np.minimum(distance, EDGE_RANGE)
        signed: Array = np.where(side > 0, distance, -distance)
        return signed


def _norm(vectors: Array) -> Array:
    # Three times as fast as np.hypot, which guards against overflow.
    norm: Array = np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)
    return norm
