"""Define the route of a vehicle: its path in the recording."""

import math
from itertools import pairwise

import numpy as np

from datasets_io.episode import Array

SPACING = 1.0
"""Distance between the points of a route in m."""
_MIN_STEP = 0.5
_SEARCH_TIME, _SEARCH_MIN, _SEARCH_MAX = 3.0, 2.0, 15.0
"""A place is searched within 2 m and what the vehicle drives in 3 s, and at most 15 m, from the last one.
2 m are above `SPACING`, so that every search finds a place."""


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
        self._units = step / np.maximum(self._reach, 1e-9)[:, None]  # two points of a reversal may coincide
        if self.length == 0:  # a standing vehicle: its position and heading
            self._reach, self._units = np.zeros(1), np.array([[np.cos(heading), np.sin(heading)]])
        self._starts = self.points[: len(self._reach)].T

    def locate(self, xy: Array, velocity: Array, before: float) -> tuple[Array, Array]:
        """Project a vehicle onto the route, step by step.

        Only the neighbourhood of the place at the step before is searched: where a route passes near itself,
        the nearest point may belong to a part of it that the vehicle has not reached. Where parts coincide,
        because the recorded vehicle reverses, the one driven in the direction of the motion is taken.

        Args:
            xy: [B, 2] m, at B successive steps.
            velocity: [B, 2] m/s.
            before: Distance along the route at the step before the first one, in m.

        Returns:
            Distance along the route [B] in m, from 0 to its length, and distance from it [B] in m, positive
            to its left.
        """
        x = xy[:, :1] - self._starts[0]
        y = xy[:, 1:] - self._starts[1]
        unit_x, unit_y = self._units.T
        share = np.maximum(np.minimum(x * unit_x + y * unit_y, self._reach), 0.0)
        distance2 = (x - share * unit_x) ** 2 + (y - share * unit_y) ** 2
        against = velocity[:, :1] * unit_x + velocity[:, 1:] * unit_y < 0
        cost = distance2 + against  # 1 m² decides where parts coincide, and between neighbours in a bend
        places = np.arange(len(self._reach)) * SPACING + share
        speed = np.sqrt(velocity[:, 0] ** 2 + velocity[:, 1] ** 2)
        radius = np.minimum(_SEARCH_MIN + _SEARCH_TIME * speed, _SEARCH_MAX)
        rows = np.arange(len(xy))
        best = cost.argmin(1)
        along = np.empty(len(xy) + 1)  # of the step before, too
        along[0], along[1:] = before, places[rows, best]
        # The best of all places is the best of its neighbourhood, up to the first jump out of it.
        jumps = np.abs(along[1:] - along[:-1]) > radius
        for row in range(int(jumps.argmax()), len(xy)) if jumps.any() else ():
            near = np.abs(places[row] - along[row]) <= radius[row]
            best[row] = np.where(near, cost[row], np.inf).argmin()
            along[row + 1] = places[row, best[row]]
        side = y[rows, best] * unit_x[best] - x[rows, best] * unit_y[best]
        return along[1:], np.copysign(np.sqrt(distance2[rows, best]), side)

    def at(self, along: Array) -> tuple[Array, Array]:
        """Return points and unit directions [..., 2] at `along` metres, clipped to the ends of the route."""
        along = np.maximum(np.minimum(along, self.length), 0.0)
        piece = np.minimum((along / SPACING).astype(np.int64), len(self._reach) - 1)
        units = self._units[piece]
        return self.points[piece] + (along - piece * SPACING)[..., None] * units, units
