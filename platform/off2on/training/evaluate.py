"""Evaluate a deterministic policy in the environment; compute the return of each episode.

Every evaluation of a run resets the environments with the same seeds, so that policies are compared on the
same episodes, and one policy always gets the same score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from datasets_io.environments import check_length, environment_errors, make, not_finite
from off2on.errors import SimulatorError
from off2on.policy import history_of
from off2on.recipe.acting_memory import memory_for

Array = np.ndarray[Any, Any]
PolicyFunction = Callable[[Array], Array]
"""Function from observations [B, D] to actions [B, A], [B] if discrete, or chunks [B, h, A], in raw units.

With an attribute ``history``, see `off2on.recipe.acting_memory.memory_for`, it takes histories."""

EPISODE_COLUMNS = ("obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
"""Names of the columns of kept transitions."""

SUCCESS = ("success", "is_success")
"""Names under which environments report success in the `info` of a step."""


@dataclass(frozen=True)
class EvaluationEpisode:
    """One episode of an evaluation.

    Attributes:
        ret: Undiscounted return.
        length: Number of steps.
        seed: Seed of the reset.
        success: True if the environment reported success at one of its steps; None if it reports none.
        columns: Transitions as RLlib's columns [length, …] in raw units; None if they were not kept.
    """

    ret: float
    length: int
    seed: int
    success: bool | None = None
    columns: Mapping[str, Array] | None = None


def evaluate(
    act: PolicyFunction,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    max_envs: int = 20,
    keep: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[EvaluationEpisode]:
    """Run a policy for whole episodes, and return these.

    Args:
        act: Policy.
        env_id: Id of the environment, for `datasets_io.environments.make`; its module is imported.
        episodes: Number of episodes.
        seed: Seed of the first episode; episode i is reset with seed + i.
        max_envs: Largest number of environments that are stepped together.
        keep: True to return the transitions as well.
        options: Arguments for making the environment.

    Raises:
        SimulatorError: The environment cannot be made, fails, or does not end an episode.
    """
    played: list[EvaluationEpisode] = []
    while len(played) < episodes:
        count = min(max_envs, episodes - len(played))
        seeds = [seed + len(played) + index for index in range(count)]
        played += _play(act, env_id, options, seeds, keep)
    return played


def _play(
    act: PolicyFunction, env_id: str, options: Mapping[str, Any] | None, seeds: list[int], keep: bool
) -> list[EvaluationEpisode]:
    """Run one episode in a new environment for each seed."""
    with environment_errors(env_id):
        make_env = partial(make, env_id, options, named=True)
        env = SyncVectorEnv([make_env] * len(seeds), autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        with environment_errors(env_id):
            obs, _ = env.reset(seed=list(seeds))
        is_running = np.ones(len(seeds), bool)
        ret, length = np.zeros(len(seeds)), np.zeros(len(seeds), int)
        success: Array | None = None
        steps: list[tuple[Array, ...]] = []
        memory = memory_for(act, len(seeds))
        while is_running.any():
            check_length(env_id, env.envs[0].spec, int(length.max()))
            before, action = obs, memory.next(np.asarray(obs, np.float32), act)
            with environment_errors(env_id):
                obs, reward, terminated, truncated, info = env.step(action)
            if not (np.isfinite(obs).all() and np.isfinite(reward).all()):
                raise not_finite(env_id, int(length[is_running].max()) + 1, obs, reward)
            memory.record(reward)
            if keep:
                steps.append((before, action, reward, obs, terminated, truncated))
            ret += np.where(is_running, reward, 0.0)
            length += is_running
            if (reported := _reported_success(info)) is not None:
                success = is_running & reported | (False if success is None else success)
            is_running &= ~(terminated | truncated)
    finally:
        env.close()
    known = [None] * len(seeds) if success is None else success.tolist()
    played = [
        EvaluationEpisode(float(r), int(n), s, one)
        for r, n, s, one in zip(ret, length, seeds, known, strict=True)
    ]
    if not keep:
        return played
    whole = [np.stack(column) for column in zip(*steps, strict=True)]  # [time, environment, …]
    return [
        replace(
            one,
            columns={
                name: part[: one.length, index] for name, part in zip(EPISODE_COLUMNS, whole, strict=True)
            },
        )
        for index, one in enumerate(played)
    ]


def _reported_success(info: Mapping[str, Any]) -> Array | None:
    """Return which environments [B] report success in the `info` of a step; None if none has the name."""
    name = next((name for name in SUCCESS if name in info), None)
    return None if name is None else np.asarray(info[name]).astype(bool)


def success_rate(played: Sequence[EvaluationEpisode]) -> float | None:
    """Return the share of successful episodes; None if the environment does not report success."""
    known = [episode.success for episode in played if episode.success is not None]
    return sum(known) / len(known) if known else None


class NumpyPolicy:
    """A torch policy as a function on NumPy arrays, deterministic and without gradients.

    Args:
        module: `off2on.policy.Policy`, or module of `load_policy`.
    """

    def __init__(self, module: Any) -> None:
        self.module, self.history = module, history_of(module)

    def __call__(self, obs: Array) -> Array:
        """Return the policy's actions."""
        with torch.no_grad():
            action: Array = self.module(torch.from_numpy(obs)).numpy()
        return action


def numpy_policy(module: Any) -> NumpyPolicy:
    """Return a torch policy as a function on NumPy arrays."""
    return NumpyPolicy(module)


def check_simulator(
    env_id: str,
    observation_space: Any,
    action_space: Any,
    data: str,
    options: Mapping[str, Any] | None = None,
    *,
    named: bool = False,
) -> None:
    """Check that the environment can be made and has the spaces of the data.

    Args:
        env_id: Id of the environment.
        observation_space: That of the data.
        action_space: That of the data.
        data: Name of the data, for messages.
        options: Arguments for making the environment.
        named: True if the user named the environment, False if only the data do.

    Raises:
        SimulatorError: It cannot be made, or a space differs.
    """
    with environment_errors(env_id):
        env: Any = make(env_id, options, named=named)
    with env:
        for what, data_space, env_space in (
            ("observations", observation_space, env.observation_space),
            ("actions", action_space, env.action_space),
        ):
            if (
                data_space.shape != env_space.shape
                or getattr(data_space, "n", None) != getattr(env_space, "n", None)
                or (what == "actions" and not isinstance(env_space, type(data_space)))  # MultiDiscrete
            ):
                raise SimulatorError(
                    f"{env_id} has {what} in {env_space}, the data set {data} in {data_space}.",
                    "Expected the environment in which the data were recorded.",
                )


def check_policy(act: PolicyFunction, env_id: str, options: Mapping[str, Any] | None = None) -> None:
    """Check that the environment can be made, and that the policy fits its observations and actions.

    Raises:
        SimulatorError: It cannot be made, or has other spaces.
    """
    with environment_errors(env_id):
        env: Any = make(env_id, options, named=True)
    with env:
        observations, actions = env.observation_space, env.action_space
        try:
            action = memory_for(act, 2).next(np.zeros((2, *observations.shape), np.float32), act)
        except Exception:  # torch raises many kinds for another shape
            raise SimulatorError(
                f"the policy does not take the observations of {env_id}, {observations}.",
                "Expected the environment in which the data were recorded.",
            ) from None
        expected = Discrete if action.dtype.kind == "i" else Box
        if action.shape[1:] != actions.shape or not isinstance(actions, expected):
            raise SimulatorError(
                f"the policy does not give actions of {env_id}, {actions}.",
                f"They have the shape {action.shape[1:]} and the type {action.dtype}.",
            )
