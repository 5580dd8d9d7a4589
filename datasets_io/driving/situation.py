"""A vehicle under control, and where it stands: what observation, reward and metrics are computed from."""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from datasets_io.driving.geometry import corners, overlap
from datasets_io.driving.route import Route
from datasets_io.driving.world import BOX, SEEN, World
from datasets_io.episode import Array
from datasets_io.errors import BadValues

SHORTEST = 10
"""Decisions that a vehicle other than the recording car must at least be seen for."""
_MOVED = 1.0
WHICH = ("ego", "moving", "all")


class Car:
    """A vehicle that is driven from the end of the warm-up for as long as the recording sees it.

    Args:
        world: Its scene.
        index: Of the vehicle among the scene's objects.

    Attributes:
        length, width: m, of its box.
        reach: m, from its centre to a corner.
        first: The step at which decisions begin.
        last: The step at which the recording loses it; it is seen at every step between.
        route: Its recorded path between them.
    """

    def __init__(self, world: World, index: int) -> None:
        scene = world.scene
        self.world, self.index, self.first = world, index, scene.current
        self.last = int(last_seen(world)[index])
        self.length, self.width = (float(side) for side in scene.size[index, self.first, :2])
        self.reach = 0.5 * math.hypot(self.length, self.width)
        path = scene.xy[index, self.first : self.last + 1]
        self.route = Route(path, float(scene.heading[index, self.first]))

    @property
    def id(self) -> str:
        """The scene's id and the object's."""
        return f"{self.world.scene.id}/{self.world.scene.ids[self.index]}"


def vehicles_of(world: World, which: str) -> list[int]:
    """Vehicles of a scene that can be driven.

    Args:
        world: The scene.
        which: `ego`: the recording car. `all`: every vehicle that is seen at the end of the warm-up and for
            `SHORTEST` steps after it. `moving`: those of them that get a metre away from where they begin;
            parked cars are most of a city.

    Returns:
        Indices of objects; the recording car first if it is among them.

    Raises:
        BadValues: Another word, or a recording that ends with the warm-up.
    """
    scene = world.scene
    if which not in WHICH:
        raise BadValues(f"vehicles is {which!r}.", f"One of: {' '.join(WHICH)}")
    last = last_seen(world)
    if last[scene.ego] <= scene.current:
        raise BadValues(
            f"scene {scene.id} ends with its warm-up: it has {scene.steps} steps, and decisions begin after "
            f"step {scene.current}.",
            "Its future is hidden, as in the testing split. Use the training or the validation split.",
        )
    if which == "ego":
        return [scene.ego]
    drivable = (scene.kinds == 1) & (last >= scene.current + SHORTEST)
    drivable[scene.ego] = True
    if which == "moving":
        drivable &= moving(world, last)
    chosen = np.flatnonzero(drivable)
    return sorted(chosen.tolist(), key=lambda index: (index != scene.ego, index))


def moving(world: World, last: Array) -> Array:
    """[N] bool: objects that get at least a metre away from where they begin, until their `last` step [N]."""
    scene = world.scene
    offset = scene.xy[:, scene.current :] - scene.xy[:, scene.current, None]
    until = np.arange(scene.current, scene.steps) <= last[:, None]
    away: Array = (np.square(offset).sum(-1) * until).max(1) >= _MOVED**2
    return away


def last_seen(world: World) -> Array:
    """[N] the last step until which each object is seen without a break from `current` on; or one before."""
    seen = world.scene.valid[:, world.scene.current :]
    lost = np.where(seen.all(1), seen.shape[1], np.argmin(seen, axis=1))
    last: Array = world.scene.current + lost - 1
    return last


@dataclass(frozen=True, eq=False)
class Situation:
    """A car at B moments.

    Attributes:
        steps: [B] of the scene.
        states: [B, 5] as `dynamics` has them.
        cos: [B] cosine of the heading.
        sin: [B] sine of the heading.
        yaw_rates: [B] rad/s, over the step before.
        actions: [B, A] the last ones.
        along: [B] m along the route.
        lateral: [B] m from the route, positive to its left.
        edge: [B] m off the road, of the corner that is furthest off; negative: on the road.
        overlap: [B] bool: its box overlaps with another object's.
        distance2: [B, N] m², to the centres of all objects; infinite to itself and to those not seen.
    """

    steps: Array
    states: Array
    cos: Array
    sin: Array
    yaw_rates: Array
    actions: Array
    along: Array
    lateral: Array
    edge: Array
    overlap: Array
    distance2: Array

    def __getitem__(self, rows: slice) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def situate(
    car: Car, steps: Array, states: Array, yaw_rates: Array, actions: Array, traffic: Array
) -> Situation:
    """Measure a car's surroundings.

    Args:
        car: The car.
        steps: [B]
        states: [B, 5]
        yaw_rates: [B]
        actions: [B, A]
        traffic: [T, N, 13] everyone else, as `World.traffic`, of which rows up to `steps` are read.
    """
    xy, cos, sin = states[:, :2], np.cos(states[:, 2]), np.sin(states[:, 2])
    along, lateral = car.route.locate(xy)
    edge = car.world.edges.signed_distance(corners(xy, cos, sin, car.length, car.width)).max(1)
    others = traffic[steps]
    x, y = others[..., 0] - xy[:, :1], others[..., 1] - xy[:, 1:]
    distance2 = np.where(others[..., SEEN] > 0, x * x + y * y, np.inf)
    distance2[:, car.index] = np.inf
    hit = _collisions(car, steps, np.stack([*xy.T, cos, sin], 1), others, distance2)
    return Situation(steps, states, cos, sin, yaw_rates, actions, along, lateral, edge, hit, distance2)


def _collisions(car: Car, steps: Array, poses: Array, others: Array, distance2: Array) -> Array:
    """[B] whether the box overlaps with any; only boxes whose circles meet are looked at."""
    row, column = np.nonzero(distance2 < (car.reach + car.world.reach[steps]) ** 2)
    hit = np.zeros(len(poses), bool)
    if len(row):
        own = np.concatenate([poses[row], np.full((len(row), 2), (car.length, car.width))], 1)
        hit[row[overlap(own, others[row, column][:, BOX].astype(np.float64))]] = True
    return hit
