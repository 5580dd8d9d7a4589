"""Collecting experience: an RLlib EnvRunner that hands over columns instead of episode objects.

RLlib's own runner builds an episode object and runs connector pipelines for every step. Policies
here map flat observations to actions, so a runner steps a Gymnasium vector environment and keeps
the columns; everything else (workers, weights, restarts) is RLlib's.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import VectorizeMode
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import ENV_CREATOR, _global_registry

from datasets_io import environments
from off2on.seeding import ROLLOUTS, seed_of
from off2on.transforms import Array


@dataclass(frozen=True)
class Rollout:
    """Consecutive steps of a runner's environments.

    Attributes:
        columns: ``obs``, ``new_obs`` [n, D], ``actions`` [n, A] or [n] in the environment's units,
            ``rewards``, ``terminateds``, ``truncateds`` [n] and ``env`` [n], the number of the
            environment among those of all runners; ordered by time.
        returns: Undiscounted returns of the episodes that ended.
        lengths: Their lengths in steps.
    """

    columns: dict[str, Array]
    returns: list[float]
    lengths: list[int]


class RecipeRunner(SingleAgentEnvRunner):
    """Steps a vector environment with the exploring policy."""

    def make_env(self) -> None:
        """Make the vector environment: of a name as everything else here does, else RLlib's way."""
        self._obs: Array | None = None
        name, count = self.config.env, self.config.num_envs_per_env_runner
        self.env: Any
        if not isinstance(name, str) or _global_registry.contains(ENV_CREATOR, name):
            super().make_env()
            self.env = self.env.env  # without the conversion of its info dictionaries
            return
        maker = partial(environments.make, name, dict(self.config.env_config))
        is_async = self.config.gym_env_vectorize_mode == VectorizeMode.ASYNC
        self.env = (AsyncVectorEnv if is_async else SyncVectorEnv)([maker] * count)
        self.num_envs = count

    def sample(self, *, num_timesteps: int, taken: int | None = None, **_: Any) -> Rollout:
        """Make at least this many steps over all environments.

        The environments go on where the last call left them. After an episode's end Gymnasium
        spends one call on the reset, which is no transition and is left out.

        Args:
            num_timesteps: How many.
            taken: Steps that all runners took before, which choose the random numbers: a runner of a
                resumed run, or in a dead one's place, must not repeat the first. None: this one's own.
        """
        before = self.num_env_steps_sampled_lifetime if taken is None else taken
        seed = seed_of(ROLLOUTS, self.config.seed, self.worker_index or 0, before)
        if self._obs is None:
            self._obs, _ = self.env.reset(seed=seed % 2**31)
            self._ended = np.zeros(self.num_envs, bool)
            self._return, self._length = np.zeros(self.num_envs), np.zeros(self.num_envs, int)
        steps: list[tuple[Array, ...]] = []
        returns: list[float] = []
        lengths: list[int] = []
        count = 0
        env = np.arange(self.num_envs) + (self.worker_index or 0) * self.num_envs
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            while count < num_timesteps:
                seen = torch.from_numpy(np.asarray(self._obs, np.float32))
                action = self.module.policy(seen, explore=True).numpy()
                obs, reward, terminated, truncated, _ = self.env.step(action)
                real = ~self._ended
                steps.append((self._obs, obs, action, reward, terminated, truncated, env, real))
                count += int(real.sum())
                self._return += np.where(real, reward, 0.0)
                self._length += real
                self._obs, self._ended = obs, terminated | truncated
                for index in np.flatnonzero(self._ended):
                    returns.append(float(self._return[index]))
                    lengths.append(int(self._length[index]))
                    self._return[index], self._length[index] = 0.0, 0
        self.num_env_steps_sampled_lifetime += count
        *parts, real = (np.concatenate(column) for column in zip(*steps, strict=True))
        names = ("obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "env")
        return Rollout({name: part[real] for name, part in zip(names, parts, strict=True)}, returns, lengths)
