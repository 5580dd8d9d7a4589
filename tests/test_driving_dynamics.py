"""The bicycle and the delta model against hand-computed motion, and recordings as they drive them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.driving.dynamics import CONTROLLERS, MIN_TURNING_SPEED, find_controller, limits, track
from datasets_io.errors import UnknownName

BICYCLE, DELTA = CONTROLLERS["bicycle"], CONTROLLERS["delta"]
DT = 0.1


def state(x=0.0, y=0.0, heading=0.0, speed=0.0):
    return np.array([[x, y, heading, speed * np.cos(heading), speed * np.sin(heading)]])


def drive(model, start, actions):
    states = [start]
    for action in actions:
        states.append(model.forward(states[-1], np.array([action], np.float64), DT))
    return np.stack(states, 1)


def speeds(states):
    return states[..., 3] * np.cos(states[..., 2]) + states[..., 4] * np.sin(states[..., 2])


def test_a_straight_drive():
    # 10 m/s and 2 m/s² for 0.1 s: 1 m and half of 0.02 m.
    after = BICYCLE.forward(state(speed=10), np.array([[2.0, 0.0]]), DT)
    np.testing.assert_allclose(after, [[1.01, 0, 0, 10.2, 0]])


def test_a_turn_of_known_curvature():
    # 5 m/s on a circle of 10 m: 0.05 rad a step.
    states = drive(BICYCLE, state(speed=5), [(0, 0.1)] * 20)
    np.testing.assert_allclose(states[0, -1, 2], 1.0)
    np.testing.assert_allclose(states[0, -1, :2], [10 * np.sin(1), 10 * (1 - np.cos(1))], atol=0.3)
    np.testing.assert_allclose(states[0, -1, 3:], [5 * np.cos(1), 5 * np.sin(1)])


def test_braking_below_zero_reverses_without_turning_round():
    states = drive(BICYCLE, state(speed=0.3), [(-6, 0), (-6, 0), (0, 0)])
    np.testing.assert_allclose(speeds(states)[0], [0.3, -0.3, -0.9, -0.9])
    np.testing.assert_allclose(states[0, -1, :3], [0.0 - 0.06 - 0.09, 0, 0], atol=1e-12)


def test_delta_moves_in_the_vehicles_own_frame():
    after = DELTA.forward(state(heading=np.pi / 2), np.array([[1.0, 0.5, 0.2]]), DT)
    np.testing.assert_allclose(after, [[-0.5, 1, np.pi / 2 + 0.2, -5, 10]], atol=1e-12)


FINITE = st.floats(-50, 50, allow_subnormal=False)
ANGLE = st.floats(-3.1, 3.1)


@given(FINITE, FINITE, ANGLE, st.floats(-20, 20), st.floats(-6, 6), st.floats(-0.3, 0.3))
def test_the_bicycles_inverse_finds_the_action(x, y, heading, speed, acceleration, curvature):
    before = state(x, y, heading, speed)
    action = np.array([[acceleration, curvature]])
    after = BICYCLE.forward(before, action, DT)
    found = BICYCLE.inverse(before, after, DT)
    np.testing.assert_allclose(found[:, 0], action[:, 0], atol=1e-9)
    if min(abs(speed), abs(speed + acceleration * DT)) >= MIN_TURNING_SPEED + 1e-9:
        np.testing.assert_allclose(found[:, 1], action[:, 1], atol=1e-6)
    elif min(abs(speed), abs(speed + acceleration * DT)) < MIN_TURNING_SPEED - 1e-9:
        assert found[0, 1] == 0


@given(FINITE, FINITE, ANGLE, *[st.floats(-6, 6)] * 2, ANGLE)
def test_the_deltas_inverse_finds_the_action(x, y, heading, dx, dy, turn):
    before, action = state(x, y, heading, 3.0), np.array([[dx, dy, turn]])
    found = DELTA.inverse(before, DELTA.forward(before, action, DT), DT)
    np.testing.assert_allclose(found, action, atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from(["bicycle", "delta"]))
def test_tracked_actions_lead_to_the_tracked_states_and_stay_near(seed, name):
    rng = np.random.default_rng(seed)
    cars = 200  # one of four of them may be 0.2 m away: the claim is about the middle of many
    pushes = np.repeat(rng.uniform(-1.5, 1.5, (cars, 8)), 10, axis=1)
    turns = np.repeat(rng.uniform(-0.05, 0.05, (cars, 8)), 10, axis=1)
    start = np.concatenate([state(*rng.normal(size=3), rng.uniform(3, 15)) for _ in range(cars)])
    recorded = [start]
    for action in np.stack([pushes, turns], -1).swapaxes(0, 1):
        recorded.append(BICYCLE.forward(recorded[-1], action, DT))
    recorded = np.stack(recorded, 1)
    model = CONTROLLERS[name]
    tracked = track(model, recorded, DT)
    again = tracked.states[:, 0]
    np.testing.assert_allclose(again, recorded[:, 0], atol=1e-12)
    for step in range(80):
        again = model.forward(again, tracked.actions[:, step].astype(np.float64), DT)
        np.testing.assert_array_equal(again, tracked.states[:, step + 1])
    assert tracked.actions.dtype == np.float32
    assert (np.abs(tracked.actions) <= limits(model)).all()
    away = np.hypot(*(tracked.states - recorded)[..., :2].transpose(2, 0, 1)).mean(1)
    assert np.median(away) <= 0.06  # m, though pedal and wheel jump every second
    # A wheel that jumps may ask for more than there is: one to three of 16,000 steps in 3 % of such draws.
    assert tracked.clipped.sum() <= (8 if name == "bicycle" else 0)


@pytest.mark.parametrize(("name", "step"), [("bicycle", 3), ("delta", 2)])
def test_what_the_box_does_not_allow_is_clipped_and_said_so(name, step):
    recorded = np.repeat(state(speed=10)[:, None], 6, axis=1)
    recorded[0, :, 0] = [0, 1, 2, 30, 31, 32]  # it jumps by 28 m
    tracked = track(CONTROLLERS[name], recorded, DT)
    assert tracked.clipped[0, step]
    assert not tracked.clipped[0, :step].any()
    limit = limits(CONTROLLERS[name])
    assert (np.abs(tracked.actions) <= limit).all()
    assert tracked.actions[0, step, 0] == limit[0]


def test_a_standing_vehicle_does_not_spin():
    rng = np.random.default_rng(0)
    recorded = np.repeat(state(3, 4, 1.0, 0.0)[:, None], 81, axis=1)
    recorded += rng.normal(size=recorded.shape) * [0.02, 0.02, 0.05, 0.1, 0.1]
    tracked = track(BICYCLE, recorded, DT)
    assert (tracked.actions[..., 1] == 0).all()
    np.testing.assert_allclose(tracked.states[..., 2], recorded[0, 0, 2])
    assert np.abs(tracked.states[0, :, :2] - [3, 4]).max() < 0.2


def test_a_reversing_vehicle_is_followed_in_reverse():
    recorded = drive(BICYCLE, state(speed=-3), [(0, 0.05)] * 80)
    tracked = track(BICYCLE, recorded, DT)
    np.testing.assert_allclose(tracked.states[..., :2], recorded[..., :2], atol=0.1)
    assert (speeds(tracked.states) < -2.5).all()


def test_a_recording_of_one_moment_has_no_action():
    tracked = track(DELTA, state()[:, None], DT)
    assert (tracked.actions.shape, tracked.states.shape, tracked.clipped.shape) == (
        (1, 0, 3),
        (1, 1, 5),
        (1, 0),
    )


def test_an_unknown_controller_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="nearest: bicycle"):
        find_controller("bicicle")
