"""Recorded episodes in memory, in raw units: the data of every estimator."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from datasets_io import Shards

Array = np.ndarray[Any, Any]

LOG_PROB = "action_logp"
"""Column with the behaviour policy's log probability of each action; `off2on serve --explore` logs it."""


@dataclass(frozen=True, eq=False)
class RecordedData:
    """Whole episodes, one after the other: N steps, E episodes, the longest of T steps.

    Attributes:
        obs, next_obs: Observations before and after each step [N, D].
        action: Continuous actions [N, A], or discrete actions [N], integers.
        reward: Rewards [N].
        terminated: True where the task ended [N], bool; no step follows.
        last: True at the last recorded step of each episode [N], bool, for whatever reason.
        log_prob: Log probability of the recorded actions under the behaviour policy [N]; None if unknown.
        n_actions: Number of discrete actions, 0 if actions are continuous.
        low, high: Bounds of continuous actions [A]; empty if actions are discrete.
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    last: Array
    log_prob: Array | None = None
    n_actions: int = 0
    low: Array = field(default_factory=lambda: np.empty(0, np.float32))
    high: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @classmethod
    def from_shards(cls, shards: Shards) -> Self:
        """Read a whole data set into memory."""
        optional = [LOG_PROB] if LOG_PROB in shards.columns else []
        columns = shards.read_all(["obs", "actions", "rewards", "new_obs", "terminateds", "last", *optional])
        space = shards.action_space
        n_actions = int(getattr(space, "n", 0))
        empty = np.empty(0, np.float32)
        return cls(
            obs=columns["obs"],
            action=columns["actions"],
            reward=columns["rewards"],
            next_obs=columns["new_obs"],
            terminated=columns["terminateds"],
            last=columns["last"],
            log_prob=columns.get(LOG_PROB),
            n_actions=n_actions,
            low=empty if n_actions else np.ravel(space.low),
            high=empty if n_actions else np.ravel(space.high),
        )

    @cached_property
    def starts(self) -> Array:
        """Row of the first step of each episode [E]."""
        return np.flatnonzero(np.concatenate(([True], self.last[:-1])))

    @cached_property
    def episode(self) -> Array:
        """Episode number of each row [N]."""
        return np.cumsum(np.concatenate(([False], self.last[:-1])))

    @cached_property
    def step(self) -> Array:
        """Number of steps before each row in its episode [N]."""
        return np.arange(len(self.reward)) - self.starts[self.episode]

    @property
    def episodes(self) -> int:
        """Number of episodes E."""
        return len(self.starts)

    @cached_property
    def cut_off(self) -> Array:
        """True for each episode that was truncated: its recording ends and the task does not [E], bool."""
        return ~self.terminated[self.last]

    def padded(self, values: Array, fill: float = 0.0) -> Array:
        """Return values [N] with one row per episode [E, T], float64, padded after the end of an episode."""
        table = np.full((self.episodes, int(self.step.max()) + 1), fill, np.float64)
        table[self.episode, self.step] = values
        return table

    def returns(self, discount: float) -> Array:
        """Compute the discounted return over the recorded steps of each episode [E], float64."""
        return np.bincount(self.episode, discount ** self.step.astype(np.float64) * self.reward)
