"""Collect transitions: an RLlib EnvRunner that returns columns instead of episode objects.

RLlib's own runner builds an episode object and runs connector pipelines for every step. Policies here map
flat observations to actions, so this runner steps a Gymnasium vector environment and keeps the columns.
Processes, weights and restarts are RLlib's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import VectorizeMode
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from datasets_io import environments
from datasets_io.column_names import TRANSITION
from datasets_io.ray_internals import registered_environment
from off2on.recipe.acting_memory import ActionQueue
from off2on.replay.transforms import Array
from off2on.rllib.seeding import EPISODES, ROLLOUTS, seed_of
from off2on.rllib.step_policy import StepPolicy


@dataclass(frozen=True)
class Rollout:
    """Consecutive steps of a runner's environments.

    Attributes:
        columns: The columns `datasets_io.column_names.TRANSITION` [n, …] in raw units, ordered by time, and
            ``env`` [n], the number of the environment among those of all runners.
        returns: Undiscounted returns of the episodes that ended.
        lengths: Lengths of these episodes in steps.
    """

    columns: dict[str, Array]
    returns: list[float]
    lengths: list[int]


class AnyBundle(int):
    """Offset into a placement group that always gives "any bundle with free resources".

    RLlib adds the number of a runner to this offset, and waits without a limit for the bundle of that index.
    A learner, or a runner of another run in the same group, may occupy that bundle.
    """

    def __add__(self, number: int) -> int:
        """Return -1, which Ray reads as any bundle."""
        return -1


class RecipeEnvRunner(SingleAgentEnvRunner):
    """Steps a vector environment with the exploration policy.

    The seed of an episode is a function of the run's seed, the number of the environment and the number of
    the episode. So an unfinished episode is determined by its number and its actions so far, and a checkpoint
    stores these instead of the state of a simulator.

    Attributes:
        weights_reference: Reference to the last weights in Ray's object store; see `rollout_collector`.
    """

    weights_reference: Any = None

    def make_env(self) -> None:
        """Build the vector environment, without automatic resets."""
        self._obs: Any = None
        self.num_envs = self.config.num_envs_per_env_runner
        is_async = self.config.gym_env_vectorize_mode == VectorizeMode.ASYNC
        kind = AsyncVectorEnv if is_async else SyncVectorEnv
        factory = env_factory(self.config, self.worker_index or 0)
        self.env: Any = kind([factory] * self.num_envs, autoreset_mode=AutoresetMode.DISABLED)
        self._episode = np.full(self.num_envs, -1)
        """Number of the current episode of each environment [E]."""
        self._actions: list[list[Array]] = [[] for _ in range(self.num_envs)]
        """Actions of the current episode of each environment."""
        self._queue = ActionQueue(self.num_envs)
        self._return, self._length = [0.0] * self.num_envs, [0] * self.num_envs
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": EnvContext(self.config.env_config, worker_index=self.worker_index or 0),
            },
        )

    @property
    def _first_env(self) -> int:
        """Number of this runner's first environment among those of all runners."""
        return int((self.worker_index or 0) * self.num_envs)

    def _reset(self, mask: Array) -> None:
        """Start the next episode in the environments where a mask [E] is true."""
        self._episode += mask
        self._queue.clear(np.flatnonzero(mask))
        for index in np.flatnonzero(mask):
            self._return[index], self._length[index], self._actions[index] = 0.0, 0, []
        numbers = enumerate(self._episode.tolist(), self._first_env)
        seeds = [seed_of(EPISODES, self.config.seed, env, episode) % 2**31 for env, episode in numbers]
        first, _ = self.env.reset(seed=seeds, options={"reset_mask": mask})
        self._obs = first if mask.all() else np.where(mask[:, None], first, self._obs)

    def _step(self, action: Array) -> tuple[Any, ...]:
        """Return observations [E, D], rewards, ends and cuts [E] after an action in each environment."""
        if not isinstance(self.env, SyncVectorEnv):
            obs, reward, terminated, truncated, _ = self.env.step(action)
            return obs, reward, terminated, truncated
        # A `SyncVectorEnv` collects infos and copies what it returns, which takes as long as our policy.
        steps = [env.step(one)[:4] for env, one in zip(self.env.envs, action, strict=True)]
        each_obs, reward, terminated, truncated = zip(*steps, strict=True)
        obs = np.array(each_obs, self._obs.dtype)
        if obs.shape != self._obs.shape:
            raise ValueError(f"observations of shape {obs.shape[1:]}, of {self._obs.shape[1:]} before")
        return obs, reward, terminated, truncated

    def sample(self, *, num_timesteps: int, taken: int | None = None, **_: Any) -> Rollout:
        """Step the environments, continuing after the last call.

        Args:
            num_timesteps: Smallest number of steps over all environments.
            taken: Number of steps that all runners took before, which determines the random numbers: the
                runner of a resumed run, or one that replaces a dead one, must not repeat the first steps.
                None: the number of this runner's steps.

        Raises:
            SimulatorError: An observation or a reward is NaN or infinite.
        """
        before = self.num_env_steps_sampled_lifetime if taken is None else taken
        if self._obs is None:
            self._episode += before  # a replacement of a dead runner must not repeat its episodes
            self._reset(np.ones(self.num_envs, bool))
        policy = StepPolicy(self.module.policy)
        steps: list[tuple[Array, ...]] = []
        returns: list[float] = []
        lengths: list[int] = []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed_of(ROLLOUTS, self.config.seed, self.worker_index or 0, before))
            while len(steps) * self.num_envs < num_timesteps:
                try:
                    action = self._queue.next(self._obs, policy)
                except ValueError:  # of a distribution, for observations that are checked below
                    self._check_finite(self._columns(steps), before)
                    raise
                obs, reward, terminated, truncated = self._step(action)
                steps.append((self._obs, obs, action, reward, terminated, truncated))
                self._obs, ended = obs, []
                each = zip(range(self.num_envs), action, reward, terminated, truncated, strict=True)
                for index, one, gained, end, cut in each:
                    self._actions[index].append(one)
                    self._return[index] += float(gained)
                    self._length[index] += 1
                    if end or cut:
                        ended.append(index)
                if ended:
                    returns += [self._return[index] for index in ended]
                    lengths += [self._length[index] for index in ended]
                    self._reset(np.isin(np.arange(self.num_envs), ended))
        self.num_env_steps_sampled_lifetime += len(steps) * self.num_envs
        columns = self._columns(steps)
        self._check_finite(columns, before)
        return Rollout(columns, returns, lengths)

    def _columns(self, steps: list[tuple[Array, ...]]) -> dict[str, Array]:
        """Return the columns of `Rollout`: those of `TRANSITION` of each step [E, …], and the environment."""
        if not steps:
            return {}
        parts = dict(zip(TRANSITION, map(np.array, zip(*steps, strict=True)), strict=True))
        columns = {name: part.reshape(-1, *part.shape[2:]) for name, part in parts.items()}
        for name, kind in (("rewards", np.float64), ("terminateds", bool), ("truncateds", bool)):
            columns[name] = parts[name].astype(kind).reshape(-1)
        columns["env"] = np.tile(np.arange(self.num_envs) + self._first_env, len(steps))
        return columns

    def _check_finite(self, columns: Mapping[str, Array], before: int) -> None:
        """Check observations and rewards of a rollout, whose first step is `before`.

        Raises:
            SimulatorError: One of them is NaN or infinite.
        """
        if not columns:
            return
        names, steps = ("obs", "new_obs", "rewards"), len(columns["rewards"])
        finite = np.all([np.isfinite(columns[name]).reshape(steps, -1).all(1) for name in names], axis=0)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise environments.not_finite(
                self.config.env, before + bad + 1, *(columns[name][bad] for name in names)
            )

    # Checkpoints.

    def episodes(self) -> dict[str, Any]:
        """Return the unfinished episodes: numbers [E], actions [E] × [steps, …], last observations [E, D].

        For a policy of chunks also the decided actions, ``queued`` [E] × [steps, A].
        """
        if self._obs is None:
            return {}
        actions = [torch.from_numpy(np.array(episode)) for episode in self._actions]
        kept = {"number": self._episode.tolist(), "actions": actions, "obs": torch.from_numpy(self._obs)}
        if any(self._queue.left):
            kept["queued"] = [torch.from_numpy(np.array(left)) for left in self._queue.left]
        return kept

    def restore_episodes(self, kept: Mapping[str, Any]) -> int:
        """Replay the actions of unfinished episodes (see `episodes`), so that they continue.

        Returns:
            Number of episodes that could not be continued and were started again: those of environments in
            other processes, or of a simulator that is not deterministic for a seed and actions.
        """
        if not kept:
            return 0
        self._episode = np.array(kept["number"]) - 1
        self._reset(np.ones(self.num_envs, bool))
        saved_obs, reached = kept["obs"].numpy(), np.zeros(self.num_envs, bool)
        for index, env in enumerate(getattr(self.env, "envs", [])):
            obs = self._obs[index]
            for action in kept["actions"][index].numpy():
                obs, reward, terminated, truncated, _ = env.step(action)
                self._actions[index].append(action)
                self._return[index] += float(reward)
                self._length[index] += 1
                if terminated or truncated:
                    break
            reached[index] = np.array_equal(np.asarray(obs, saved_obs.dtype), saved_obs[index])
        self._obs = saved_obs.copy()
        for left, queued in zip(self._queue.left, kept.get("queued", ()), strict=False):
            left.extend(queued.numpy())
        if not reached.all():
            self._reset(~reached)
        return int((~reached).sum())


def env_factory(config: Any, worker_index: int) -> Callable[[], Any]:
    """Return a function that makes one environment, from RLlib's registry, a class or a name."""
    name, options = config.env, dict(config.env_config)
    creator = registered_environment(name) if isinstance(name, str) else name
    if creator is None:  # the driver has checked who named it
        return partial(environments.make, name, options, named=True)
    context = EnvContext(options, worker_index=worker_index)
    return lambda: environments.take_policy_actions(creator(context))
