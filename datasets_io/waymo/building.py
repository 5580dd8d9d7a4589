"""Build a scene from the columns of either format."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets_io.driving.scene import Scene
from datasets_io.episode import Array
from datasets_io.errors import Corrupt

DT = 0.1  # s: both formats are sampled at 10 Hz
CURRENT = 10
"""Last step of the warm-up if the record does not contain it."""
_OBJECT_KINDS, _LIGHT_STATES = 5, 9
_FARTHEST = 20_000.0  # m from the recording car: scenes are a few hundred metres wide
_FINITE = ("xy", "z", "heading", "velocity", "size", "road_xy", "light_xy")
_POSITIONS = ("xy", "road_xy", "light_xy")


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects over T steps, in world coordinates; values are undefined where `valid` is False.

    Args:
        ids: [N] integers.
        kinds: [N] integers.
        position: x, y, z; [N, T] each, m.
        size: Length, width, height; [N, T] each, m.
        heading: [N, T], rad.
        velocity: x, y; [N, T] each, m/s.
        valid: [N, T] bool.
        ego: Index of the recording car.
        predict: [P] indices of the objects to predict.
    """

    ids: Array
    kinds: Array
    position: Sequence[Array]
    size: Sequence[Array]
    heading: Array
    velocity: Sequence[Array]
    valid: Array
    ego: int
    predict: Array


@dataclass(frozen=True, eq=False)
class Road:
    """M points: x and y [M] in world coordinates, m; unit vectors [M, 2]; kinds [M]; ids of features [M]."""

    position: Sequence[Array]
    direction: Array
    kinds: Array
    ids: Array


@dataclass(frozen=True, eq=False)
class Lights:
    """L lights at each of T steps: x and y [T, L] in world coordinates, m; other fields [T, L]."""

    position: Sequence[Array]
    states: Array
    lanes: Array
    valid: Array


def build(scene_id: str, current: int, objects: Objects, road: Road, lights: Lights) -> Scene:
    """Subtract the position of the recording car, in float64, and write 0 where data are not valid.

    Raises:
        Corrupt: The record is inconsistent.
    """
    _check_shapes(objects, lights)
    _check(objects, current)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow gives infinity, which is refused below
        scene = _moved(scene_id, current, objects, road, lights)
    for name in _FINITE:
        if not np.isfinite(getattr(scene, name)).all():
            raise Corrupt(f"its {name} holds NaN, infinity or numbers beyond float32.")
    for name in _POSITIONS:  # the memory for a route or a line grows with its length
        if (farthest := np.abs(getattr(scene, name)).max(initial=0)) > _FARTHEST:
            raise Corrupt(f"its {name} is up to {farthest / 1000:,.0f} km from the recording car.")
    return scene


def _moved(scene_id: str, current: int, objects: Objects, road: Road, lights: Lights) -> Scene:
    centre = np.array([values[objects.ego, current] for values in objects.position], np.float64)
    valid = objects.valid
    return Scene(
        id=scene_id,
        centre=centre,
        current=current,
        dt=DT,
        ids=objects.ids.astype(np.int32),
        kinds=limit(objects.kinds, _OBJECT_KINDS),
        xy=_stack(objects.position[:2], centre[:2], valid),
        z=_stack(objects.position[2:], centre[2:], valid)[..., 0],
        heading=_stack([wrap(objects.heading)], [0], valid)[..., 0],
        velocity=_stack(objects.velocity, [0, 0], valid),
        size=_stack(objects.size, [0, 0, 0], valid),
        valid=valid,
        ego=objects.ego,
        predict=objects.predict.astype(np.int32),
        road_xy=_stack(road.position, centre[:2], True),
        road_dir=road.direction.astype(np.float32),
        road_kind=road.kinds.astype(np.int8),
        road_id=road.ids.astype(np.int64),
        light_xy=_stack(lights.position, centre[:2], lights.valid),
        light_state=np.where(lights.valid, limit(lights.states, _LIGHT_STATES), np.int8(0)),
        light_lane=np.where(lights.valid, lights.lanes, np.int64(0)),
        light_valid=lights.valid,
    )


def limit(codes: Array, count: int | Array) -> Array:
    """Convert codes to int8; codes outside the format (from `count` on) become 0, the code for unknown."""
    return np.where((codes >= 0) & (codes < count), codes, 0).astype(np.int8)


def wrap(angles: Array) -> Array:
    """Wrap angles to (-π, π], float64; angles already in the range keep their bits."""
    wide = angles.astype(np.float64)
    outside = (wide <= -np.pi) | (wide > np.pi)
    wide[outside] = np.pi - np.remainder(np.pi - wide[outside], 2 * np.pi)
    return wide


def along(steps: Array, counts: Array) -> Array:
    """Compute unit vectors along features.

    A point with a step of length 0 (the last one of a feature, or one equal to the next) takes the direction
    of the last point before it with a nonzero step, else of the first one after it.

    Args:
        steps: [M, 2], from each point to the next of its feature, of any length.
        counts: [F] numbers of points of the features, M in total.

    Returns:
        [M, 2]; 0 where no point of a feature has a step.
    """
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    moving, still = np.flatnonzero(lengths > 0), np.flatnonzero(lengths == 0)
    lengths[still] = 1
    units: Array = steps / lengths[:, None]
    if len(moving):
        stops = np.cumsum(counts)
        feature = np.searchsorted(stops, still, side="right")
        # Before the first and after the last moving point this takes one from the other side, which the
        # comparisons then drop.
        place = np.searchsorted(moving, still)
        before, after = moving[place - 1], moving[np.minimum(place, len(moving) - 1)]
        follows = (still < after) & (after < stops[feature])
        precedes = (before < still) & (before >= (stops - counts)[feature])
        units[still[follows]] = units[after[follows]]
        units[still[precedes]] = units[before[precedes]]
    return units


def _stack(parts: Sequence[Array], centre: Sequence[float] | Array, where: Array | bool) -> Array:
    """Subtract the centre from the parts and stack them as float32, with 0 where `where` is False."""
    result = np.zeros((*parts[0].shape, len(parts)), np.float32)
    for index, part in enumerate(parts):
        np.subtract(
            part, centre[index], out=result[..., index], where=where, casting="same_kind", dtype=np.float64
        )
    return result


def _check_shapes(objects: Objects, lights: Lights) -> None:
    of_objects = (*objects.position, *objects.size, objects.heading, *objects.velocity, objects.valid)
    of_lights = (*lights.position, lights.states, lights.lanes, lights.valid)
    for what, arrays in (("objects", of_objects), ("lights", of_lights)):
        if len(shapes := {values.shape for values in arrays}) > 1:
            raise Corrupt(f"the values of its {what} have the shapes {sorted(shapes)}.")
    if len(lights.valid) != (steps := objects.valid.shape[1]):
        raise Corrupt(f"it has lights of {len(lights.valid)} steps and objects of {steps}.")


def _check(objects: Objects, current: int) -> None:
    count, steps = objects.valid.shape
    if not 0 <= current < steps:
        raise Corrupt(f"its current step is {current} of {steps}.")
    if not 0 <= objects.ego < count:
        raise Corrupt(f"its recording car is object {objects.ego} of {count}.")
    if not objects.valid[objects.ego, current]:
        raise Corrupt(f"its recording car was not seen at the current step, {current}.")
    if ((objects.predict < 0) | (objects.predict >= count)).any():
        raise Corrupt(f"it asks to predict objects {objects.predict.tolist()} of {count}.")
