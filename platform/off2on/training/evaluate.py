"""Scores: what a deterministic policy earns in the environment, one number per episode.

Every evaluation of a run resets the environment with the same seeds, so that two policies meet the
same episodes, and the same policy twice gets the same score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from datasets_io.environments import make
from off2on.errors import SimulatorError

Array = np.ndarray[Any, Any]
Acts = Callable[[Array], Array]
"""From observations [B, D] to actions [B, A], or [B] if discrete, in the environment's units."""

KEPT = ("obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
"""The columns of an episode whose transitions are kept."""


@dataclass(frozen=True)
class Episode:
    """One evaluated episode.

    Attributes:
        ret: Undiscounted return.
        length: Steps.
        seed: What the environment was reset with.
        columns: Its transitions in RLlib's columns [length, …], in the world's units, if they were kept.
    """

    ret: float
    length: int
    seed: int
    columns: Mapping[str, Array] | None = None


def evaluate(
    act: Acts,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    at_once: int = 20,
    keep: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[Episode]:
    """Play episodes to their end.

    Args:
        act: The policy.
        env_id: What `datasets_io.environments.make` understands.
        episodes: How many.
        seed: Episode i is reset with seed + i.
        at_once: Most environments stepped together.
        keep: Have the transitions in what is returned.
        options: For the environments.
    """
    played: list[Episode] = []
    while len(played) < episodes:
        count = min(at_once, episodes - len(played))
        seeds = [seed + len(played) + index for index in range(count)]
        played += _play(act, partial(make, env_id, options), seeds, keep)
    return played


def _play(act: Acts, maker: Callable[[], Any], seeds: list[int], keep: bool) -> list[Episode]:
    """One episode in each of so many environments."""
    env = SyncVectorEnv([maker] * len(seeds), autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        obs, _ = env.reset(seed=list(seeds))
        playing = np.ones(len(seeds), bool)
        ret, length = np.zeros(len(seeds)), np.zeros(len(seeds), int)
        steps: list[tuple[Array, ...]] = []
        while playing.any():
            before, action = obs, act(np.asarray(obs, np.float32))
            obs, reward, terminated, truncated, _ = env.step(action)
            if keep:
                steps.append((before, action, reward, obs, terminated, truncated))
            ret += np.where(playing, reward, 0.0)
            length += playing
            playing &= ~(terminated | truncated)
    finally:
        env.close()
    played = [Episode(float(r), int(n), s) for r, n, s in zip(ret, length, seeds, strict=True)]
    if not keep:
        return played
    whole = [np.stack(column) for column in zip(*steps, strict=True)]  # [time, environment, …]
    return [
        replace(
            one, columns={name: part[: one.length, index] for name, part in zip(KEPT, whole, strict=True)}
        )
        for index, one in enumerate(played)
    ]


def acting(module: Any) -> Acts:
    """A torch policy on NumPy arrays, deterministic and without gradients."""

    def act(obs: Array) -> Array:
        with torch.no_grad():
            action: Array = module(torch.from_numpy(obs)).numpy()
        return action

    return act


def check_simulator(
    env_id: str,
    observation_space: Any,
    action_space: Any,
    data: str,
    options: Mapping[str, Any] | None = None,
) -> None:
    """That the environment can be made and has the data's spaces.

    Raises:
        SimulatorError: Otherwise, saying what differs.
    """
    try:
        env: Any = make(env_id, options)
    except (gym.error.Error, ImportError, ModuleNotFoundError) as error:
        raise SimulatorError(
            f"the environment {env_id} cannot be made: {str(error).strip().splitlines()[-1]}",
            f"It is the one that {data} names, or the one asked for by --env.",
            "pip install 'off2on[mujoco]'" if "mujoco" in str(error).lower() else "",
        ) from None
    with env:
        for what, ours, theirs in (
            ("observations", observation_space, env.observation_space),
            ("actions", action_space, env.action_space),
        ):
            if ours.shape != theirs.shape or getattr(ours, "n", None) != getattr(theirs, "n", None):
                raise SimulatorError(
                    f"{env_id} has {what} in {theirs}, the data {data} in {ours}.",
                    "The environment must be the one the data were recorded in.",
                )
