"""Inputs that all checks share: the table of episodes, a sample of the rows, and facts about the task."""

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
        low: Lower bounds [A] of a box; None if actions are discrete or no space is declared.
        high: Upper bounds [A] of a box, or None.
        choices: Number of discrete actions, or None.
    """

    low: Array | None = None
    high: Array | None = None
    choices: int | None = None

    @classmethod
    def of(cls, space: Any) -> "ActionSpace":
        """Create from a Gymnasium space, or from None if it is unknown."""
        if space is None:
            return cls()
        if hasattr(space, "n"):
            return cls(choices=int(space.n))
        return cls(np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64))


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """Table with one entry per episode, in the order of the data: each array is [E].

    Args:
        lengths: Number of steps.
        returns: Undiscounted sum of the finite rewards.
        terminated: True if the task ended the episode.
        truncated: True if the episode was cut off.
        rows: Row of the source at which the episode starts.
    """

    lengths: Array
    returns: Array
    terminated: Array
    truncated: Array
    rows: Array

    def __len__(self) -> int:
        return len(self.lengths)


class EpisodeTableBuilder:
    """Builder of an `EpisodeTable` from blocks."""

    def __init__(self) -> None:
        self._tables: list[EpisodeTable] = []

    def add(self, block: Block) -> None:
        """Add the episodes of a block."""
        rewards = np.where(np.isfinite(block.rewards), block.rewards, 0).astype(np.float64)
        returns = np.add.reduceat(rewards, block.starts)
        self._tables.append(
            EpisodeTable(block.lengths, returns, block.terminated, block.truncated, block.rows)
        )

    def build(self) -> EpisodeTable:
        """Return the table of all episodes."""
        names = ("lengths", "returns", "terminated", "truncated", "rows")
        return EpisodeTable(
            **{n: np.concatenate([getattr(table, n) for table in self._tables]) for n in names}
        )


@dataclass(frozen=True, eq=False)
class DataSummary:
    """Summary of the data after the pass over all blocks.

    Args:
        rows: Number of transitions.
        episodes: Table of all episodes.
        windows: Sample of the rows; None if no row is finite.
        actions: The action space.
        time_limit: Number of steps after which the environment truncates an episode, or None if unknown.
        ingest_command: Command that ingests the data again, to which a finding adds an option.
        against: Name and sample of the data to compare with, or None.
    """

    rows: int
    episodes: EpisodeTable
    windows: Windows | None
    actions: ActionSpace
    time_limit: int | None = None
    ingest_command: str = "off2on data add …"
    against: tuple[str, Windows] | None = None

    @property
    def discrete(self) -> bool:
        """Return true if actions are discrete."""
        return self.actions.choices is not None


class DataCheck(Protocol):
    """A check that sees every block and then reports."""

    def add(self, block: Block) -> None:
        """Add a block to the counts of the check."""

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Yield findings and facts."""
