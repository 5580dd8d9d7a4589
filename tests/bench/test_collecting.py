"""Environment steps per second of our runner, against a bare Gymnasium vector environment."""

import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from harness import in_turns, report

from off2on.algorithms.iql import IQL
from off2on.rllib.env_runner import RecipeEnvRunner

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("envs", [1, 8])
@pytest.mark.parametrize("data", ["toy", "halfcheetah"])
def test_collecting_against_a_bare_vector_environment(data, envs, request):
    torch.set_num_threads(1)
    shards = request.getfixturevalue(data)
    config = IQL.configure(shards.path).env_runners(num_envs_per_env_runner=envs)
    runner = RecipeEnvRunner(config=config, worker_index=0)
    bare = gym.make_vec(shards.env_id, num_envs=envs, vectorization_mode="sync")
    bare.reset(seed=0)
    low, high = shards.action_space.low, shards.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (envs, len(low))).astype(np.float32)

    def ours(steps: int) -> float:
        started = time.perf_counter()
        runner.sample(num_timesteps=steps)
        return time.perf_counter() - started

    def peer(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps // envs):
            bare.step(actions)
        return time.perf_counter() - started

    report(f"steps {shards.env_id} × {envs} / bare, no policy", in_turns(ours, peer, 2000))
    bare.close()
    runner.stop()
