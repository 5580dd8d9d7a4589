"""Define the vehicle under control and its situation, the input of observation, reward and metrics."""

import math
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from datasets_io.driving.geometry import corners, overlap
from datasets_io.driving.route import Route
from datasets_io.driving.world import BOX, SEEN, World
from datasets_io.episode import Array
from datasets_io.errors import BadValues

MIN_DECISIONS = 10
"""Least number of decisions of a drivable vehicle other than the recording car."""
_MIN_DISPLACEMENT = 1.0
VEHICLE_CHOICES = ("ego", "moving", "all")


class Car:
    """Vehicle that is driven from the end of the warm-up for as long as the recording sees it.

    Args:
        world: Scene of the vehicle.
        index: Index of the vehicle among the objects of the scene.

    Attributes:
        length, width: Size of the box in m.
        reach: Distance from the centre to a corner in m.
        first: Step at which decisions begin.
        last: Last step at which the vehicle is seen without a break from `first` on.
        route: Recorded path between `first` and `last`.
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
        """Id as SCENE/OBJECT."""
        return f"{self.world.scene.id}/{self.world.scene.ids[self.index]}"


def vehicles_of(world: World, which: str) -> list[int]:
    """Return the vehicles of a scene that can be driven.

    Args:
        world: The scene.
        which: `ego`: the recording car. `all`: every vehicle that is seen at the end of the warm-up and for
            `MIN_DECISIONS` steps after it. `moving`: those of them that move at least a metre from their
            start; most vehicles of a city are parked.

    Returns:
        Indices of objects; the recording car first if it is among them.

    Raises:
        BadValues: `which` is not a known choice, or the recording or its car ends with the warm-up.
    """
    scene = world.scene
    if which not in VEHICLE_CHOICES:
        raise BadValues(f"vehicles is {which!r}.", f"Expected one of: {' '.join(VEHICLE_CHOICES)}")
    last = last_seen(world)
    if last[scene.ego] <= scene.current:
        if scene.current + 1 < scene.steps:
            raise BadValues(
                f"the recording car of scene {scene.id} is not seen at step {last[scene.ego] + 1}.",
                f"Decisions need it from step {scene.current} on.",
            )
        raise BadValues(
            f"scene {scene.id} ends with its warm-up: it has {scene.steps} steps, and decisions begin after "
            f"step {scene.current}.",
            "The testing splits have no future steps. Use the training or the validation split.",
        )
    if which == "ego":
        return [scene.ego]
    drivable = (scene.kinds == 1) & (last >= scene.current + MIN_DECISIONS)
    drivable[scene.ego] = True
    if which == "moving":
        drivable &= moving(world, last)
    chosen = np.flatnonzero(drivable)
    return sorted(chosen.tolist(), key=lambda index: (index != scene.ego, index))


def moving(world: World, last: Array) -> Array:
    """Return a mask [N] of objects that move at least a metre from their start until their `last` step."""
    scene = world.scene
    offset = scene.xy[:, scene.current :] - scene.xy[:, scene.current, None]
    until = np.arange(scene.current, scene.steps) <= last[:, None]
    away: Array = (np.square(offset).sum(-1) * until).max(1) >= _MIN_DISPLACEMENT**2
    return away


def last_seen(world: World) -> Array:
    """Return the last step [N] of unbroken visibility of each object from `current` on, or `current` - 1."""
    seen = world.scene.valid[:, world.scene.current :]
    lost = np.where(seen.all(1), seen.shape[1], np.argmin(seen, axis=1))
    last: Array = world.scene.current + lost - 1
    return last


@dataclass(frozen=True, eq=False)
class Situation:
    """Situation of a car at B steps.

    Attributes:
        steps: [B] steps of the scene.
        states: [B, 5] states, as in `dynamics`.
        cos: [B] cosine of the heading.
        sin: [B] sine of the heading.
        yaw_rates: [B] yaw rate over the step before, in rad/s.
        actions: [B, A] last actions.
        along: [B] distance along the route in m.
        lateral: [B] distance from the route in m, positive to its left.
        edge: [B] distance from the road in m, of the corner that is furthest off; negative on the road.
        overlap: [B] bool: True if the box overlaps with the box of another object.
        distance2: [B, N] squared distance in m² to the centres of all objects; infinite to the car itself
            and to objects that are not seen.
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


def measure_situation(
    car: Car, before: float, steps: Array, states: Array, yaw_rates: Array, actions: Array, traffic: Array
) -> Situation:
    """Measure the situation of a car at successive steps.

    Args:
        car: The car.
        before: Distance along the route at the step before the first one, in m; 0 at the beginning.
        steps: [B] steps of the scene.
        states: [B, 5] states.
        yaw_rates: [B] yaw rates in rad/s.
        actions: [B, A] last actions.
        traffic: [T, N, 13] all other objects, as `World.traffic`; rows up to `steps` are read.
    """
    xy, cos, sin = states[:, :2], np.cos(states[:, 2]), np.sin(states[:, 2])
    along, lateral = car.route.locate(xy, states[:, 3:], before)
    edge = car.world.edges.signed_distance(corners(xy, cos, sin, car.length, car.width)).max(1)
    others = traffic[steps]
    x, y = others[..., 0] - xy[:, :1], others[..., 1] - xy[:, 1:]
    distance2 = np.where(others[..., SEEN] > 0, x * x + y * y, np.inf)
    distance2[:, car.index] = np.inf
    hit = _collisions(car, steps, np.stack([*xy.T, cos, sin], 1), others, distance2)
    return Situation(steps, states, cos, sin, yaw_rates, actions, along, lateral, edge, hit, distance2)


def _collisions(car: Car, steps: Array, poses: Array, others: Array, distance2: Array) -> Array:
    """Return a mask [B] of overlaps with any box; only boxes with overlapping circumcircles are compared."""
    row, column = np.nonzero(distance2 < (car.reach + car.world.reach[steps]) ** 2)
    hit = np.zeros(len(poses), bool)
    if len(row):
        own = np.concatenate([poses[row], np.full((len(row), 2), (car.length, car.width))], 1)
        hit[row[overlap(own, others[row, column][:, BOX].astype(np.float64))]] = True
    return hit
