"""Define the route of a vehicle: its path in the recording."""

import math
from itertools import pairwise

import numpy as np

from datasets_io.episode import Array

SPACING = 1.0
"""Distance between the points of a route in m."""
_MIN_STEP = 0.5


class Route:
    """Path as points a metre apart.

    A route is privileged information: it is the recorded future, whereas Waymax gives all routes that the
    vehicle could have taken. It contains the target and, through its length, the recorded progress.

    Args:
        xy: [T, 2] m, recorded positions in order. Positions within 0.5 m of the last one kept are dropped as
            noise.
        heading: Direction in rad if the vehicle never moves.
    """

    def __init__(self, xy: Array, heading: float) -> None:
        points = xy.tolist()
        corner = [points[0]]
        for point in points[1:]:
            if math.dist(point, corner[-1]) >= _MIN_STEP:
                corner.append(point)
        if len(corner) > 1:
            corner[-1] = points[-1]
        travelled = np.cumsum([0.0, *(math.dist(a, b) for a, b in pairwise(corner))])
        self.length = float(travelled[-1])
        grid = np.append(np.arange(0.0, self.length, SPACING), self.length)
        columns = np.array(corner).T
        self.points = np.stack([np.interp(grid, travelled, column) for column in columns], -1)
        step = np.diff(self.points, axis=0)
        self._reach = np.hypot(step[:, 0], step[:, 1])
        self._units = step / self._reach[:, None]
        if self.length == 0:  # a standing vehicle: its position and heading
            self._reach, self._units = np.zeros(1), np.array([[np.cos(heading), np.sin(heading)]])
        self._starts = self.points[: len(self._reach)].T

    def locate(self, xy: Array) -> tuple[Array, Array]:
        """Project points onto the route.

        Args:
            xy: [B, 2] m.

        Returns:
            Distance along the route [B] in m, from 0 to its length, and distance from it [B] in m, positive
            to its left.
        """
        x = xy[:, :1] - self._starts[0]
        y = xy[:, 1:] - self._starts[1]
        unit_x, unit_y = self._units.T
        along = np.maximum(np.minimum(x * unit_x + y * unit_y, self._reach), 0.0)
        distance2 = (x - along * unit_x) ** 2 + (y - along * unit_y) ** 2
        best = distance2.argmin(1)
        rows = np.arange(len(xy))
        side = y[rows, best] * unit_x[best] - x[rows, best] * unit_y[best]
        return best * SPACING + along[rows, best], np.copysign(np.sqrt(distance2[rows, best]), side)

    def at(self, along: Array) -> tuple[Array, Array]:
        """Return points and unit directions [..., 2] at `along` metres, clipped to the ends of the route."""
        along = np.maximum(np.minimum(along, self.length), 0.0)
        piece = np.minimum((along / SPACING).astype(np.int64), len(self._reach) - 1)
        units = self._units[piece]
        return self.points[piece] + (along - piece * SPACING)[..., None] * units, units
