"""Check strategies over time: annealed shares, online rows, controlled regularisation; and resets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.replay.buffer import Layout, ReplayBuffer
from off2on.strategies.adaptive import Adaptive, AdaptiveOptions
from off2on.strategies.annealed import Annealed, AnnealedOptions
from off2on.strategies.online_only import OnlineOnly
from off2on.strategies.so2 import SO2, SO2Options

Make = Callable[..., Any]


def rows(online: int, capacity: int = 1000) -> ReplayBuffer:
    held = ReplayBuffer(Layout({"reward": 0}), 500, 500, capacity, torch.device("cpu"))
    held.data[:500] = 0.0
    if online:
        held.add(torch.ones(online, 1))
    return held


def offline_share(strategy: Any, size: int = 100) -> float:
    drawn = strategy.draw(20, size, torch.Generator().manual_seed(0))
    assert drawn.shape == (20, size)
    return float((drawn < 500).float().mean())


@pytest.mark.parametrize(
    ("added", "share"),
    # From 0.8 to 0.2 over the first half of 1,000 steps.
    [(0, 1.0), (1, 0.8), (125, 0.65), (250, 0.5), (500, 0.2), (900, 0.2)],
)
def test_an_annealed_share_falls_in_a_straight_line(added: int, share: float):
    options = AnnealedOptions(start=0.8, end=0.2, until=0.5)
    assert offline_share(Annealed(rows(added), options)) == pytest.approx(share)


@pytest.mark.parametrize(("added", "share"), [(0, 1.0), (1, 0.0), (1500, 0.0)])
def test_online_only_draws_offline_rows_only_while_there_are_no_others(added: int, share: float):
    assert offline_share(OnlineOnly(rows(added), OnlineOnly.Options())) == share


def test_so2_draws_a_tenth_online():
    assert offline_share(SO2(rows(10), SO2Options())) == pytest.approx(0.9)


# The controller.


def episode(
    returns: float, env: int = 0, steps: int = 2, ended: bool = True, first: int = 0
) -> dict[str, Any]:
    last = np.arange(steps) == steps - 1
    obs = first + np.arange(steps)[:, None]
    return {
        "obs": obs,
        "new_obs": obs + 1,
        "rewards": np.full(steps, returns / steps),
        "terminateds": np.zeros(steps, bool),
        "truncateds": last & ended,
        "env": np.full(steps, env),
    }


def test_the_controller_by_hand():
    strategy = Adaptive(rows(0), AdaptiveOptions(target=100.0, proportional=0.1, derivative=0.5))
    pulls = []
    for returns in (50, 60, 40, 120, 120, 60):
        strategy.on_collected(episode(returns))
        pulls.append(strategy.regularisation_scale)
    # The first only sets the stage. Then 1 - 0.1 (100 - 50)/100; - 0.1 (100 - 60)/100 + 0.5 (60 - 40)/100;
    # - 0.1 (100 - 40)/100; + 0.1 (120 - 100)/100; the same + 0.5 (120 - 60)/100, at most 1.
    assert pulls == pytest.approx([1.0, 0.95, 1.0, 0.94, 0.96, 1.0])


def test_without_a_target_it_wants_half_as_much_again_as_the_first_episode():
    for first, target in ((50.0, 75.0), (-50.0, -25.0)):
        strategy = Adaptive(rows(0), AdaptiveOptions())
        strategy.on_collected(episode(first))
        assert strategy.target == target


def test_a_falling_return_pulls_back_and_a_target_ahead_lets_go():
    strategy = Adaptive(rows(0), AdaptiveOptions(target=100.0))
    for _ in range(30):
        strategy.on_collected(episode(50))
    loose = strategy.regularisation_scale
    assert loose is not None
    assert loose < 0.5
    strategy.on_collected(episode(0))
    assert strategy.regularisation_scale is not None
    assert strategy.regularisation_scale > loose


@pytest.mark.parametrize(("continues", "expected"), [(2, 90.0), (0, 60.0)])
def test_an_episode_that_was_lost_adds_nothing_to_the_next_one(
    continues: int, expected: float, tmp_path: Path
):
    strategy = Adaptive(rows(0), AdaptiveOptions(target=100.0))
    strategy.on_collected(episode(30, ended=False))
    torch.save(strategy.state(), tmp_path / "state.pt")
    again = Adaptive(rows(0), AdaptiveOptions(target=100.0))
    again.load(torch.load(tmp_path / "state.pt", weights_only=True))
    for one in (strategy, again):
        one.on_collected(episode(60, first=continues))
        assert one.last == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 9))
def test_episodes_cut_anywhere_and_of_many_environments_are_seen_in_the_order_of_their_ends(
    cuts: list[int], seed: int
):
    rng = np.random.default_rng(seed)
    steps = sum(cuts)
    env = rng.integers(0, 3, steps)
    obs = np.array([(env[:step] == env[step]).sum() for step in range(steps)])[:, None]
    columns = {
        "obs": obs,
        "new_obs": obs + 1,
        "rewards": rng.normal(size=steps),
        "terminateds": rng.random(steps) < 0.2,
        "truncateds": rng.random(steps) < 0.2,
        "env": env,
    }
    whole, parts = (Adaptive(rows(0), AdaptiveOptions(target=3.0)) for _ in range(2))
    whole.on_collected(columns)
    start = 0
    for number, cut in enumerate(cuts):
        parts.on_collected({name: column[start : start + cut] for name, column in columns.items()})
        start += cut
        if number % 2:
            again = Adaptive(rows(0), AdaptiveOptions(target=3.0))
            again.load(parts.state())
            parts = again
    assert parts.regularisation_scale == pytest.approx(whole.regularisation_scale)
    for env, total in whole.running.items():
        assert parts.running[env] == pytest.approx(total)


@pytest.mark.usefixtures("data_root")
def test_the_learner_keeps_as_much_of_the_pull_as_the_controller_says():
    config = TD3BC.configure("toy-pendulum").training(hidden=(16, 16), batch_size=16, threads=1).offline(5)
    config.online(
        450, strategy="adaptive", rollout=30, utd=0.1, options={"target": 5000.0, "derivative": 0.0}
    )
    with config.build_algo() as algo:
        while not algo.finished:
            algo.train()
        (learner,) = algo.call_learners(lambda learner: learner)
        pull = learner.sampler.strategy.regularisation_scale
        assert 0 < pull < 1
        assert learner.hp.alpha == pytest.approx(2.5 / pull)
        assert learner.online_hp.alpha == 2.5


# Resets.


@pytest.mark.parametrize("recipe", [SAC, IQL])
def test_values_begin_anew_and_the_policy_goes_on(build_learner: Make, recipe: Any):
    learner = build_learner(recipe, updates=10)
    learner.online_settings = learner.online_settings.__class__(resets=4)
    learner.advance(10)
    learner.go_online()

    def vectors() -> dict[str, torch.Tensor]:
        return {name: flat.vector.clone() for name, flat in learner.flat.items()}

    first = vectors()
    learner.advance(4)
    before = vectors()
    assert (before["critic"] - first["critic"]).abs().max() < 0.05, "four small steps"
    assert not learner._is_reset_due()
    learner.updates += 1  # as `advance` counts before it updates
    assert learner._is_reset_due()
    learner._reset_value_networks()
    learner.updates -= 1
    after = vectors()
    for name in before:
        moved = (after[name] - before[name]).abs().max()
        assert (moved > 0.05) == (name in ("critic", "value")), name
    for target, network in learner.target_pairs:
        assert torch.equal(target.vector, network.vector)
    assert not learner.get_optimizer("default_policy", "critic").state
    assert learner.get_optimizer("default_policy", "actor").state
    assert learner.advance(2)["critic/loss"] > 0
