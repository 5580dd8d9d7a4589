"""The online phase of the learner on a real Ray."""

import sys
from pathlib import Path

import pytest
import torch
from ray import cloudpickle
from real_learners import ask, online_config, same

from datasets_io import Shards
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.rllib.learner import RecipeLearner

# Workers cannot import the tests: what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("data_root")


def test_the_policy_is_the_same_just_before_and_just_after_the_handover(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    with online_config(IQL).build_algo() as algo:
        algo.train()
        assert not algo.is_online
        before = algo.policy()(obs)
        algo.go_online()
        assert algo.is_online
        assert algo.env_steps == 0
        assert torch.equal(algo.policy()(obs), before)
        runner = algo.env_runner_group.local_env_runner
        assert torch.equal(runner.module.policy(obs), before)


def test_online_steps_and_updates_keep_pace():
    with online_config(IQL, utd=0.25).build_algo() as algo:
        algo.train()
        algo.pause_at = 1
        seen = []
        while not algo.finished:
            result = algo.train()
            seen.append((result["updates"], result["env_steps"]))
        # 10 offline; 1 step alone, since it was told to pause; then 20 by 20, a quarter of an update each
        assert [steps for _, steps in seen] == [1, 21, 41, 60]
        assert [updates - 10 for updates, _ in seen] == [0, 5, 10, 15]
        assert ask(algo)[0]["added"] == 60


def test_runners_get_the_weights_that_were_learned(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    with online_config(IQL).build_algo() as algo:
        before = algo.policy()(obs)
        while not algo.finished:
            algo.train()
            if algo.is_online:
                now = algo.policy()(obs)
                assert torch.equal(algo.env_runner_group.local_env_runner.module.policy(obs), now)
                assert not torch.equal(now, before)
                before = now


@pytest.mark.parametrize("strategy", ["append", "symmetric", "balanced"])
def test_a_resumed_online_run_has_all_it_had(strategy: str, tmp_path: Path):
    config = online_config(IQL, strategy=strategy, replay_capacity=30)
    with config.build_algo() as whole:
        while whole.env_steps < 40:  # more than the ring holds
            whole.train()
        folder = whole.save_to_path(str(tmp_path / "checkpoint"))
        with config.copy(copy_frozen=False).build_algo() as resumed:
            resumed.restore_from_path(folder)
            assert (resumed.updates, resumed.env_steps, resumed.is_online) == (50, 40, True)
            assert same(ask(resumed), ask(whole))
            assert ask(resumed)[0]["strategy"][0].lower() == strategy
            assert ask(resumed)[0]["added"] == 40
            # The next updates, on the same rows, are the same too.
            assert ask(resumed, RecipeLearner.advance, updates=7) == ask(
                whole, RecipeLearner.advance, updates=7
            )
            assert same(ask(resumed), ask(whole))
            # And it can go on collecting.
            resumed.train()
            assert resumed.finished


def test_a_handover_may_be_crossed_again_with_another_strategy(tmp_path: Path):
    with online_config(CQL, strategy="append").build_algo() as algo:
        algo.train()
        folder = algo.save_to_path(str(tmp_path / "handover"))
        nets = ask(algo)[0]["nets"]
    with online_config(CQL, strategy="symmetric").build_algo() as other:
        other.restore_from_path(folder)
        assert same(ask(other)[0]["nets"], nets)
        other.train()
        assert ask(other)[0]["strategy"][0] == "Symmetric"
        assert other.latest_metrics["offline_share"] == 0.5
