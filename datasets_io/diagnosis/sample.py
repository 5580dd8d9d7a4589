"""A uniform random sample of rows with their neighbours in time, for what costs more than one pass."""

from dataclasses import dataclass, field

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.episode import Array

CAPACITY = 50_000
"""Rows kept."""
MAX_COLUMNS = 64
"""Columns of observations, and half as many of actions, that are kept of wider ones."""


def spread_columns(width: int, most: int = MAX_COLUMNS) -> Array:
    """Which columns are looked at closely: all, or `most` of them, evenly spread."""
    return np.unique(np.linspace(0, width - 1, min(width, most)).round().astype(int))


@dataclass(eq=False)
class Reservoir:
    """Rows with the smallest random keys seen so far: a uniform sample, in one pass and in bounded memory.

    Args:
        capacity: Rows kept in the end; up to twice as many are held in between.
        seed: Of the keys.
    """

    capacity: int
    seed: int = 0
    _held: list[dict[str, Array]] = field(default_factory=list)
    _count: int = 0
    _bound: float = np.inf

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def choose(self, rows: Array) -> tuple[Array, Array]:
        """Draws a key for each of these rows; returns the rows that may stay, and their keys."""
        keys = self._rng.random(len(rows))
        stay = keys < self._bound
        return rows[stay], keys[stay]

    def add(self, keys: Array, columns: dict[str, Array]) -> None:
        """Keeps rows that were chosen: columns [n, …]."""
        if not len(keys):
            return
        self._held.append({"key": keys, **columns})
        self._count += len(keys)
        if self._count > 2 * self.capacity:
            self._prune()

    def _prune(self) -> None:
        whole = {name: np.concatenate([held[name] for held in self._held]) for name in self._held[0]}
        if self._count > self.capacity:
            stay = np.argpartition(whole["key"], self.capacity)[: self.capacity]
            self._bound = float(whole["key"][stay].max())
            whole = {name: values[stay] for name, values in whole.items()}
        self._held, self._count = [whole], len(whole["key"])

    def columns(self) -> dict[str, Array]:
        """What was kept, without the keys; nothing if nothing ever came."""
        if not self._held:
            return {}
        self._prune()
        return {name: values for name, values in self._held[0].items() if name != "key"}


@dataclass(frozen=True, eq=False)
class Windows:
    """A sample of n rows in the order of the data, each with the rows before and after it in its episode.

    Args:
        obs: [n, 4, d] float32: the observations before the previous action, before this one, after this one,
            and after the next one; zeros where there is none.
        actions: [n, 3, a] float32: the previous, this and the next; [n, 3, 1] numbers if discrete.
        rewards: [n].
        row: Row of the source [n].
        episode: Number of the episode in the data [n].
        has: [n, 4] bool: which of the observations there are.
        terminal: [n] bool: the row ends the task.
    """

    obs: Array
    actions: Array
    rewards: Array
    row: Array
    episode: Array
    has: Array
    terminal: Array

    def __len__(self) -> int:
        return len(self.rewards)

    def take(self, index: Array) -> "Windows":
        """Some of the rows."""
        return Windows(**{name: values[index] for name, values in vars(self).items()})


class WindowSampler:
    """Collects `Windows` of finite rows from blocks."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._reservoir = Reservoir(capacity)
        self._episodes = 0

    def add(self, block: Block) -> None:
        """Takes its share of a block."""
        obs, actions = spread_columns(block.obs.shape[1]), block.actions
        # A window reaches one row back and two ahead: all of them must be numbers.
        fine = block.finite & np.roll(block.finite, 1) & np.roll(block.finite, -1)
        rows, keys = self._reservoir.choose(np.flatnonzero(fine))
        begin = block.starts[block.episode[rows]]
        end = begin + block.lengths[block.episode[rows]]
        final = block.has_final[block.episode[rows]]
        at = rows[:, None] + np.arange(-1, 3)
        inside = (at >= begin[:, None]) & (at < end[:, None])
        ends = (at == end[:, None]) & final[:, None]
        seen = block.obs[np.clip(at, 0, len(block) - 1)[:, :, None], obs]
        seen[ends] = block.final_obs[block.episode[rows]][:, obs][np.nonzero(ends)[0]]
        has = inside | ends
        seen[~has] = 0
        has &= np.isfinite(seen).all(-1)
        acts = actions.reshape(len(actions), -1)
        acts = acts[:, spread_columns(acts.shape[1], MAX_COLUMNS // 2)]
        done = acts[np.clip(at[:, :3], 0, len(block) - 1)].astype(np.float32)
        done[~inside[:, :3]] = 0
        self._reservoir.add(
            keys,
            {
                "obs": np.nan_to_num(seen, nan=0, posinf=0, neginf=0),
                "actions": done,
                "rewards": block.rewards[rows],
                "row": block.row[rows],
                "episode": block.episode[rows] + self._episodes,
                "has": has,
                "terminal": block.last[rows] & block.terminated[block.episode[rows]],
            },
        )
        self._episodes += len(block.starts)

    def windows(self) -> Windows | None:
        """The sample, or None if there was not one finite row."""
        columns = self._reservoir.columns()
        if not columns:
            return None
        order = np.lexsort((columns["row"], columns["episode"]))
        return Windows(**{name: values[order] for name, values in columns.items()})
