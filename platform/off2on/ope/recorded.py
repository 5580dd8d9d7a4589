"""What a behaviour did, and what it says of itself: the data of every estimator, in the world's units."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from datasets_io import Shards

Array = np.ndarray[Any, Any]

LOG_PROB = "action_logp"
"""The column that says how likely each recorded action was, as `off2on serve --explore` keeps it."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """Whole episodes, one after the other: N steps, E episodes, the longest of T steps.

    Attributes:
        obs, next_obs: [N, D].
        action: [N, A], or whole numbers [N].
        reward: [N].
        terminated: [N] bool, the task ended here: nothing follows.
        last: [N] bool, the recording of an episode ends here, for whatever reason.
        log_prob: [N] of the recorded actions under the behaviour; None if the data do not say.
        choices: Number of actions if they are whole numbers, 0 if they are vectors.
        low, high: [A] bounds of the action box; empty if actions are whole numbers.
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    last: Array
    log_prob: Array | None = None
    choices: int = 0
    low: Array = field(default_factory=lambda: np.empty(0, np.float32))
    high: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @classmethod
    def of(cls, shards: Shards) -> Self:
        """All of a data set, in memory."""
        known = [LOG_PROB] if LOG_PROB in shards.columns else []
        columns = shards.read_all(["obs", "actions", "rewards", "new_obs", "terminateds", "last", *known])
        space = shards.action_space
        count = int(getattr(space, "n", 0))
        empty = np.empty(0, np.float32)
        return cls(
            obs=columns["obs"],
            action=columns["actions"],
            reward=columns["rewards"],
            next_obs=columns["new_obs"],
            terminated=columns["terminateds"],
            last=columns["last"],
            log_prob=columns.get(LOG_PROB),
            choices=count,
            low=empty if count else np.ravel(space.low),
            high=empty if count else np.ravel(space.high),
        )

    @cached_property
    def starts(self) -> Array:
        """The row at which each episode begins [E]."""
        return np.flatnonzero(np.concatenate(([True], self.last[:-1])))

    @cached_property
    def episode(self) -> Array:
        """The episode of each row [N]."""
        return np.cumsum(np.concatenate(([False], self.last[:-1])))

    @cached_property
    def step(self) -> Array:
        """How many steps of its episode came before each row [N]."""
        return np.arange(len(self.reward)) - self.starts[self.episode]

    @property
    def episodes(self) -> int:
        """Their number E."""
        return len(self.starts)

    @cached_property
    def cut_off(self) -> Array:
        """Whether each episode's recording ends although the task goes on [E] bool."""
        return ~self.terminated[self.last]

    def padded(self, values: Array, fill: float = 0.0) -> Array:
        """Values [N] as one row an episode [E, T], float64, filled up after its end."""
        table = np.full((self.episodes, int(self.step.max()) + 1), fill, np.float64)
        table[self.episode, self.step] = values
        return table

    def returns(self, discount: float) -> Array:
        """The discounted return of each episode as far as it is recorded [E], float64."""
        return np.bincount(self.episode, discount ** self.step.astype(np.float64) * self.reward)
