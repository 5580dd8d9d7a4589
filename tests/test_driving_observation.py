"""What a driver sees: named numbers of a made scene, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_scene import CURRENT, toy_scene

from datasets_io.driving.dynamics import CONTROLLERS
from datasets_io.driving.observation import View, columns, observe
from datasets_io.driving.situation import Car, measure_situation
from datasets_io.driving.world import World
from datasets_io.errors import BadValues

BICYCLE = CONTROLLERS["bicycle"]
NAMES = [column.name for column in columns(BICYCLE)]


def seen(scene, steps, vehicle=None, view=None, names=NAMES):
    """Observations of the recording's own states, by name: [B] each."""
    world = World(scene)
    car = Car(world, scene.ego if vehicle is None else vehicle)
    whole = np.arange(car.first, np.max(steps) + 1)
    states = world.states(car.index)[whole]
    actions = np.tile(np.array([0.5, 0.01], np.float32), (len(whole), 1))
    now = measure_situation(car, 0.0, whole, states, np.full(len(whole), 0.2), actions, world.traffic)
    now = now[np.atleast_1d(steps) - car.first]
    rows = observe(car, view or View(), now, world.traffic)
    return dict(zip(names, rows.T, strict=True))


@pytest.fixture(scope="module")
def first():
    return seen(toy_scene(), CURRENT)


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("nearest", [0, 3, 8])
def test_every_column_has_a_name_of_its_own_and_a_unit(name, nearest):
    listed = columns(CONTROLLERS[name], View(nearest=nearest))
    assert len({column.name for column in listed}) == len(listed)
    assert {column.unit for column in listed} <= {"m", "m/s", "rad/s", "m/s²", "1/m", "rad", "1"}
    units = dict(listed)
    assert units["own.remaining"] == "m"
    assert units["own.last_acceleration" if name == "bicycle" else "own.last_dx"] in ("m/s²", "m")
    for column in listed:
        if column.name.endswith(("vx[0]", "vy[-10]")):
            assert column.unit == "m/s"


def test_own_columns(first):
    scene = toy_scene()
    speed = np.hypot(*scene.velocity[0, CURRENT])
    heading = scene.heading[0, CURRENT]
    assert first["own.vx"] == pytest.approx(speed, abs=1e-4)
    assert first["own.vy"] == pytest.approx(0, abs=1e-4)
    assert first["own.yaw_rate"] == pytest.approx(0.2)
    assert (first["own.last_acceleration"], first["own.last_curvature"]) == pytest.approx((0.5, 0.01))
    assert (first["own.length"], first["own.width"]) == pytest.approx((4.8, 2.0))
    # The lane is 3.5 m wide and the car 2 m: 0.75 m to the edge on the right, less its heading and place.
    y = scene.centre[1] + scene.xy[0, CURRENT, 1]
    assert first["own.off_road"] == pytest.approx(-(y + 1.75 - 1 - 2.4 * abs(np.sin(heading))), abs=0.01)
    path = np.diff(scene.xy[0, CURRENT:], axis=0)
    assert first["own.remaining"] == pytest.approx(np.hypot(*path.T).sum(), abs=0.05)
    assert first["own.lateral"] == pytest.approx(0, abs=1e-4)


def test_the_nearest_objects_come_first(first):
    scene = toy_scene()
    away = np.linalg.norm(scene.xy[:, CURRENT] - scene.xy[0, CURRENT], axis=1)
    order = [index for index in np.argsort(away) if index not in (0, 5)]
    for place, index in enumerate(order):
        assert np.hypot(first[f"object{place}.x[0]"], first[f"object{place}.y[0]"]) == pytest.approx(
            away[index], abs=1e-3
        )
        assert first[f"object{place}.pedestrian"] == (scene.kinds[index] == 2)
        assert first[f"object{place}.seen[-10]"] == 1
    # 5 is not in sight yet, and there are no others.
    assert all((first[name] == 0).all() for name in NAMES if name.startswith(("object4", "object7")))


def test_an_object_as_seen_from_the_car():
    scene = toy_scene()
    heading = np.zeros_like(scene.heading)
    heading[0] = np.pi / 2  # it looks north
    xy = np.zeros_like(scene.xy)
    xy[1] = [3, 4]
    xy[1, CURRENT - 5] = [3, 2]
    velocity = np.zeros_like(scene.velocity)
    velocity[1] = [0, 2]
    valid = np.zeros_like(scene.valid)
    valid[:2] = True
    valid[1, CURRENT - 10] = False
    found = seen(replace(scene, heading=heading, xy=xy, velocity=velocity, valid=valid), CURRENT)
    parts = ("x", "y", "cos", "sin", "vx", "vy", "seen")
    now, before, long_ago = ([found[f"object0.{part}[{back}]"][0] for part in parts] for back in (0, -5, -10))
    np.testing.assert_allclose(now, [4, -3, 0, -1, 2, 0, 1], atol=1e-6)
    np.testing.assert_allclose(before, [2, -3, 0, -1, 2, 0, 1], atol=1e-6)
    np.testing.assert_allclose(long_ago, 0)


def test_lights_lanes_and_route():
    scene = toy_scene()
    found = seen(scene, [CURRENT, 60, 90])
    np.testing.assert_array_equal(found["light0.go"], [1, 0, 0])
    np.testing.assert_array_equal(found["light0.stop"], [0, 1, 1])
    np.testing.assert_array_equal(found["light2.seen"], 0)
    ahead = 88 - scene.centre[0] - scene.xy[0, 60, 0]
    assert found["light0.x"][1] == pytest.approx(ahead, abs=0.2)
    # Lane centres lie 10 m ahead, on the car's own lane and on the left one.
    assert abs(found["lane0.x"][0] - 10) < 2.1
    assert abs(found["lane0.y"][0]) < 0.5
    assert found["lane0.surface_street"][0] == 1
    assert found["lane0.cos"][0] == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(found["route2m.seen"], [1, 1, 0])  # the last moment is the goal
    np.testing.assert_array_equal(found["route60m.seen"], [found["own.remaining"][0] > 60, 0, 0])
    np.testing.assert_allclose(found["route10m.x"][0], 10, atol=0.1)
    assert found["own.remaining"][2] == pytest.approx(0, abs=0.01)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-300, 300), st.floats(-300, 300))
def test_where_in_the_world_a_scene_is_does_not_matter(turn, east, north):
    scene = toy_scene(1)
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, sin], [-sin, cos]])  # for rows
    moved = replace(
        scene,
        xy=((scene.xy @ rotation + [east, north]) * scene.valid[..., None]).astype(np.float32),
        velocity=(scene.velocity @ rotation).astype(np.float32),
        heading=((scene.heading + turn) * scene.valid).astype(np.float32),
        road_xy=(scene.road_xy @ rotation + [east, north]).astype(np.float32),
        road_dir=(scene.road_dir @ rotation).astype(np.float32),
        light_xy=(scene.light_xy @ rotation + [east, north]).astype(np.float32),
    )
    steps = np.array([CURRENT, 50, 80])
    here, there = seen(scene, steps), seen(moved, steps)
    # Points of the map at equal distances may change places; what there is of them does not.
    for name in NAMES:
        if not name.startswith(("lane", "road", "light")):
            np.testing.assert_allclose(there[name], here[name], atol=5e-3, err_msg=name)


def test_many_moments_are_seen_as_one_by_one():
    scene = toy_scene(2)
    steps = np.arange(CURRENT, 91)
    together = seen(scene, steps)
    for step in (10, 47, 90):
        alone = seen(scene, step)
        for name in NAMES:
            assert alone[name][0] == together[name][step - CURRENT]


def test_a_driver_may_look_at_nobody_but_not_at_less():
    names = [column.name for column in columns(BICYCLE, View(nearest=0))]
    assert seen(toy_scene(), CURRENT, view=View(nearest=0), names=names)["own.vx"] > 5
    with pytest.raises(BadValues, match="nearest is -1"):
        View(nearest=-1)


def test_a_scene_without_map_and_lights_can_be_seen():
    scene = toy_scene()
    empty = {name: getattr(scene, name)[:0] for name in ("road_xy", "road_dir", "road_kind", "road_id")}
    empty |= {
        f"light_{name}": getattr(scene, f"light_{name}")[:, :0] for name in ("xy", "state", "lane", "valid")
    }
    found = seen(replace(scene, **empty), [CURRENT, 50])
    for name in NAMES:
        if name.startswith(("lane", "road", "light")):
            assert (found[name] == 0).all()
    assert (found["own.off_road"] == -20).all()
