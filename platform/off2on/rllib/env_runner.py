"""Collecting experience: an RLlib EnvRunner that hands over columns instead of episode objects.

RLlib's own runner builds an episode object and runs connector pipelines for every step. Policies
here map flat observations to actions, so a runner steps a Gymnasium vector environment and keeps
the columns; everything else (workers, weights, restarts) is RLlib's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import VectorizeMode
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from datasets_io import environments
from datasets_io.column_names import TRANSITION
from datasets_io.ray_internals import registered_environment
from off2on.replay.transforms import Array
from off2on.rllib.seeding import EPISODES, ROLLOUTS, seed_of


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


class AnyBundle(int):
    """Of a placement group, whichever bundle has room.

    RLlib adds a runner's number to where runners begin, and waits for that very bundle, which a learner or a
    runner of another run in the same group may have taken: for ever.
    """

    def __add__(self, number: int) -> int:
        """Ray's word for any."""
        return -1


class RecipeEnvRunner(SingleAgentEnvRunner):
    """Steps a vector environment with the exploring policy.

    Every episode of every environment begins with a seed of its own, a function of the run's seed, the
    environment and the number of the episode. An episode under way is then known by its number and
    its actions so far, which is what a checkpoint keeps of a simulator.

    Attributes:
        acts_with: The weights it took last, as a reference into Ray's store; see `collecting`.
    """

    acts_with: Any = None

    def make_env(self) -> None:
        """Make the vector environment, whose resets are ours to ask for."""
        self._obs: Any = None
        self.num_envs = self.config.num_envs_per_env_runner
        is_async = self.config.gym_env_vectorize_mode == VectorizeMode.ASYNC
        kind = AsyncVectorEnv if is_async else SyncVectorEnv
        self.env: Any = kind([self._maker()] * self.num_envs, autoreset_mode=AutoresetMode.DISABLED)
        self._number = np.full(self.num_envs, -1)
        """Of the episode that each environment is in."""
        self._actions: list[list[Array]] = [[] for _ in range(self.num_envs)]
        """What was done in it so far."""
        self._return, self._length = np.zeros(self.num_envs), np.zeros(self.num_envs, int)

    def _maker(self) -> Callable[[], Any]:
        """Return a function that makes one environment, from RLlib's registry, a class or a name."""
        name, options = self.config.env, dict(self.config.env_config)
        creator = registered_environment(name) if isinstance(name, str) else name
        if creator is None:
            return partial(environments.make, name, options)
        return partial(creator, EnvContext(options, worker_index=self.worker_index or 0))

    @property
    def _first(self) -> int:
        """Number of this runner's first environment among those of all runners."""
        return int((self.worker_index or 0) * self.num_envs)

    def _begin(self, where: Array) -> None:
        """Begin the next episode in some of the environments [E]."""
        self._number += where
        self._return[where], self._length[where] = 0.0, 0
        for index in np.flatnonzero(where):
            self._actions[index] = []
        numbers = enumerate(self._number.tolist(), self._first)
        seeds = [seed_of(EPISODES, self.config.seed, env, episode) % 2**31 for env, episode in numbers]
        self._obs, _ = self.env.reset(seed=seeds, options={"reset_mask": where})

    def sample(self, *, num_timesteps: int, taken: int | None = None, **_: Any) -> Rollout:
        """Make at least this many steps over all environments, which go on where the last call left them.

        Args:
            num_timesteps: How many.
            taken: Steps that all runners took before, which choose the random numbers: a runner of a
                resumed run, or in a dead one's place, must not repeat the first. None: this one's own.
        """
        before = self.num_env_steps_sampled_lifetime if taken is None else taken
        if self._obs is None:
            self._number += before  # one in a dead one's place must not repeat its episodes either
            self._begin(np.ones(self.num_envs, bool))
        steps: list[tuple[Array, ...]] = []
        returns: list[float] = []
        lengths: list[int] = []
        env = np.arange(self.num_envs) + self._first
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed_of(ROLLOUTS, self.config.seed, self.worker_index or 0, before))
            while len(steps) * self.num_envs < num_timesteps:
                seen = torch.from_numpy(np.asarray(self._obs, np.float32))
                action = self.module.policy(seen, explore=True).numpy()
                obs, reward, terminated, truncated, _ = self.env.step(action)
                steps.append((self._obs, obs, action, reward, terminated, truncated, env))
                for done, one in zip(self._actions, action, strict=True):
                    done.append(one)
                self._return += reward
                self._length += 1
                self._obs, ended = obs, terminated | truncated
                if ended.any():
                    returns += self._return[ended].tolist()
                    lengths += self._length[ended].tolist()
                    self._begin(ended)
        self.num_env_steps_sampled_lifetime += len(steps) * self.num_envs
        parts = (np.concatenate(part) for part in zip(*steps, strict=True))
        columns = zip((*TRANSITION, "env"), parts, strict=True)
        return Rollout(dict(columns), returns, lengths)

    # Checkpoints.

    def episodes(self) -> dict[str, Any]:
        """The episodes under way: their numbers [E], actions [E] × [steps, …], last observations [E, D]."""
        if self._obs is None:
            return {}
        actions = [torch.from_numpy(np.array(done)) for done in self._actions]
        return {"number": self._number.tolist(), "actions": actions, "obs": torch.from_numpy(self._obs)}

    def go_on(self, kept: Mapping[str, Any]) -> int:
        """Play the episodes that `episodes` told of up to where they were.

        Returns:
            How many could not be brought there, and are begun anew: those of a simulator in other
            processes, or of one that does not do the same for the same seed and actions.
        """
        if not kept:
            return 0
        self._number = np.array(kept["number"]) - 1
        self._begin(np.ones(self.num_envs, bool))
        wanted, reached = kept["obs"].numpy(), np.zeros(self.num_envs, bool)
        for index, env in enumerate(getattr(self.env, "envs", [])):
            obs = self._obs[index]
            for action in kept["actions"][index].numpy():
                obs, reward, terminated, truncated, _ = env.step(action)
                self._actions[index].append(action)
                self._return[index] += reward
                self._length[index] += 1
                if terminated or truncated:
                    break
            reached[index] = np.array_equal(np.asarray(obs, wanted.dtype), wanted[index])
        self._obs = wanted.copy()
        if not reached.all():
            seen = self._obs
            self._begin(~reached)
            self._obs = np.where(reached[:, None], seen, self._obs)
        return int((~reached).sum())
