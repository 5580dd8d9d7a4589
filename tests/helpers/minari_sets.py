"""Data sets of Minari, made by Minari itself."""

import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete

from datasets_io import Shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source

minari = pytest.importorskip("minari", reason="minari is not installed")

from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

FORMATS = ("hdf5", "arrow", "parquet")
COLUMNS = ["t", "obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "last"]


def play(env_id: str, episodes: int = 4, **options: Any) -> list[EpisodeBuffer]:
    """Episodes of random actions."""
    env, played = gym.make(env_id, **options), []
    env.action_space.seed(0)
    for seed in range(episodes):
        obs, over = [env.reset(seed=seed)[0]], False
        actions, rewards, terminations, truncations = [], [], [], []
        while not over:
            action = env.action_space.sample()
            seen, reward, terminated, truncated, _ = env.step(action)
            for column, value in zip(
                (obs, actions, rewards, terminations, truncations),
                (seen, action, reward, terminated, truncated),
                strict=True,
            ):
                column.append(value)
            over = terminated or truncated
        flags = np.array(terminations), np.array(truncations)
        played.append(
            EpisodeBuffer(None, seed, None, np.stack(obs), np.stack(actions), np.array(rewards), *flags)
        )
    return played


def create(name: str, buffers: list[EpisodeBuffer], **facts: Any) -> Any:
    """A data set in Minari's folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody is named as its author
        return minari.create_dataset_from_buffers(name, buffers, **facts)


def tell(data: Any, **specs: EnvSpec) -> None:
    """Writes environments into a data set's metadata."""
    file = Path(data.storage.data_path) / "metadata.json"
    serialised = {name: spec.to_json() for name, spec in specs.items()}
    file.write_text(json.dumps(json.loads(file.read_text()) | serialised))


def add(name: str, tmp_path: Path, rows_per_shard: int = 100_000, **options: Any) -> Shards:
    """What `off2on data add minari/NAME` does."""
    source, path, ours = resolve_source(f"minari/{name}", None, options)
    out = tmp_path / "data" / f"{rows_per_shard}"
    return ingest(source, path, out, name=ours, rows_per_shard=rows_per_shard, overwrite=True)


def equal(one: Shards, other: Shards, columns: list[str]) -> None:
    """That two data sets hold the same rows."""
    read = [shards.read_all(columns) for shards in (one, other)]
    for name in columns:
        assert read[0][name].dtype == read[1][name].dtype, name
        np.testing.assert_array_equal(read[0][name], read[1][name], name)


class Hopper(gym.Env):
    """Nested observations, whose keys are not in the alphabet's order."""

    observation_space = Dict(
        observation=Box(-np.inf, np.inf, (3,), np.float64),
        gait=Discrete(3),
        goal=Dict(xy=Box(-1, 1, (2,), np.float64)),
    )
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, False, False, {}


gym.register("NestedHopper-v0", Hopper, max_episode_steps=6)


def nested(episodes: int = 5, infos: bool = False) -> list[EpisodeBuffer]:
    rng, buffers = np.random.default_rng(1), []
    for number in range(episodes):
        steps = 4 + number
        obs = {
            "observation": rng.normal(size=(steps + 1, 3)),
            "gait": rng.integers(3, size=steps + 1),
            "goal": {"xy": rng.uniform(-1, 1, (steps + 1, 2))},
        }
        ends = np.arange(1, steps + 1) == steps
        recorded = {
            "success": list(rng.uniform(size=steps + 1)),
            "pose": {"q": rng.normal(size=(steps + 1, 2))},
        }
        actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
        flags = ends & (number % 2 == 0), ends & (number % 2 == 1)
        rewards = rng.normal(size=steps)
        buffers.append(
            EpisodeBuffer(None, None, None, obs, actions, rewards, *flags, recorded if infos else None)
        )
    return buffers


SPACES = {"observation_space": Hopper.observation_space, "action_space": Hopper.action_space}
