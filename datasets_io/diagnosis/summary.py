"""What all checks share: the episodes, a sample of the rows, and what is known beside the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.sample import Windows
from datasets_io.episode import Array


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """The action space, as far as it is known.

    Args:
        low: Bounds [A] of a box; None for a discrete choice, or where no space is declared.
        high: Likewise.
        choices: Number of discrete actions, or None.
    """

    low: Array | None = None
    high: Array | None = None
    choices: int | None = None

    @classmethod
    def of(cls, space: Any) -> "ActionSpace":
        """From a Gymnasium space, or None."""
        if space is None:
            return cls()
        if hasattr(space, "n"):
            return cls(choices=int(space.n))
        return cls(np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64))


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """One row an episode, in the order of the data: each array is [E].

    Args:
        lengths: Steps.
        returns: Undiscounted, of the finite rewards.
        terminated: Ended by the task.
        truncated: Cut off.
        rows: Row of the source at which it starts.
    """

    lengths: Array
    returns: Array
    terminated: Array
    truncated: Array
    rows: Array

    def __len__(self) -> int:
        return len(self.lengths)


class EpisodeTableBuilder:
    """Collects `EpisodeTableBuilder`."""

    def __init__(self) -> None:
        self._held: list[EpisodeTable] = []

    def add(self, block: Block) -> None:
        """Takes a block's episodes."""
        rewards = np.where(np.isfinite(block.rewards), block.rewards, 0).astype(np.float64)
        returns = np.add.reduceat(rewards, block.starts)
        self._held.append(EpisodeTable(block.lengths, returns, block.terminated, block.truncated, block.rows))

    def build(self) -> EpisodeTable:
        """All of them."""
        names = ("lengths", "returns", "terminated", "truncated", "rows")
        return EpisodeTable(**{n: np.concatenate([getattr(held, n) for held in self._held]) for n in names})


@dataclass(frozen=True, eq=False)
class DataSummary:
    """What is known once all blocks have been seen.

    Args:
        rows: Transitions.
        episodes: All episodes.
        windows: A sample of the rows; None if not one row was finite.
        actions: The action space.
        time_limit: Steps after which the environment cuts an episode off, where it is known.
        again: The command that reads these data again, to be completed by an option.
        against: Name and sample of the data to compare with, or None.
    """

    rows: int
    episodes: EpisodeTable
    windows: Windows | None
    actions: ActionSpace
    time_limit: int | None = None
    again: str = "off2on data add …"
    against: tuple[str, Windows] | None = None

    @property
    def discrete(self) -> bool:
        """Whether an action is one of a few."""
        return self.actions.choices is not None


class Check(Protocol):
    """Looks at every block, and then has something to say."""

    def add(self, block: Block) -> None:
        """Takes note of a block."""

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """What came of it."""
