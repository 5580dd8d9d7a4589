"""Targets of several steps: ``augment=steps:N`` for every algorithm that learns from one step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.iql import IQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import HyperparameterError
from off2on.policy import load_policy
from off2on.replay.augmentation.catalogue import incompatibility
from off2on.replay.augmentation.compose import episode_augmentations
from off2on.replay.augmentation.steps import Steps
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.transforms import Transforms
from off2on.replay.windows import episode_ends
from off2on.runs.tables import read_metrics
from off2on.training.handover_report import first_transitions
from off2on.training.plan import Plan
from off2on.training.train import train

CPU = torch.device("cpu")
Build = Callable[..., Any]


def looped(columns: dict[str, Any], last: Any, steps: int, discount: float) -> list[tuple[float, Any, float]]:
    """Reward, next observation and mask of each row, by a loop over the rows of its episode."""
    found = []
    for start in range(len(last)):
        total, factor, row = 0.0, 1.0, start
        while True:
            total += factor * columns["reward"][row]
            if last[row] or row == len(last) - 1 or row == start + steps - 1:
                break
            row, factor = row + 1, factor * discount
        found.append((total, columns["next_obs"][row], factor * columns["mask"][row]))
    return found


def compare(changed: dict[str, Any], expected: list[tuple[float, Any, float]]) -> None:
    rewards, observations, masks = map(np.array, zip(*expected, strict=True))
    np.testing.assert_allclose(changed["reward"], rewards, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(changed["next_obs"], observations)
    np.testing.assert_allclose(changed["mask"], masks, rtol=1e-6)


def test_three_steps_by_hand():
    # An episode of four steps that ends by itself, and one of two that a time limit cuts off.
    columns = {
        "obs": np.array([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0]], np.float32),
        "reward": np.array([1, 2, 4, 8, 16, 32], np.float32),
        "next_obs": np.array([[1.0], [2.0], [3.0], [4.0], [11.0], [12.0]], np.float32),
        "mask": np.array([1, 1, 1, 0, 1, 1], np.float32),
    }
    last = np.array([False, False, False, True, False, True])
    changed = Steps(3.0).change(columns, last, 0.5)
    assert changed["reward"].tolist() == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8, 16 + 16, 32]
    assert changed["next_obs"][:, 0].tolist() == [3, 4, 4, 4, 12, 12]
    assert changed["mask"].tolist() == [0.25, 0, 0, 0, 0.5, 1]
    assert changed["obs"] is columns["obs"]
    assert {name: column.dtype for name, column in changed.items()} == dict.fromkeys(columns, np.float32)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.integers(0, 99),
)
def test_windows_are_those_of_a_loop_over_episodes(
    episodes: list[tuple[int, bool]], steps: int, discount: float, seed: int
):
    rng = np.random.default_rng(seed)
    last = np.concatenate([np.arange(length) == length - 1 for length, _ in episodes])
    terminated = np.concatenate([(np.arange(length) == length - 1) & ends for length, ends in episodes])
    columns = {
        "reward": rng.normal(size=len(last)).astype(np.float32),
        "next_obs": rng.normal(size=(len(last), 2)).astype(np.float32),
        "mask": 1 - terminated.astype(np.float32),
    }
    compare(Steps(float(steps)).change(columns, last, discount), looped(columns, last, steps, discount))


def test_rows_without_a_marked_end_end_with_the_last():
    assert episode_ends(np.zeros(3, bool)).tolist() == [2, 2, 2]
    assert episode_ends(np.array([True])).tolist() == [0]


def offline(shards: Shards, words: tuple[str, ...], rank: int = 0, world: int = 1, **given: Any) -> Any:
    options = {"budget": 10**9, "capacity": 0, "device": CPU, "seed": 0} | given
    transforms = Transforms.of(shards, IQL.Hyperparameters())
    return OfflineRows(
        shards, IQL.columns, transforms, discount=0.9, partition=(rank, world),
        changes=episode_augmentations(words), **options,
    )  # fmt: skip


def test_offline_rows_are_windows_of_the_data_whoever_holds_them(wide: Shards):
    names = ["obs", "new_obs", "actions", "rewards", "terminateds", "last"]
    raw = wide.read_all(names)
    plain = Transforms.of(wide, IQL.Hyperparameters()).apply(raw)
    expected = looped(plain, raw["last"], 4, 0.9)
    rows = offline(wide, ("steps:4",)).rows
    held = rows.layout.split(rows.data)
    compare({name: getattr(held, name).numpy() for name in ("reward", "next_obs", "mask")}, expected)
    assert (held.mask.numpy() == 0).sum() == 6 * 4  # the last four rows of each episode that terminated
    # A learner's part may begin within an episode; windows go on into the part of the other.
    halves = [offline(wide, ("steps:4",), rank, 2).rows for rank in range(2)]
    assert sorted(map(tuple, torch.cat([half.data for half in halves]).tolist())) == sorted(
        map(tuple, rows.data.tolist())
    )


def test_streamed_rows_are_the_held_ones(wide: Shards):
    held = {tuple(row) for row in offline(wide, ("steps:4",)).rows.data.tolist()}
    stream = offline(wide, ("steps:4",), budget=4 * 15 * 50)
    assert stream.streams
    for _ in range(12):
        assert {tuple(row) for row in stream.rows.data.tolist()} <= held
        stream.slide(40)


TAKES_NONE = {
    "bc": "'reward'",
    "filtered_bc": "'reward'",
    "discrete_bc": "'reward'",
    "dt": "'next_obs'",
    "rebrac": "'last'",
    "awr": "'last'",
    "cal_ql": "'ret'",
    "mopo": "a model",
    "combo": "a model",
    "mobile": "a model",
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_algorithms_that_need_single_steps_refuse_longer_ones(name: str):
    reason = incompatibility(Steps, find_algorithm(name))
    assert (reason is None) == (name not in TAKES_NONE)
    assert TAKES_NONE.get(name, "") in (reason or "")


def refusal(recipe: Any, data: str, given: dict[str, Any], **online: Any) -> str:
    config = recipe.configure(data).training(**given)
    with pytest.raises(HyperparameterError) as found:
        config.online(10, **online).validate() if online else config.validate()
    return f"{found.value} {found.value.expected}"


@pytest.mark.usefixtures("data_root")
def test_what_does_not_go_with_several_steps_is_refused_before_anything_starts():
    assert "whole number" in refusal(IQL, "toy-pendulum", {"augment": "steps:2.5"})
    assert "[1, 100]" in refusal(IQL, "toy-pendulum", {"augment": "steps:0"})
    assert "'last'" in refusal(find_algorithm("rebrac"), "toy-pendulum", {"augment": "steps:3"})
    assert "rows of one step" in refusal(IQL, "toy-pendulum", {"augment": "steps:3,mixup"})
    assert "both phases" in refusal(IQL, "toy-pendulum", {"augment": "steps:3"}, discount=0.9)
    IQL.configure("toy-pendulum").training(augment="steps:1,mixup").online(10, discount=0.9).validate()


def collected(rewards: list[float], ends: str = "", env: int = 0, start: int = 0) -> dict[str, Any]:
    """A rollout of one environment whose observations count from `start`; `ends`: how its last row does."""
    count = len(rewards)
    obs = np.tile(np.arange(start, start + count + 1, dtype=np.float32)[:, None], 3)
    at_end = np.arange(count) == count - 1
    return {
        "obs": obs[:-1], "new_obs": obs[1:], "actions": np.zeros((count, 1), np.float32),
        "rewards": np.array(rewards, np.float64), "terminateds": at_end & (ends == "terminated"),
        "truncateds": at_end & (ends == "truncated"), "env": np.full(count, env),
    }  # fmt: skip


def test_online_rows_wait_for_the_end_of_their_episode(data_root: Path):
    config = IQL.configure("toy-pendulum").offline(1).online(100)
    raw = {"reward": "raw", "normalise_obs": False, "discount": 0.5}
    config.training(threads=1, hidden=(16, 16), batch_size=16, augment="steps:3", **raw)
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    learner.build()
    learner.go_online()
    learner.add(collected([1, 2]), 0)
    assert learner.rows.online == 0  # how they go on is not yet known
    learner.add(collected([7, 7], env=1), 2)
    kept = learner.sampler.state()
    learner.sampler.load(kept)  # as a resumed run does
    learner.add(collected([4, 8], "terminated", start=2), 4)
    assert learner.rows.online == 4
    learner.add(collected([6], "truncated", env=1, start=2), 6)
    batch = learner.rows.layout.split(learner.rows.data[learner.rows.offline :][:7])
    assert batch.reward.tolist() == [3, 6, 8, 8, 7 + 3.5 + 1.5, 7 + 3, 6]
    assert batch.mask.tolist() == [0.25, 0, 0, 0, 0.25, 0.5, 1]  # of the time limit a value goes on
    assert batch.next_obs[:, 0].tolist() == [3, 4, 4, 4, 3, 3, 3]
    assert batch.obs[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_the_transforms_of_both_phases_are_compared_by_whole_rows(build_learner: Build):
    learner = build_learner(IQL, "wide", augment="steps:3", reward="standardise")
    offline_rows, online_rows = first_transitions(learner, 64)
    assert {"obs", "action", "reward", "next_obs", "mask"} == online_rows.keys()
    for name, column in online_rows.items():
        np.testing.assert_array_equal(column, offline_rows[name])


def finished(out: Path, **given: Any) -> tuple[list[dict[str, str]], torch.Tensor]:
    """The numbers and the last actions of a run with a handover, of episodes of Pendulum."""
    plan = Plan(
        "td3_bc", "toy-pendulum", {"hidden": "16,16", "batch_size": "16", **given}, updates=20, online=220,
        eval_every=110, eval_episodes=1, threads=1, out=str(out),
    )  # fmt: skip
    folder = train(plan)
    timed = {"wall_s", "updates_per_s", "steps_per_s"}
    rows = [{key: value for key, value in row.items() if key not in timed} for row in read_metrics(folder)]
    return rows, load_policy(folder / "policy.pt")(torch.linspace(-1, 1, 60).view(20, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("data_root")
def test_one_step_is_nothing_and_three_are_something_in_a_whole_run(tmp_path: Path):
    plain = finished(tmp_path / "plain")
    one = finished(tmp_path / "one", augment="steps:1")
    assert one[0] == plain[0]
    assert torch.equal(one[1], plain[1])
    three = finished(tmp_path / "three", augment="steps:3")
    assert not torch.isclose(three[1], plain[1]).all()
    handover = (tmp_path / "three/toy-pendulum").glob("*/handover.yaml")
    assert "the phases differ" not in next(handover).read_text()


def test_an_update_is_that_of_a_learner_whose_rows_were_written_by_hand(build_learner: Build):
    one, two = (build_learner(TD3BC, "wide", augment=words) for words in ("steps:3", ""))
    assert not torch.equal(one.rows.data, two.rows.data)
    raw = one.sampler.source.reader.shards.read_all(
        ["obs", "new_obs", "actions", "rewards", "terminateds", "last"]
    )
    plain = one.sampler.source.transforms.apply(raw)
    for row, (reward, next_obs, mask) in enumerate(looped(plain, raw["last"], 3, one.hp.discount)):
        batch = two.rows.layout.split(two.rows.data[row])
        batch.reward.fill_(float(np.float32(reward)))
        batch.mask.fill_(float(np.float32(mask)))
        batch.next_obs.copy_(torch.from_numpy(next_obs))
    torch.testing.assert_close(one.rows.data, two.rows.data)
    logged = one.advance(5), two.advance(5)
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)
