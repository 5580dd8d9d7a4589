"""Other drivers who react: the intelligent driver model, along the paths that were recorded.

Treiber, Hennecke & Helbing 2000, arXiv:cond-mat/0002177:

    a  = A (1 - (v / v₀)⁴ - (s* / gap)²)
    s* = s₀ + max(0, v T + v Δv / (2 √(A B)))

A, B and s₀ are Waymax's. Its T = 2 s and v₀ = 30 m/s are not: recorded drivers keep about a second, and the
model with T = 2 s brakes for them at once. v₀ is a fifth above what was recorded at the place, since a driver
of the model never gets there while he follows another. Both were chosen on the same few recordings.
"""

import numpy as np

from datasets_io.driving.route import SPACING, Route
from datasets_io.driving.situation import SHORTEST, last_seen, moving
from datasets_io.driving.world import PLACE, POINTING, SEEN, VELOCITY, World
from datasets_io.episode import Array

ACCELERATION, BRAKING, HARDEST = 2.0, 4.0, 6.0
"""m/s²: A, B, and what no driver brakes harder than."""
HEADWAY, STANDSTILL = 1.0, 2.0
"""T in s and s₀ in m."""
HASTE, SLOWEST = 1.2, 1.0
"""v₀ over the recorded speed, and the least v₀ in m/s: where the recording stood, nobody stands for ever."""
_LOOKS = np.arange(0.0, 40.0, 2.0)
_BEYOND = 80.0


class Followers:
    """The moving vehicles of a scene, except one; each on its recorded path, at a speed of its own choice.

    Who stands at the end of the recording stops there; who moves goes straight on. Vehicles that reverse,
    that come into sight later or that never move do as recorded, as do pedestrians and cyclists. Red lights
    are known only by what they did to the recorded speeds.

    Args:
        world: The scene.
        driven: The object that somebody else drives.
    """

    def __init__(self, world: World, driven: int) -> None:
        scene = world.scene
        first, self._dt, self._reach = scene.current, scene.dt, world.reach
        last = last_seen(world)
        chosen = (scene.kinds == 1) & (last >= first + SHORTEST) & moving(world, last)
        chosen[driven] = False
        heading = np.stack([np.cos(scene.heading[:, first]), np.sin(scene.heading[:, first])], -1)
        chosen &= (scene.velocity[:, first] * heading).sum(-1) > -0.1
        self.indices = np.flatnonzero(chosen)
        paths = [_Path(world, int(index), int(last[index])) for index in self.indices]
        grid = max([len(path.xy) for path in paths], default=1)
        count = len(paths)
        self._xy, self._units, self._wish = (
            np.zeros((count, grid, 2)),
            np.zeros((count, grid, 2)),
            np.ones((count, grid)),
        )
        for row, path in enumerate(paths):
            for padded, values in ((self._xy, path.xy), (self._units, path.units), (self._wish, path.wish)):
                padded[row] = values[np.minimum(np.arange(grid), len(values) - 1)]
        self._end = np.array([path.end for path in paths])
        self._half = 0.5 * scene.size[self.indices, first, :2].astype(np.float64)
        self._along = np.zeros(count)
        self._speed = np.array(
            [np.hypot(*scene.velocity[index, first]) for index in self.indices], np.float64
        )

    def step(self, traffic: Array, now: int) -> None:
        """Drive on by one step.

        Args:
            traffic: [T, N, 13] as `World.traffic`; row `now` is read, row `now + 1` written where the
                recording sees the vehicles.
            now: The step.
        """
        if len(self.indices) == 0:
            return
        gap, closing = self._leader(traffic[now], self._reach[now])
        wish = self._wish[np.arange(len(self.indices)), self._cell(self._along)]
        gap = np.maximum(gap, 0.1)
        wanted = STANDSTILL + np.maximum(
            0.0, self._speed * HEADWAY + self._speed * closing / (2 * np.sqrt(ACCELERATION * BRAKING))
        )
        acceleration = ACCELERATION * (1 - (self._speed / wish) ** 4 - (wanted / gap) ** 2)
        faster = np.maximum(0.0, self._speed + np.maximum(acceleration, -HARDEST) * self._dt)
        self._along = np.minimum(self._along + 0.5 * (self._speed + faster) * self._dt, self._end)
        self._speed = np.where(self._along >= self._end, 0.0, faster)
        self._write(traffic[now + 1])

    def _write(self, traffic: Array) -> None:
        """Put the vehicles where they are, if the recording sees them then."""
        who = np.flatnonzero(traffic[self.indices, SEEN] > 0)
        rows, along = self.indices[who], self._along[who]
        xy, units = self._at(who, along)
        ahead = self._at(who, along + SPACING)[0] - xy  # turns steadily, where pieces turn at once
        length = np.hypot(*ahead.T)[:, None]
        pointing = np.divide(ahead, length, out=units, where=length > 0.5 * SPACING)
        traffic[rows, PLACE], traffic[rows, POINTING] = xy, pointing
        traffic[rows, VELOCITY] = pointing * self._speed[who, None]

    def _leader(self, traffic: Array, reach: Array) -> tuple[Array, Array]:
        """Gap (m) to whatever is first on each path, and how fast it closes (m/s)."""
        # Nobody needs to look further than he needs to stop, and a little.
        sight = STANDSTILL + HEADWAY * self._speed + self._speed**2 / BRAKING + 5.0
        who, look = np.nonzero(sight[:, None] > _LOOKS)
        points, units = self._at(who, self._along[who] + self._half[who, 0] + _LOOKS[look])
        x, y = traffic[:, 0] - points[:, :1], traffic[:, 1] - points[:, 1:]
        near = (x * x + y * y < (reach + self._half[who, 1:]) ** 2) & (traffic[:, SEEN] > 0)
        near[np.arange(len(who)), self.indices[who]] = False
        spot, other = np.nonzero(near)
        inside = self._covers(traffic[other], x[spot, other], y[spot, other], self._half[who[spot], 1])
        spot, other = spot[inside], other[inside]
        # Who stops at the end of a path stops as if a wall stood behind it.
        gap, closing = self._end - self._along + STANDSTILL, self._speed.copy()
        # Points go from the far ones to the near: of several, the nearest is written last, and stays.
        order = np.argsort(-look[spot], kind="stable")
        spot, other = spot[order], other[order]
        closer = _LOOKS[look[spot]] < gap[who[spot]]
        spot, other = spot[closer], other[closer]
        leading = (traffic[other, VELOCITY] * units[spot]).sum(-1)
        gap[who[spot]] = _LOOKS[look[spot]]
        closing[who[spot]] = self._speed[who[spot]] - leading
        return gap, closing

    @staticmethod
    def _covers(boxes: Array, x: Array, y: Array, margin: Array) -> Array:
        """Return True if boxes [P, 13], at (x, y) from a point, cover it or a margin (m) around it."""
        cos, sin = boxes[:, 2], boxes[:, 3]
        along, across = np.abs(x * cos + y * sin), np.abs(y * cos - x * sin)
        covered: Array = (along < 0.5 * boxes[:, 6] + margin) & (across < 0.5 * boxes[:, 7] + margin)
        return covered

    def _at(self, who: Array, along: Array) -> tuple[Array, Array]:
        """Points and directions [P, 2] of paths `who` [P], so many metres [P] along them."""
        cell = self._cell(along)
        units = self._units[who, cell]
        return self._xy[who, cell] + (along - cell * SPACING)[:, None] * units, units

    def _cell(self, along: Array) -> Array:
        return np.minimum((along / SPACING).astype(np.int64), self._xy.shape[1] - 1)


class _Path:
    """One vehicle's path, a metre between points, with the speed that it wants to have there."""

    def __init__(self, world: World, index: int, last: int) -> None:
        scene = world.scene
        seen = slice(scene.current, last + 1)
        velocity = scene.velocity[index, seen].astype(np.float64)
        speed = np.sqrt(np.square(velocity).sum(-1))
        route = Route(scene.xy[index, seen], float(scene.heading[index, scene.current]))
        goes_on = speed[-1] > SLOWEST
        self.end = route.length + (_BEYOND if goes_on else 0.0)
        along = np.arange(0.0, self.end + SPACING, SPACING)
        self.xy, self.units = route.at(along)
        beyond = np.maximum(along - route.length, 0.0)
        self.xy = self.xy + beyond[:, None] * self.units
        travelled = np.maximum.accumulate(route.locate(scene.xy[index, seen].astype(np.float64))[0])
        self.wish = np.maximum(HASTE * np.interp(along, travelled, speed), SLOWEST)
