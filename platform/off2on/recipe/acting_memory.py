"""What an acting policy remembers between two steps of its environments: decided actions, or a history.

It is empty at the start of an episode.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from datasets_io.episode import Array
from off2on.recipe.histories import EXTRA

Decide = Callable[[Array], Array]


class ActingMemory(ABC):
    """Turns observations of E environments into actions, with a policy that needs more than the last ones."""

    @abstractmethod
    def next(self, obs: Array, decide: Decide) -> Array:
        """Return the next actions [E, A], or [E] if discrete.

        Args:
            obs: Observations [E, D].
            decide: The policy.
        """

    def record(self, reward: Array) -> None:  # noqa: B027 - most memories need no rewards
        """Take the rewards [E] that followed the last actions."""

    @abstractmethod
    def clear(self, indices: Iterable[int]) -> None:
        """Forget the episodes of environments where they have ended."""


class ActionQueue(ActingMemory):
    """Gives each of E environments its next action; asks the policy where no action of a chunk is left.

    A chunk is executed to its end, also if the policy is replaced meanwhile, or to the end of the episode.
    Policies of single actions are asked at every step.

    Args:
        count: Number of environments E.
    """

    def __init__(self, count: int) -> None:
        self.left: list[deque[Array]] = [deque() for _ in range(count)]

    def next(self, obs: Array, decide: Decide) -> Array:
        """Return the next actions [E, A], or [E] if discrete.

        Args:
            obs: Observations [E, D].
            decide: The policy: observations [n, D] to actions [n, A] or [n], or chunks [n, h, A].
        """
        empty = [index for index, actions in enumerate(self.left) if not actions]
        if empty:
            decided = decide(obs if len(empty) == len(self.left) else obs[empty])
            if decided.ndim < 3:
                return decided
            for index, actions in zip(empty, decided, strict=True):
                self.left[index].extend(actions)
        return np.stack([actions.popleft() for actions in self.left])

    def clear(self, indices: Iterable[int]) -> None:
        """Drop the actions of environments whose episode has ended."""
        for index in indices:
            self.left[index].clear()


class History(ActingMemory):
    """Gives the policy the last K steps of each of E environments; see `off2on.recipe.histories`.

    Args:
        count: Number of environments E.
        length: Number of steps K.
        width: Numbers of a step, D + A + 2.
    """

    def __init__(self, count: int, length: int, width: int) -> None:
        self.steps = np.zeros((count, length, width), np.float32)
        """The histories in the units of the environment, with the sum of the rewards so far as return."""
        self.total = np.zeros(count)
        """Sums of the rewards of the episodes so far."""

    def next(self, obs: Array, decide: Decide) -> Array:
        """Return the next actions [E, A] after observations [E, D]; `decide` takes [E, K, D + A + 2]."""
        number, width = self.steps[:, -1, -1] + 1, obs.shape[1]
        self.steps[:, :-1] = self.steps[:, 1:].copy()
        self.steps[:, -1, :width] = obs
        self.steps[:, -1, width:-EXTRA] = 0
        self.steps[:, -1, -2], self.steps[:, -1, -1] = self.total, number
        action = decide(self.steps)
        self.steps[:, -1, width:-EXTRA] = action
        return action

    def record(self, reward: Array) -> None:
        """Add the rewards [E] that followed the last actions."""
        self.total += reward

    def clear(self, indices: Iterable[int]) -> None:
        """Forget the steps of environments whose episode has ended."""
        for index in indices:
            self.steps[index], self.total[index] = 0, 0


def memory_for(policy: Any, count: int) -> ActingMemory:
    """Return the empty memory of a policy for a number of environments.

    Args:
        policy: Policy, or function of one. Its attribute ``history`` is the shape (K, D + A + 2) of the
            histories that it takes; without one, or with None, it takes observations.
        count: Number of environments.
    """
    shape = getattr(policy, "history", None)
    return ActionQueue(count) if shape is None else History(count, *shape)
