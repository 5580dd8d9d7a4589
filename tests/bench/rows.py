"""Rows that every package learns from: random numbers in the shapes of HalfCheetah, 17 + 6 columns.

An update takes the same time whatever the numbers are, so nothing has to be downloaded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from datasets_io.episode import Episode
from datasets_io.ingestion.ingest import ingest
from datasets_io.source import Source

OBS, ACTION, EPISODES, STEPS, DISCOUNT = 17, 6, 100, 1000, 0.99


class RandomRows(Source):
    """100 episodes of 1,000 steps; every tenth is terminated, the others are truncated."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for number in range(EPISODES):
            obs = rng.normal(size=(STEPS + 1, OBS))
            actions = np.tanh(rng.normal(size=(STEPS, ACTION)))
            yield Episode(obs, actions, rng.normal(size=STEPS), terminated=number % 10 == 0)


def write(folder: Path) -> tuple[Path, Path]:
    """Write the rows as shards and as columns for the peers.

    Returns:
        The data set's folder, and an .npz with obs, next_obs [N, 17], action, next_action [N, 6] and reward,
        done, truncated, ret [N, 1], all float32. ``ret`` is the discounted return to go.
    """
    source = RandomRows()
    ingest(source, None, folder, name="random-rows")
    parts: dict[str, list[Any]] = {}
    for episode in source.episodes(None):
        ends = np.zeros((STEPS, 1))
        ends[-1] = 1
        ret = np.zeros(STEPS + 1)
        for step in reversed(range(STEPS)):
            ret[step] = episode.rewards[step] + DISCOUNT * ret[step + 1]
        columns = {
            "obs": episode.obs[:-1],
            "next_obs": episode.obs[1:],
            "action": episode.actions,
            "next_action": np.concatenate((episode.actions[1:], episode.actions[-1:])),
            "reward": episode.rewards[:, None],
            "done": ends * episode.terminated,
            "truncated": ends * (not episode.terminated),
            "ret": ret[:-1, None],
        }
        for name, column in columns.items():
            parts.setdefault(name, []).append(column)
    path = folder / "columns.npz"
    np.savez(path, **{name: np.concatenate(part).astype(np.float32) for name, part in parts.items()})
    return folder / "random-rows", path
