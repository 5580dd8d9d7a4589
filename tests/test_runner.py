"""Check the environment runner: correct transitions, and runners that die."""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.tune.registry import register_env

from datasets_io import Shards
from off2on.algorithms.iql import IQL
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.seeding import EPISODES, seed_of

pytestmark = pytest.mark.usefixtures("data_root")


def online_config(steps: int = 60) -> Any:
    config = IQL.configure("toy-pendulum").training(hidden=(32, 32), batch_size=32, threads=1)
    return config.offline(10).online(steps, strategy="balanced", rollout=20)


def pendulum_reward(obs: Any, action: Any) -> Any:
    angle = np.arctan2(obs[:, 1], obs[:, 0])
    return -(angle**2 + 0.1 * obs[:, 2] ** 2 + 0.001 * action[:, 0].clip(-2, 2) ** 2)


@pytest.mark.parametrize("envs", [1, 3])
def test_runners_record_honest_transitions(envs: int):
    config = online_config().env_runners(num_envs_per_env_runner=envs)
    with config.build_algo() as algo:
        algo.go_online()
        runner = algo.env_runner_group.local_env_runner
        asked = (1, 7, 450 * envs)
        parts = [runner.sample(num_timesteps=count) for count in asked]
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    given = [len(part.columns["rewards"]) for part in parts]
    assert all(wanted <= got < wanted + envs for wanted, got in zip(asked, given, strict=True))
    np.testing.assert_allclose(
        pendulum_reward(columns["obs"], columns["actions"]), columns["rewards"], atol=1e-3
    )
    assert np.abs(columns["actions"]).max() <= 2
    # Pendulum never terminates; its limit is 200 steps, and no row is spent on a reset.
    assert not columns["terminateds"].any()
    assert columns["truncateds"].sum() == 2 * envs
    follows = ~columns["truncateds"][:-envs]
    np.testing.assert_array_equal(columns["new_obs"][:-envs][follows], columns["obs"][envs:][follows])
    assert not np.allclose(columns["new_obs"][:-envs][~follows], columns["obs"][envs:][~follows])
    # The episodes' returns are sums of what was recorded.
    ended = [(ret, length) for part in parts for ret, length in zip(part.returns, part.lengths, strict=True)]
    assert [length for _, length in ended] == [200] * 2 * envs
    per_env = [columns["rewards"][env::envs] for env in range(envs)]
    sums = [rewards[start : start + 200].sum() for start in (0, 200) for rewards in per_env]
    np.testing.assert_allclose([ret for ret, _ in ended], sums, rtol=1e-5)


def test_one_in_a_dead_ones_place_does_not_begin_with_the_same_episodes():
    def first(taken: int) -> Any:
        config = online_config().copy(copy_frozen=False)
        return (
            RecipeEnvRunner(config=config, worker_index=1).sample(num_timesteps=1, taken=taken).columns["obs"]
        )

    np.testing.assert_array_equal(first(0), first(0))
    assert not np.array_equal(first(0), first(40))


@pytest.mark.parametrize("vectorised", ["SYNC", "ASYNC"])
def test_steps_are_those_of_gymnasiums_vector_environment(vectorised: str):
    config = online_config().env_runners(
        num_envs_per_env_runner=2, gym_env_vectorize_mode=gym.VectorizeMode[vectorised]
    )
    runner = RecipeEnvRunner(config=config, worker_index=0)
    columns = runner.sample(num_timesteps=2 * 201).columns
    runner.stop()
    peer = SyncVectorEnv([lambda: gym.make(config.env)] * 2, autoreset_mode=AutoresetMode.DISABLED)
    obs, _ = peer.reset(seed=[seed_of(EPISODES, config.seed, env, 0) % 2**31 for env in range(2)])
    for step in range(200):
        rows = slice(2 * step, 2 * step + 2)
        np.testing.assert_array_equal(columns["obs"][rows], obs)
        obs, *others, _ = peer.step(columns["actions"][rows])
        for name, values in zip(
            ("new_obs", "rewards", "terminateds", "truncateds"), (obs, *others), strict=True
        ):
            assert columns[name].dtype == values.dtype
            np.testing.assert_array_equal(columns[name][rows], values)
    assert columns["truncateds"][398:400].all()
    obs, _ = peer.reset(seed=[seed_of(EPISODES, config.seed, env, 1) % 2**31 for env in range(2)])
    np.testing.assert_array_equal(columns["obs"][400:], obs)


class Uneven(gym.Env[Any, Any]):
    """Its second environment ends every third step; observations name the environment and the step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
    made = 0

    def __init__(self) -> None:
        self.number, self.steps = Uneven.made, 0
        Uneven.made += 1

    def reset(self, **_: Any) -> Any:
        self.steps = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.seen(), np.float32(self.steps), False, self.number == 1 and self.steps == 3, {}

    def seen(self) -> Any:
        return np.array([self.number, self.steps, 0], np.float32)


def test_an_episode_goes_on_while_another_environment_starts_again():
    Uneven.made = 0
    register_env("uneven", lambda _: Uneven())
    config = online_config().environment("uneven").env_runners(num_envs_per_env_runner=2)
    rollout = RecipeEnvRunner(config=config, worker_index=0).sample(num_timesteps=16)
    steps = rollout.columns["obs"][:, 1].reshape(8, 2).T.tolist()
    assert steps == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 0, 1, 2, 0, 1]]
    assert (rollout.returns, rollout.lengths) == ([6.0, 6.0], [3, 3])


def test_weights_of_the_learner_are_taken_over():
    config = online_config()
    runner, other = (RecipeEnvRunner(config=config.copy(copy_frozen=False), worker_index=0) for _ in range(2))
    first = runner.sample(num_timesteps=5).columns
    for parameter in other.module.parameters():
        parameter.data += 0.1
    runner.set_state({"rl_module": other.module.get_state()})
    runner.num_env_steps_sampled_lifetime, runner._obs = 0, None
    runner._episode[:] = -1
    again, expected = runner.sample(num_timesteps=5).columns, other.sample(num_timesteps=5).columns
    np.testing.assert_array_equal(again["obs"][0], first["obs"][0])
    assert not np.array_equal(again["actions"], first["actions"])
    np.testing.assert_array_equal(again["actions"], expected["actions"])


def test_observations_of_another_shape_are_refused():
    runner = RecipeEnvRunner(config=online_config(), worker_index=0)
    runner.sample(num_timesteps=1)
    runner.env.envs[0].step = lambda _: (np.zeros(1, np.float32), 0.0, False, False, {})
    with pytest.raises(ValueError, match=r"shape \(1,\), of \(3,\)"):
        runner.sample(num_timesteps=1)


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(300):
        if done():
            return
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_killed_runner_is_replaced_by_one_with_the_current_weights(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    config = online_config(steps=80).env_runners(num_env_runners=1)
    with config.build_algo() as algo:
        while algo.env_steps < 20:
            algo.train()
        group = algo.env_runner_group
        (runner,) = group.healthy_worker_ids()
        ray.kill(group._worker_manager.actors()[runner], no_restart=False)
        wait_until(lambda: group.foreach_env_runner(lambda runner: runner.worker_index) == [])  # noticed
        wait_until(lambda: algo.restore_env_runners(group) == [runner])
        (answer,) = group.foreach_env_runner(lambda runner: runner.module.policy(obs))
        assert torch.equal(answer, algo.policy()(obs))
        while not algo.finished:
            algo.train()
        (added,) = algo.learner_group.foreach_learner(lambda learner: learner.rows.added)
        assert algo.env_steps == added.get() == 80


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_run_goes_on_while_its_runner_is_replaced():
    config = online_config(steps=40).env_runners(num_env_runners=1)
    with config.build_algo() as algo:
        while algo.env_steps < 20:
            algo.train()
        group = algo.env_runner_group
        ray.kill(group._worker_manager.actors()[group.healthy_worker_ids()[0]], no_restart=False)
        for _ in range(100):
            if algo.finished:
                break
            algo.train()
        assert algo.finished
