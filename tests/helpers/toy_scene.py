"""Generate a synthetic scene, to try the simulator without recordings and for tests."""

from dataclasses import fields

import numpy as np

from datasets_io.driving.dynamics import CONTROLLERS
from datasets_io.driving.geometry import subdivide
from datasets_io.driving.scene import Scene
from datasets_io.episode import Array

DT, STEPS, CURRENT = 0.1, 91, 10
_CAR, _PERSON = (4.8, 2.0, 1.6), (0.8, 0.8, 1.8)


def toy_scene(seed: int = 0) -> Scene:
    """Generate a scene of nine seconds: two lanes to the east, 7 m wide, from y = -1.75 to 5.25.

    Object 0, the recording car, drives in the right lane at changing speed; 1 is ahead of it, 2 overtakes
    on the left, 3 is parked off the road, 4 is a pedestrian who crosses far ahead, and 5 is a car that is
    first seen after four seconds.

    Args:
        seed: Seed of the speeds and of the acceleration of the recording car.
    """
    rng = np.random.default_rng(seed)
    speed = rng.uniform(7, 9)
    time = np.arange(STEPS) * DT
    push = rng.uniform(0.5, 1.5) * np.sin(time * rng.uniform(0.5, 1.5))
    steer = 0.002 * np.cos(2 * np.pi * time / 9)
    tracks = [
        _driven(np.array([-speed, 0, 0, speed, 0.0]), np.stack([push, steer], -1)),
        _straight((20, 0), (speed + 1, 0)),
        _straight((-30, 3.5), (speed + 5, 0)),
        _straight((10, -5), (0, 0)),
        _straight((100, -3), (0, 1)),
        _straight((140, 3.5), (speed, 0)),
    ]
    states = np.stack(tracks)
    centre = np.append(states[0, CURRENT, :2], 0)
    states[..., :2] -= centre[:2]
    valid = np.ones(states.shape[:2], bool)
    valid[5, :40] = False
    sizes = np.array([_CAR] * 4 + [_PERSON, _CAR])
    road = _road(centre[:2])
    lights = np.array([[88.0, 0.0], [88.0, 3.5]]) - centre[:2]
    return Scene(
        id=f"toy-{seed}",
        centre=centre,
        current=CURRENT,
        dt=DT,
        ids=np.arange(6, dtype=np.int32) + 100,
        kinds=np.array([1, 1, 1, 1, 2, 1], np.int8),
        xy=(states[..., :2] * valid[..., None]).astype(np.float32),
        z=np.zeros(valid.shape, np.float32),
        heading=(states[..., 2] * valid).astype(np.float32),
        velocity=(states[..., 3:] * valid[..., None]).astype(np.float32),
        size=(sizes[:, None] * valid[..., None]).astype(np.float32),
        valid=valid,
        ego=0,
        predict=np.array([1], np.int32),
        road_xy=road[0],
        road_dir=road[1],
        road_kind=road[2],
        road_id=road[3],
        light_xy=np.tile(lights.astype(np.float32), (STEPS, 1, 1)),
        light_state=np.where(np.arange(STEPS) < 50, 6, 4)[:, None].repeat(2, 1).astype(np.int8),
        light_lane=np.tile(np.array([0, 1]), (STEPS, 1)),
        light_valid=np.ones((STEPS, 2), bool),
    )


def _driven(state: Array, actions: Array) -> Array:
    """Return the states [T, 5] of a bicycle model under actions [T, 2]; the last action is not used."""
    states = [state]
    for action in actions[:-1]:
        states.append(CONTROLLERS["bicycle"].forward(states[-1], action, DT))
    return np.stack(states)


def _straight(start: tuple[float, float], velocity: tuple[float, float]) -> Array:
    states = np.zeros((STEPS, 5))
    states[:, :2] = np.array(start) + np.arange(STEPS)[:, None] * DT * np.array(velocity)
    states[:, 2], states[:, 3:] = np.arctan2(velocity[1], velocity[0]), velocity
    return states


def _road(centre: Array) -> tuple[Array, Array, Array, Array]:
    """Return points, directions, kinds and features of two lanes, a line, edges and a crosswalk."""
    west, east = -80.0, 240.0
    lines: list[tuple[int, list[tuple[float, float]]]] = [
        (2, [(west, 0), (east, 0)]),
        (2, [(west, 3.5), (east, 3.5)]),
        (6, [(west, 1.75), (east, 1.75)]),
        (15, [(west, -1.75), (east, -1.75)]),
        (15, [(east, 5.25), (west, 5.25)]),
        (18, [(90, -1.75), (94, -1.75), (94, 5.25), (90, 5.25), (90, -1.75)]),
    ]
    corners = np.array([point for _, points in lines for point in points], np.float64)
    feature = np.repeat(np.arange(len(lines)), [len(points) for _, points in lines])
    xy, source = subdivide(corners, feature, 0.5)
    feature = feature[source]
    step = np.diff(xy, axis=0, append=xy[-1:])
    ends = np.append(feature[1:] != feature[:-1], True)
    step[ends] = step[np.flatnonzero(ends) - 1]
    direction = step / np.hypot(step[:, 0], step[:, 1])[:, None]
    kinds = np.array([kind for kind, _ in lines], np.int8)[feature]
    return (xy - centre).astype(np.float32), direction.astype(np.float32), kinds, feature.astype(np.int64)


def same(one: Scene, other: Scene) -> None:
    """Names, types, shapes and every bit of the values."""
    assert one.id == other.id
    for field in fields(Scene)[1:]:
        a, b = (np.asarray(getattr(scene, field.name)) for scene in (one, other))
        assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
        np.testing.assert_array_equal(a, b, field.name)
