"""Histories: their rows, what a policy sees of them, and the memory that keeps them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from histories import random_histories
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.dt import DT
from off2on.policy import Policy, history_of
from off2on.recipe.acting_memory import ActionQueue, History, memory_for
from off2on.recipe.histories import split
from off2on.replay.transforms import Transforms
from off2on.replay.windows import Histories
from off2on.training.evaluate import numpy_policy

Build = Callable[..., Any]


def test_a_history_of_three_by_hand():
    columns = {
        "obs": np.array([[10], [20], [30], [40], [50], [60]], np.float32),
        "action": np.array([[1], [2], [3], [4], [5], [6]], np.float32),
        "reward": np.array([1, 2, 4, 8, 16, 32], np.float32),
    }
    last = np.array([False, False, False, True, False, False])  # what is held of an episode may be cut off
    found = Histories(3).change(columns, last, 0.5)
    none = [0, 0, 0, 0]
    assert found["obs"].reshape(6, 3, 4).tolist() == [
        [none, none, [10, 0, 15, 1]],
        [none, [10, 1, 15, 1], [20, 0, 14, 2]],
        [[10, 1, 15, 1], [20, 2, 14, 2], [30, 0, 12, 3]],
        [[20, 2, 14, 2], [30, 3, 12, 3], [40, 0, 8, 4]],
        [none, none, [50, 0, 48, 1]],
        [none, [50, 5, 48, 1], [60, 0, 32, 2]],
    ]
    assert found["action"] is columns["action"]
    assert Histories(3).widths({"obs": 1, "action": 1, "reward": 0}) == {"obs": 12, "action": 1, "reward": 0}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 7), st.integers(0, 99))
def test_histories_are_those_of_a_loop_over_episodes(sizes: list[int], length: int, seed: int):
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    obs, action = rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    reward = rng.normal(size=count).astype(np.float32)
    last = np.concatenate([np.arange(size) == size - 1 for size in sizes])
    columns = {"obs": obs.astype(np.float32), "action": action.astype(np.float32), "reward": reward}
    found = Histories(length).change(columns, last, 0.9)["obs"].reshape(count, length, 7)
    start = 0
    for size in sizes:
        for row in range(start, start + size):
            for place in range(length):
                step = row - (length - 1) + place
                expected = np.zeros(7)
                if step >= start:
                    expected[:3] = obs[step]
                    expected[3:5] = action[step] if step < row else 0
                    expected[5:] = reward[step : start + size].sum(), step - start + 1
                np.testing.assert_allclose(found[row, place], expected, rtol=1e-5, atol=1e-5)
        start += size


def test_a_learner_holds_the_histories_of_its_data(build_learner: Build, wide: Shards):
    learner = build_learner(DT, "wide", context=3)
    raw = wide.read_all(["obs", "actions", "rewards", "last"])
    plain = Transforms.of(wide, learner.hp).apply(raw)
    rows = learner.rows.layout.split(learner.rows.data)
    assert rows.obs.shape == (wide.rows, 3 * 10)
    steps = split(rows.obs, 3, 5)
    np.testing.assert_array_equal(steps.obs[:, -1].numpy(), plain["obs"])
    np.testing.assert_array_equal(rows.action.numpy(), plain["action"])
    firsts = np.flatnonzero(steps.number[:, -1].numpy() == 1)
    assert len(firsts) == wide.episodes
    np.testing.assert_allclose(steps.ret[firsts, -1, 0].numpy(), wide.returns, rtol=1e-4, atol=1e-3)
    assert all(np.isfinite(value) for value in learner.advance(3).values())


def actor_of(problem: Build, **given: Any) -> Any:
    case = problem(DT, blocks=2, heads=2, context=6, **given)
    for parameter in case.nets.actor.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return case.nets.actor


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("part", ["obs", "action", "ret"])
@torch.no_grad()
def test_later_steps_do_not_change_what_a_policy_says_before_them(problem: Build, part: str, place: int):
    actor, before = actor_of(problem), random_histories(32, 6, 5, 3)
    view = before.view(32, 6, 10)
    view[..., -1] = torch.arange(1, 7)  # all steps are in the episode
    other = view.clone()
    columns = {"obs": slice(0, 5), "action": slice(5, 8), "ret": slice(8, 9)}[part]
    other[:, place, columns] += 1.0
    one, two = actor(before), actor(other.flatten(1))
    first = place + (part == "action")  # an action is decided before it is seen
    assert torch.equal(one[:, :first], two[:, :first])
    for later in range(first, 6):
        assert not torch.isclose(one[:, later], two[:, later]).all(), later


@torch.no_grad()
def test_what_is_before_the_start_of_an_episode_changes_nothing(problem: Build):
    actor, history = actor_of(problem), random_histories(64, 6, 5, 3)
    steps = history.view(64, 6, 10)
    outside = steps[..., -1:] == 0
    assert 0 < outside.float().mean() < 1
    noise = torch.randn_like(steps)
    noise[..., -1] = 0
    found = actor((steps + outside * noise).flatten(1))
    inside = ~outside.squeeze(-1)
    torch.testing.assert_close(found[inside], actor(history)[inside], rtol=0, atol=0)
    short = (steps[:, :3, -1] == 0).all(1)  # three steps or fewer: a policy of three sees the same
    assert short.any()
    longer = actor(history)[short, 3:]
    actor.context = 3
    shorter = actor(steps[short, 3:].flatten(1))
    torch.testing.assert_close(shorter[inside[short, 3:]], longer[inside[short, 3:]])


def test_a_memory_keeps_the_steps_of_each_environment():
    seen: list[Any] = []

    def decide(history: Any) -> Any:
        seen.append(history.copy())
        return history[:, -1, :1] + 0.5

    memory = History(2, 3, 4)
    assert memory.next(np.array([[1.0], [2.0]]), decide).tolist() == [[1.5], [2.5]]
    memory.record(np.array([10.0, 20.0]))
    memory.next(np.array([[3.0], [4.0]]), decide)
    memory.record(np.array([100.0, 200.0]))
    memory.clear([1])  # its episode has ended
    memory.next(np.array([[5.0], [6.0]]), decide)
    none = [0, 0, 0, 0]
    assert seen[0].tolist() == [[none, none, [1, 0, 0, 1]], [none, none, [2, 0, 0, 1]]]
    assert seen[1].tolist() == [
        [none, [1, 1.5, 0, 1], [3, 0, 10, 2]],
        [none, [2, 2.5, 0, 1], [4, 0, 20, 2]],
    ]
    assert seen[2].tolist() == [
        [[1, 1.5, 0, 1], [3, 3.5, 10, 2], [5, 0, 110, 3]],
        [none, none, [6, 0, 0, 1]],
    ]


def test_a_policy_gets_the_memory_that_it_needs(problem: Build):
    transforms = Transforms((0.0,) * 5, (1.0,) * 5, (-1.0,) * 3, (1.0,) * 3)
    policies = [Policy(kind, (case := problem(kind)).nets, case.hp, transforms) for kind in (DT, BC)]
    shapes = [history_of(policy) for policy in policies]
    assert shapes == [(4, 10), None]
    history, queue = (memory_for(numpy_policy(policy), 3) for policy in policies)
    assert isinstance(history, History)
    assert history.steps.shape == (3, 4, 10)
    assert isinstance(queue, ActionQueue)
    assert isinstance(memory_for(lambda obs: obs, 3), ActionQueue)
