"""Environments of the real `gym` package, of both its interfaces, as Gymnasium environments and online."""

import copy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from datasets_io import Episode, Source
from datasets_io.environments import make
from datasets_io.ingestion.ingest import ingest
from datasets_io.legacy_gym import adapt, time_limit
from off2on.algorithms.iql import IQL
from off2on.training.evaluate import evaluate, numpy_policy

gym = pytest.importorskip("gym", reason="the legacy package gym is not installed")


class Cart:
    """Pushed along a line until it leaves [-1, 1]; the same in both interfaces."""

    def __init__(self, start: float = 0.0) -> None:
        self.observation_space = gym.spaces.Box(-2, 2, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.start, self.random = start, np.random.default_rng(0)

    def begin(self) -> np.ndarray[Any, Any]:
        self.x, self.v = self.start + self.random.uniform(-0.1, 0.1), 0.0
        return np.array([self.x, self.v], np.float32)

    def move(self, action: Any) -> tuple[Any, float, bool]:
        self.v += 0.1 * float(action[0])
        self.x += self.v
        return np.array([self.x, self.v], np.float32), 1.0 - abs(self.x), abs(self.x) > 1


class Old(Cart, gym.Env):
    """As gym 0.21 had it."""

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.random = np.random.default_rng(seed)
        return [seed]

    def reset(self) -> Any:
        return self.begin()

    def step(self, action: Any) -> Any:
        return (*self.move(action), {})


class Unseeded(Old):
    """Many never had `seed`, which gym.Env of 0.21 had for them."""

    seed = property(doc="not there")


class New(Cart, gym.Env):
    """As gym 0.26 has it."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        return self.begin(), {"options": options}

    def step(self, action: Any) -> Any:
        obs, reward, out = self.move(action)
        return obs, reward, out, False, {}


class OwnLimit(gym.Wrapper):
    """A time limit of gym 0.21's kind: one flag, and a word in `info` that says which end it was."""

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        obs, reward, done, info = self.env.step(action)
        self.steps += 1
        if self.steps >= 5:
            info["TimeLimit.truncated"] = not done
            done = True
        return obs, reward, done, info


def limited(start: float = 0.0) -> Any:
    return OwnLimit(Old(start))


NAMES = {"Old-v0": Old, "Unseeded-v0": Unseeded, "New-v0": New}
for name, kind in NAMES.items():
    gym.register(name, entry_point=kind, max_episode_steps=8)
gym.register("OwnLimit-v0", entry_point=limited)

STILL, RIGHT = np.zeros(1, np.float32), np.ones(1, np.float32)


def play(env: Any, action: Any, seed: int = 3) -> list[Any]:
    """Every step of one episode."""
    env.reset(seed=seed)
    steps = [env.step(action)]
    while not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(action))
    return steps


@pytest.mark.parametrize("name", ["Old-v0", "New-v0"])
def test_both_interfaces_become_gymnasiums(name: str):
    env = make(f"gym:{name}")
    assert isinstance(env, gymnasium.Env)
    assert isinstance(env.observation_space, gymnasium.spaces.Box)
    obs, info = env.reset(seed=7)
    assert env.observation_space.contains(obs)
    assert isinstance(info, dict)
    np.testing.assert_array_equal(obs, env.reset(seed=7)[0])
    assert (obs != env.reset(seed=8)[0]).any()
    *_, last = play(env, RIGHT)  # 0.1 + 0.2 + 0.3 + 0.4 > 1 - 0.1, whatever the start
    assert last[2:4] == (True, False)
    assert isinstance(last[1], float)


@pytest.mark.parametrize("name", NAMES)
def test_the_registered_time_limit_truncates(name: str):
    steps = play(make(f"gym:{name}"), STILL)
    assert len(steps) == 8
    assert steps[-1][2:4] == (False, True)
    assert time_limit(name) == 8
    assert len(play(make(f"gym:{name}", {"max_episode_steps": 3}), STILL)) == 3


def test_an_old_time_limit_is_told_from_an_end():
    cut = play(adapt("OwnLimit-v0"), STILL)
    assert len(cut) == 5
    assert cut[-1][2:4] == (False, True)
    ended = play(adapt("OwnLimit-v0", {"start": 0.85}), RIGHT)
    assert len(ended) < 5
    assert ended[-1][2:4] == (True, False)
    assert time_limit("OwnLimit-v0") is None


def test_real_environments_of_gym():
    ours, real = adapt("Pendulum-v1"), gymnasium.make("Pendulum-v1")
    assert (ours.observation_space, ours.action_space) == (real.observation_space, real.action_space)
    np.testing.assert_allclose(ours.reset(seed=5)[0], real.reset(seed=5)[0], rtol=1e-6)
    for action in (-1.0, 2.0, 0.5):
        step, wanted = (env.step(np.array([action], np.float32)) for env in (ours, real))
        np.testing.assert_allclose(step[0], wanted[0], rtol=1e-5)
        assert step[1] == pytest.approx(wanted[1], rel=1e-5)
    assert adapt("CartPole-v1").action_space == gymnasium.spaces.Discrete(2)
    assert len(play(adapt("CartPole-v1"), 1)) < 20


def test_nested_spaces_are_converted():
    class Nested(New):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Dict(
                b=gym.spaces.Discrete(3), a=gym.spaces.Tuple([gym.spaces.MultiBinary(2)])
            )
            self.action_space = gym.spaces.MultiDiscrete([2, 3])

    gym.register("Nested-v0", entry_point=Nested)
    env = adapt("Nested-v0")
    assert env.action_space == gymnasium.spaces.MultiDiscrete([2, 3])
    assert make("gym:Nested-v0").observation_space.shape == (5,)
    assert copy.copy(env).observation_space == env.observation_space


def test_what_is_not_there_is_said():
    with pytest.raises(gymnasium.error.Error, match="NoSuch"):
        adapt("NoSuch-v0")
    with pytest.raises(gymnasium.error.Error, match="NoSuch"):
        time_limit("NoSuch-v0")


class Pushes(Source):
    """The old cart, pushed at random."""

    env = "gym:Old-v0"

    def episodes(self, part: Any) -> Any:
        rng, env = np.random.default_rng(0), make(str(self.env))
        for number in range(30):
            obs, actions, rewards, over = [env.reset(seed=number)[0]], [], [], False
            while not over:
                action = rng.uniform(-1, 1, 1).astype(np.float32)
                seen, reward, terminated, truncated, _ = env.step(action)
                obs.append(seen)
                actions.append(action)
                rewards.append(reward)
                over = terminated or truncated
            yield Episode(np.stack(obs), np.stack(actions), np.array(rewards), terminated, truncated)


def test_an_old_environment_runs_the_online_phase(tmp_path: Path, data_root: Path):
    shards = ingest(Pushes(), None, tmp_path, name="pushes")
    assert shards.env_id == "gym:Old-v0"
    assert shards.manifest.truncated > 0
    config = (
        IQL.configure(shards.path)
        .training(hidden=(16, 16), batch_size=16, threads=1)
        .offline(20)
        .online(40, strategy="symmetric")
    )
    with config.build_algo() as algo:
        while not algo.finished:
            algo.train()
        assert algo.env_steps >= 40
        played = evaluate(numpy_policy(algo.policy()), "gym:Old-v0", episodes=3, seed=0)
    assert all(0 < episode.length <= 8 for episode in played)
