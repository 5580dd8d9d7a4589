"""Compute the observation of a driver: a row of fixed width, equal in a recording and in the simulator.

Positions are in the frame of the driven vehicle: x ahead, y to its left, in metres; directions are cosine and
sine. Missing entries (fewer objects than slots, a route that ends) are zero, with `seen` zero as well. Values
are in physical units, not normalised; `columns` lists them.

The columns `route…`, `own.route…`, `own.goal…`, `own.lateral` and `own.remaining` are privileged: they come
from the recorded future of the vehicle (see `Route`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from datasets_io.driving.dynamics import Controller
from datasets_io.driving.geometry import to_frame
from datasets_io.driving.situation import Car, Situation
from datasets_io.driving.world import KINDS, LANES, LIGHTS, ROADS, SEEN, STATIC, MapPoints
from datasets_io.episode import Array
from datasets_io.errors import BadValues


@dataclass(frozen=True)
class View:
    """Contents of an observation.

    Args:
        nearest: Number of objects, sorted by distance.
        lanes: Number of points of lane centres, one every four metres, sorted by distance from a point ahead.
        roads: Number of points of lines, edges, crosswalks, stop signs, speed bumps and driveways, likewise.
        lights: Number of traffic lights, sorted by distance.
        history: Steps back at which objects are given; the first is 0.
        waypoints: Distances of the waypoints along the route, in m.
        ahead: Distance of the point ahead of the vehicle, in m.

    Raises:
        BadValues: `nearest` is negative.
    """

    nearest: int = 8
    lanes: int = 12
    roads: int = 16
    lights: int = 4
    history: tuple[int, ...] = (0, 5, 10)
    waypoints: tuple[float, ...] = (2, 5, 10, 15, 20, 30, 40, 60)
    ahead: float = 10.0

    def __post_init__(self) -> None:
        if self.nearest < 0:
            raise BadValues(f"nearest is {self.nearest}.", "Expected: a number of objects, at least 0.")


class ObservationColumn(NamedTuple):
    """Name and unit of one number of an observation."""

    name: str
    unit: str


_POSE = ("x", "y", "cos", "sin")
_METRES = ("x", "y", "goal_x", "goal_y", "length", "width", "off_road", "lateral", "remaining")
_UNITS = dict.fromkeys(_METRES, "m") | {"vx": "m/s", "vy": "m/s", "yaw_rate": "rad/s"}


def columns(controller: Controller, view: View | None = None) -> list[ObservationColumn]:
    """Return name and unit of the D entries, in order: those that rotate with the vehicle, then the rest.

    Args:
        controller: Controller; its last action is part of the observation.
        view: Contents of the observation.
    """
    view = view or View()
    steps = [f"[{-back}]" for back in view.history]
    names = [f"own.{name}" for name in ("vx", "vy", "route_cos", "route_sin", "goal_x", "goal_y")]
    names += _named("object", view.nearest, [name + step for step in steps for name in (*_POSE, "vx", "vy")])
    names += (
        _named("lane", view.lanes, _POSE)
        + _named("road", view.roads, _POSE)
        + _named("light", view.lights, _POSE[:2])
    )
    names += [f"route{metres:g}m.{name}" for metres in view.waypoints for name in _POSE]
    names += ["own.yaw_rate", *(f"own.last_{axis.name}" for axis in controller.axes)]
    names += [f"own.{name}" for name in ("length", "width", "off_road", "lateral", "remaining")]
    names += _named("object", view.nearest, ["seen" + step for step in steps])
    names += _named("object", view.nearest, ["length", "width", *KINDS])
    for group, count, tags in (
        ("lane", view.lanes, LANES),
        ("road", view.roads, ROADS),
        ("light", view.lights, LIGHTS),
    ):
        names += _named(group, count, [*tags, "seen"])
    names += [f"route{metres:g}m.seen" for metres in view.waypoints]
    units = _UNITS | {f"last_{axis.name}": axis.unit for axis in controller.axes}
    return [
        ObservationColumn(name, units.get(name.partition(".")[2].partition("[")[0], "1")) for name in names
    ]


def _named(group: str, count: int, names: Sequence[str]) -> list[str]:
    return [f"{group}{number}.{name}" for number in range(count) for name in names]


def observe(car: Car, view: View, now: Situation, traffic: Array) -> Array:
    """Compute the observations of a car's driver at B moments.

    Args:
        car: The car.
        view: Contents of the observation.
        now: Situation of the car.
        traffic: [T, N, 13] all other objects, as `World.traffic`.

    Returns:
        [B, D] float32, as `columns` lists them.
    """
    count = len(now.steps)
    centre = now.states[:, :2] + view.ahead * np.stack([now.cos, now.sin], 1)
    world = car.world
    groups = [
        _own(car, now),
        _objects(view, now, traffic),
        _points(world.lanes, view.lanes, centre, now),
        _points(world.roads, view.roads, centre, now),
        _lights(world.lights, view.lights, now),
        _waypoints(car, view, now),
    ]
    # One rotation of all vectors takes a fifth of the time of one per group.
    turned = to_frame(np.concatenate([vectors for vectors, _ in groups], 1), now.cos, now.sin)
    rest = [values.reshape(count, -1) for _, parts in groups for values in parts]
    return np.concatenate([turned.reshape(count, -1), *rest], 1, dtype=np.float32)


Group = tuple[Array, Sequence[Array]]
"""Vectors [B, P, 2] along the world's axes, relative to the vehicle; columns [B, …] without rotation."""


def _own(car: Car, now: Situation) -> Group:
    vectors = np.empty((len(now.steps), 3, 2))
    vectors[:, 0] = now.states[:, 3:5]
    vectors[:, 1] = car.route.at(now.along)[1]
    vectors[:, 2] = car.route.points[-1] - now.states[:, :2]
    numbers = np.empty((len(now.steps), 5))
    numbers[:, 0], numbers[:, 1] = car.length, car.width
    numbers[:, 2], numbers[:, 3], numbers[:, 4] = now.edge, now.lateral, car.route.length - now.along
    return vectors, [now.yaw_rates, now.actions, numbers]


def _objects(view: View, now: Situation, traffic: Array) -> Group:
    """Return the nearest objects seen now, with their past positions."""
    chosen, there = _closest(now.distance2, view.nearest)
    then = now.steps[:, None] - np.array(view.history)
    there = there[..., None] & (then >= 0)[:, None]
    rows = traffic[np.maximum(then, 0)[:, None], chosen[..., None]] * there[..., None]  # [B, K, H, 13]
    seen = rows[..., SEEN]
    vectors = rows[..., :6].astype(np.float64).reshape(*rows.shape[:-1], 3, 2)
    vectors[..., 0, :] -= now.states[:, None, None, :2] * seen[..., None]
    return vectors.reshape(len(rows), -1, 2), [seen, rows[:, :, 0, STATIC]]


def _closest(distance2: Array, count: int) -> tuple[Array, Array]:
    """Return indices [B, count] of the smallest distances, in order (0 if infinite), and the finite mask."""
    missing = count - distance2.shape[1]
    if missing > 0:
        distance2 = np.concatenate([distance2, np.full((len(distance2), missing), np.inf)], 1)
    chosen = distance2.argsort(1)[:, :count]
    there = np.isfinite(distance2[np.arange(len(chosen))[:, None], chosen])
    return chosen * there, there


def _points(points: MapPoints, count: int, centre: Array, now: Situation) -> Group:
    index = points.nearest(centre, count)
    vectors, tags = points.vectors[index], points.tags[index]
    vectors[:, :, 0] -= now.states[:, None, :2] * tags[..., -1:]
    return vectors.reshape(len(index), -1, 2), [tags]


def _lights(lights: Array, count: int, now: Situation) -> Group:
    if lights.shape[1] == 0:
        return np.zeros((len(now.steps), count, 2)), [np.zeros((len(now.steps), count, lights.shape[2] - 2))]
    rows = lights[now.steps]
    seen = rows[..., -1:]
    offset = (rows[..., :2] - now.states[:, None, :2]) * seen
    distance2 = np.where(seen[..., 0] > 0, np.square(offset).sum(-1), np.inf)
    chosen, there = _closest(distance2, count)
    moment = np.arange(len(rows))[:, None]
    return offset[moment, chosen] * there[..., None], [rows[moment, chosen, 2:] * there[..., None]]


def _waypoints(car: Car, view: View, now: Situation) -> Group:
    along = now.along[:, None] + np.array(view.waypoints)
    seen = along <= car.route.length
    vectors = np.empty((*along.shape, 2, 2))
    vectors[:, :, 0], vectors[:, :, 1] = car.route.at(along)
    vectors[:, :, 0] -= now.states[:, None, :2]
    vectors *= seen[..., None, None]
    return vectors.reshape(len(along), -1, 2), [seen]
