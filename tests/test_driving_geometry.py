"""Boxes, polylines, edges of the road and routes, against numbers worked out by hand and plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.driving.geometry import (
    EDGE_RANGE,
    RoadEdges,
    corners,
    overlap,
    subdivide,
    thin,
    to_frame,
    wrap_angle,
)
from datasets_io.driving.route import Route


def box(x, y, heading, length, width):
    return np.array([[x, y, np.cos(heading), np.sin(heading), length, width]])


DIAGONAL = 1 + np.sqrt(2)
"""A square of side 2 at the origin ends at x = 1, one turned by 45° begins √2 before its centre."""


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (box(3.9, 0, 0, 4, 2), True),
        (box(4.1, 0, 0, 4, 2), False),
        (box(4, 0, 0, 4, 2), False),  # they touch
        (box(2.9, 0, np.pi / 2, 4, 2), True),
        (box(3.1, 0, np.pi / 2, 4, 2), False),
        (box(0, 0, 0.3, 0.5, 0.5), True),  # one inside the other
        (box(3.2, 2.2, np.pi / 4, 4, 2), True),
        (box(3.2, 2.2, -np.pi / 4, 4, 2), False),  # only a turned axis separates these
    ],
)
def test_boxes_overlap(second, expected):
    first = box(0, 0, 0, 4, 2)
    assert overlap(first, second) == [expected]
    assert overlap(second, first) == [expected]


@pytest.mark.parametrize(("gap", "expected"), [(-0.01, True), (0.01, False)])
def test_a_square_and_one_standing_on_its_corner(gap, expected):
    assert overlap(box(0, 0, 0, 2, 2), box(DIAGONAL + gap, 0, np.pi / 4, 2, 2)) == [expected]


POSITION, ANGLE, SIDE = st.floats(-4, 4), st.floats(-3.1, 3.1), st.floats(0.5, 5)


@given(POSITION, POSITION, ANGLE, SIDE, SIDE, ANGLE, SIDE, SIDE)
def test_overlap_is_what_sampled_points_say(x, y, turn, length, width, other, l2, w2):
    first, second = box(0, 0, turn, length, width), box(x, y, other, l2, w2)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 41)] * 2), -1).reshape(-1, 2) * [length, width]
    cos, sin = np.array([np.cos(turn)]), np.array([np.sin(turn)])
    points = to_frame(grid[None], cos, -sin) - [x, y]
    seen = np.abs(to_frame(points, np.cos([other]), np.sin([other]))[0])
    margin = 0.3
    if (seen < 0.5 * np.array([l2, w2]) - 1e-6).all(1).any():
        assert overlap(first, second)[0]
    elif not (seen < 0.5 * np.array([l2, w2]) + margin).all(1).any():
        assert not overlap(first, second)[0]


def test_corners_and_frames():
    found = corners(np.array([[10.0, 20.0]]), np.array([0.0]), np.array([1.0]), 4.0, 2.0)[0]
    np.testing.assert_allclose(found, [[9, 22], [9, 18], [11, 18], [11, 22]])
    ahead = to_frame(np.array([[[0.0, 3.0]]]), np.array([0.0]), np.array([1.0]))
    np.testing.assert_allclose(ahead, [[[3, 0]]])  # who looks north has the north ahead
    np.testing.assert_allclose(wrap_angle(np.array([np.pi, 3.0, 7.0])), [-np.pi, 3.0, 7 - 2 * np.pi])


def test_subdividing_keeps_points_and_joins_no_features():
    xy = np.array([[0, 0], [1, 0], [1, 2.5], [9, 9], [9, 10]], np.float32)
    points, source = subdivide(xy, np.array([0, 0, 0, 1, 1]), 1.0)
    expected = [[0, 0], [1, 0], [1, 2.5 / 3], [1, 5 / 3], [1, 2.5], [9, 9], [9, 10]]
    np.testing.assert_allclose(points, expected)
    assert source.tolist() == [0, 1, 1, 1, 2, 3, 4]


def test_thinning_keeps_the_first_point_of_each_feature():
    xy = np.stack([np.arange(20) * 0.5, np.zeros(20)], -1)
    feature = np.repeat([7, 3], [12, 8])
    assert thin(xy, feature, 2.0).tolist() == [0, 4, 8, 12, 16]
    assert thin(xy[:0], feature[:0], 2.0).tolist() == []


def edges(*lines):
    points = np.concatenate([np.array(line, np.float64) for line in lines])
    return RoadEdges(points, np.repeat(np.arange(len(lines)), [len(line) for line in lines]))


def test_the_road_is_to_the_left_of_its_edge():
    east = edges([(0, 0), (10, 0)])
    found = east.signed_distance(np.array([[5.2, 2.0], [5.2, -2.0], [13, 4], [13, -4], [5, 100], [5, -100]]))
    np.testing.assert_allclose(found, [-2, 2, -5, 5, -EDGE_RANGE, EDGE_RANGE])


def test_the_side_of_a_corner():
    corner = edges([(0, 0), (5, 0), (5, 5)])  # turns left: the road is inside
    found = corner.signed_distance(np.array([[4.0, 1.5], [6, 1], [4, -1], [6, 6]]))
    np.testing.assert_allclose(found, [-1, 1, 1, np.sqrt(2)])
    island = edges([(0, 0), (0, 2), (2, 2), (2, 0), (0, 0)])  # clockwise: the road is around it
    found = island.signed_distance(np.array([[1.0, 1.0], [3, 1], [-1, -1], [3, 3]]))
    np.testing.assert_allclose(found, [1, -1, -np.sqrt(2), -np.sqrt(2)])


def test_without_edges_everything_is_road():
    nothing = RoadEdges(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    assert nothing.signed_distance(np.zeros((3, 4, 2))).tolist() == [[-EDGE_RANGE] * 4] * 3
    point = edges([(0, 0)])
    assert (point.signed_distance(np.array([[1.0, 1.0], [-1, -1]])) < 0).all()


@given(st.integers(0, 10_000))
def test_distances_are_those_to_the_nearest_segment(seed):
    rng = np.random.default_rng(seed)
    lines = [np.cumsum(rng.normal(size=(6, 2)), axis=0) * 2 for _ in range(3)]
    points = rng.uniform(-8, 8, (20, 2))
    expected = np.full(20, np.inf)
    for line in lines:
        for start, end in pairwise(line):
            share = np.clip((points - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
            away = np.linalg.norm(points - start - share[:, None] * (end - start), axis=1)
            expected = np.minimum(expected, away)
    found = np.abs(edges(*lines).signed_distance(points))
    near = expected < EDGE_RANGE - 1
    assert (found[near] >= expected[near] - 1e-9).all()
    # Where edges cross, the nearest point may be another edge's: points are half a metre apart.
    assert (found[near] <= np.hypot(expected[near], 0.25) + 1e-9).all()


def test_a_route_around_a_corner():
    path = [(x, 0) for x in range(11)] + [(10, y) for y in range(1, 6)]
    route = Route(np.array(path, np.float32), 0.0)
    assert route.length == 15
    for xy, before, expected in (
        ((3.5, 1), 3, (3.5, 1)),
        ((12, 4.25), 14, (14.25, -2)),
        ((-3, 0), 1, (0, 3)),
        ((10, 9), 15, (15, 4)),
    ):
        found = route.locate(np.array([xy], np.float64), np.zeros((1, 2)), before)
        np.testing.assert_allclose(np.concatenate(found), expected)
    points, directions = route.at(np.array([[2.5, 12.0], [-1, 99]]))
    np.testing.assert_allclose(points, [[[2.5, 0], [10, 2]], [[0, 0], [10, 5]]])
    np.testing.assert_allclose(directions, [[[1, 0], [0, 1]], [[1, 0], [0, 1]]])


def test_a_place_on_a_route_follows_the_one_before():
    # 20 m east, 5 m back in reverse, and 15 m east again: three parts of the route in one place.
    x = np.concatenate([np.arange(0, 20, 0.5), np.arange(20, 15, -0.5), np.arange(15, 30.5, 0.5)])
    xy = np.stack([x, np.zeros_like(x)], -1)
    velocity = np.diff(xy, axis=0, append=[[30.5, 0]]) / 0.5
    route = Route(xy, 0.0)
    assert route.length == 40
    noise = np.random.default_rng(0).normal(size=xy.shape) * 0.05
    along, _ = route.locate(xy + noise, velocity, 0.0)
    np.testing.assert_allclose(along, np.arange(0, 40.5, 0.5), atol=0.5)
    one_by_one = [0.0]
    for place, speed in zip(xy + noise, velocity, strict=True):
        one_by_one.append(route.locate(place[None], speed[None], one_by_one[-1])[0][0])
    np.testing.assert_array_equal(one_by_one[1:], along)
    # A vehicle that stands where it has reversed to stays there, whatever its noisy speed says.
    still, _ = route.locate(np.array([[17.0, 0], [17, 0]]), np.array([[0.01, 0], [-0.01, 0]]), 23.0)
    np.testing.assert_allclose(still, 23)


def test_a_route_that_reverses_between_two_points():
    route = Route(np.array([[0.0, 0], [10.5, 0], [0, 0]]), 0.0)
    place, back = np.array([[9.0, 0]]), np.array([[-1.0, 0]])
    assert route.locate(place, back, 11.0)[0] == 12


def test_a_standing_vehicle_has_no_way_to_go():
    jitter = np.random.default_rng(0).normal(size=(81, 2)) * 0.05 + [4, 5]
    route = Route(jitter.astype(np.float32), np.pi / 2)
    assert route.length == 0
    along, lateral = route.locate(
        np.array([[3.0, 5.0]]) + (jitter[0] - [4, 5]).astype(np.float32), np.zeros((1, 2)), 0.0
    )
    np.testing.assert_allclose([along[0], lateral[0]], [0, 1], atol=1e-5)
    np.testing.assert_allclose(route.at(np.array([10.0]))[1], [[0, 1]], atol=1e-12)
