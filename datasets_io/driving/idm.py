"""Simulate reacting traffic: the intelligent driver model, along the recorded paths.

Treiber, Hennecke & Helbing 2000, arXiv:cond-mat/0002177:

    a  = A (1 - (v / v₀)⁴ - (s* / gap)²)
    s* = s₀ + max(0, v T + v Δv / (2 √(A B)))

A, B and s₀ are those of Waymax. T and v₀ differ from its T = 2 s and v₀ = 30 m/s: recorded drivers keep about
1 s, and with T = 2 s the model brakes for them at once. v₀ is 1.2 times the speed recorded at the position,
since the model never reaches v₀ while it follows another vehicle. Both were chosen on the same few
recordings.
"""

import numpy as np

from datasets_io.driving.route import SPACING, Route
from datasets_io.driving.situation import MIN_DECISIONS, last_seen, moving
from datasets_io.driving.world import DIRECTION, POSITION, SEEN, VELOCITY, World
from datasets_io.episode import Array

ACCELERATION, BRAKING, MAX_BRAKING = 2.0, 4.0, 6.0
"""A, B and the largest deceleration, in m/s²."""
HEADWAY, STANDSTILL = 1.0, 2.0
"""T in s and s₀ in m."""
SPEED_FACTOR, MIN_DESIRED_SPEED = 1.2, 1.0
"""v₀ divided by the recorded speed, and the least v₀ in m/s, so that no vehicle stands for ever."""
_LOOKAHEAD = np.arange(0.0, 40.0, 2.0)
_EXTENSION = 80.0


class Followers:
    """Moving vehicles of a scene, except one; each follows its recorded path at the speed of the model.

    A vehicle that stands at the end of the recording stops there; one that moves continues straight on.
    Vehicles that reverse, that are first seen later or that never move replay the recording, as do
    pedestrians and cyclists. Red lights act only through the recorded speeds.

    Args:
        world: The scene.
        driven: Index of the vehicle under control, which is left out.
    """

    def __init__(self, world: World, driven: int) -> None:
        scene = world.scene
        first, self._dt, self._reach = scene.current, scene.dt, world.reach
        last = last_seen(world)
        chosen = (scene.kinds == 1) & (last >= first + MIN_DECISIONS) & moving(world, last)
        chosen[driven] = False
        heading = np.stack([np.cos(scene.heading[:, first]), np.sin(scene.heading[:, first])], -1)
        chosen &= (scene.velocity[:, first] * heading).sum(-1) > -0.1
        self.indices = np.flatnonzero(chosen)
        paths = [_Path(world, int(index), int(last[index])) for index in self.indices]
        grid = max([len(path.xy) for path in paths], default=1)
        count = len(paths)
        self._xy, self._units, self._desired_speed = (
            np.zeros((count, grid, 2)),
            np.zeros((count, grid, 2)),
            np.ones((count, grid)),
        )
        for row, path in enumerate(paths):
            for padded, values in (
                (self._xy, path.xy),
                (self._units, path.units),
                (self._desired_speed, path.desired_speed),
            ):
                padded[row] = values[np.minimum(np.arange(grid), len(values) - 1)]
        self._end = np.array([path.end for path in paths])
        self._half = 0.5 * scene.size[self.indices, first, :2].astype(np.float64)
        self._along = np.zeros(count)
        self._speed = np.array(
            [np.hypot(*scene.velocity[index, first]) for index in self.indices], np.float64
        )

    def step(self, traffic: Array, now: int) -> None:
        """Advance by one step.

        Args:
            traffic: [T, N, 13] as `World.traffic`; row `now` is read, row `now + 1` written where the
                recording sees the vehicles.
            now: Index of the current step.
        """
        if len(self.indices) == 0:
            return
        gap, closing = self._leader(traffic[now], self._reach[now])
        desired_speed = self._desired_speed[np.arange(len(self.indices)), self._cell(self._along)]
        gap = np.maximum(gap, 0.1)
        wanted = STANDSTILL + np.maximum(
            0.0, self._speed * HEADWAY + self._speed * closing / (2 * np.sqrt(ACCELERATION * BRAKING))
        )
        acceleration = ACCELERATION * (1 - (self._speed / desired_speed) ** 4 - (wanted / gap) ** 2)
        faster = np.maximum(0.0, self._speed + np.maximum(acceleration, -MAX_BRAKING) * self._dt)
        self._along = np.minimum(self._along + 0.5 * (self._speed + faster) * self._dt, self._end)
        self._speed = np.where(self._along >= self._end, 0.0, faster)
        self._write(traffic[now + 1])

    def _write(self, traffic: Array) -> None:
        """Write the poses of the vehicles that the recording sees at this step."""
        path = np.flatnonzero(traffic[self.indices, SEEN] > 0)
        rows, along = self.indices[path], self._along[path]
        xy, units = self._at(path, along)
        ahead = self._at(path, along + SPACING)[0] - xy  # turns smoothly, the path pieces in jumps
        length = np.hypot(*ahead.T)[:, None]
        pointing = np.divide(ahead, length, out=units, where=length > 0.5 * SPACING)
        traffic[rows, POSITION], traffic[rows, DIRECTION] = xy, pointing
        traffic[rows, VELOCITY] = pointing * self._speed[path, None]

    def _leader(self, traffic: Array, reach: Array) -> tuple[Array, Array]:
        """Return the gap (m) to the first object on each path, and the closing speed (m/s)."""
        # The stopping distance and a margin are enough.
        sight = STANDSTILL + HEADWAY * self._speed + self._speed**2 / BRAKING + 5.0
        path, look = np.nonzero(sight[:, None] > _LOOKAHEAD)
        points, units = self._at(path, self._along[path] + self._half[path, 0] + _LOOKAHEAD[look])
        x, y = traffic[:, 0] - points[:, :1], traffic[:, 1] - points[:, 1:]
        near = (x * x + y * y < (reach + self._half[path, 1:]) ** 2) & (traffic[:, SEEN] > 0)
        near[np.arange(len(path)), self.indices[path]] = False
        spot, other = np.nonzero(near)
        inside = self._covers(traffic[other], x[spot, other], y[spot, other], self._half[path[spot], 1])
        spot, other = spot[inside], other[inside]
        # The end of a path acts as a standing obstacle.
        gap, closing = self._end - self._along + STANDSTILL, self._speed.copy()
        # Points are sorted from far to near: the nearest of several is written last and stays.
        order = np.argsort(-look[spot], kind="stable")
        spot, other = spot[order], other[order]
        closer = _LOOKAHEAD[look[spot]] < gap[path[spot]]
        spot, other = spot[closer], other[closer]
        leading = (traffic[other, VELOCITY] * units[spot]).sum(-1)
        gap[path[spot]] = _LOOKAHEAD[look[spot]]
        closing[path[spot]] = self._speed[path[spot]] - leading
        return gap, closing

    @staticmethod
    def _covers(boxes: Array, x: Array, y: Array, margin: Array) -> Array:
        """Return True if boxes [P, 13], at (x, y) from a point, cover it or a margin (m) around it."""
        cos, sin = boxes[:, 2], boxes[:, 3]
        along, across = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
        covered: Array = (along < 0.5 * boxes[:, 6] + margin) & (across < 0.5 * boxes[:, 7] + margin)
        return covered

    def _at(self, path: Array, along: Array) -> tuple[Array, Array]:
        """Return points and directions [P, 2] of the paths with indices `path` [P], at `along` [P] metres."""
        cell = self._cell(along)
        units = self._units[path, cell]
        return self._xy[path, cell] + (along - cell * SPACING)[:, None] * units, units

    def _cell(self, along: Array) -> Array:
        return np.minimum((along / SPACING).astype(np.int64), self._xy.shape[1] - 1)


class _Path:
    """Path of one vehicle, a metre between points, with the desired speed at each."""

    def __init__(self, world: World, index: int, last: int) -> None:
        scene = world.scene
        seen = slice(scene.current, last + 1)
        velocity = scene.velocity[index, seen].astype(np.float64)
        speed = np.sqrt(np.square(velocity).sum(-1))
        driven = scene.xy[index, seen]
        route = Route(driven, float(scene.heading[index, scene.current]))
        continues = speed[-1] > MIN_DESIRED_SPEED
        self.end = route.length + (_EXTENSION if continues else 0.0)
        along = np.arange(0.0, self.end + SPACING, SPACING)
        self.xy, self.units = route.at(along)
        beyond = np.maximum(along - route.length, 0.0)
        self.xy = self.xy + beyond[:, None] * self.units
        travelled = np.maximum.accumulate(route.locate(driven.astype(np.float64), velocity, 0.0)[0])
        self.desired_speed = np.maximum(SPEED_FACTOR * np.interp(along, travelled, speed), MIN_DESIRED_SPEED)
