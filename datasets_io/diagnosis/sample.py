"""Uniform random sample of rows with their previous and next rows, for checks that need several passes."""

from dataclasses import dataclass, field

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.episode import Array

CAPACITY = 50_000
"""Number of rows in the sample."""
MAX_COLUMNS = 64
"""Maximum number of observation columns in the sample; for actions, half of it."""


def spread_columns(width: int, most: int = MAX_COLUMNS) -> Array:
    """Return the indices of all columns, or of `most` evenly spread ones."""
    return np.unique(np.linspace(0, width - 1, min(width, most)).round().astype(int))


@dataclass(eq=False)
class Reservoir:
    """Uniform sample of rows in one pass and bounded memory: the rows with the smallest random keys.

    Args:
        capacity: Number of rows in the sample; up to twice as many are kept during the pass.
        seed: Seed of the keys.
    """

    capacity: int
    seed: int = 0
    _chunks: list[dict[str, Array]] = field(default_factory=list)
    _count: int = 0
    _bound: float = np.inf

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def choose(self, rows: Array) -> tuple[Array, Array]:
        """Draw a key for each row; return the rows that may be in the sample, and their keys."""
        keys = self._rng.random(len(rows))
        keep = keys < self._bound
        return rows[keep], keys[keep]

    def add(self, keys: Array, columns: dict[str, Array]) -> None:
        """Add rows that `choose` returned: columns [n, …]."""
        if not len(keys):
            return
        self._chunks.append({"key": keys, **columns})
        self._count += len(keys)
        if self._count > 2 * self.capacity:
            self._prune()

    def _prune(self) -> None:
        joined = {name: np.concatenate([chunk[name] for chunk in self._chunks]) for name in self._chunks[0]}
        if self._count > self.capacity:
            keep = np.argpartition(joined["key"], self.capacity)[: self.capacity]
            self._bound = float(joined["key"][keep].max())
            joined = {name: values[keep] for name, values in joined.items()}
        self._chunks, self._count = [joined], len(joined["key"])

    def columns(self) -> dict[str, Array]:
        """Return the columns of the sample without the keys; empty if no row was added."""
        if not self._chunks:
            return {}
        self._prune()
        return {name: values for name, values in self._chunks[0].items() if name != "key"}


@dataclass(frozen=True, eq=False)
class Windows:
    """Sample of n rows in the order of the data, each with the rows before and after it in its episode.

    Args:
        obs: Observations before the previous action, before this action, after it, and after the next action
            [n, 4, d] float32; zeros where there is none.
        actions: Previous, this and next action [n, 3, a] float32; [n, 3, 1] numbers if discrete.
        rewards: Rewards [n].
        row: Row of the source [n].
        episode: Number of the episode in the data [n].
        has: Mask of the existing observations [n, 4] bool.
        terminal: True if the row ends the task [n] bool.
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
        """Return the windows with these indices."""
        return Windows(**{name: values[index] for name, values in vars(self).items()})


class WindowSampler:
    """Sampler of `Windows` of finite rows from blocks."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._reservoir = Reservoir(capacity)
        self._episodes = 0

    def add(self, block: Block) -> None:
        """Sample from the rows of a block."""
        obs, actions = spread_columns(block.obs.shape[1]), block.actions
        # The previous and the next row belong to the window, so they must be finite too.
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
        flat = actions.reshape(len(actions), -1)
        flat = flat[:, spread_columns(flat.shape[1], MAX_COLUMNS // 2)]
        taken = flat[np.clip(at[:, :3], 0, len(block) - 1)].astype(np.float32)
        taken[~inside[:, :3]] = 0
        self._reservoir.add(
            keys,
            {
                "obs": np.nan_to_num(seen, nan=0, posinf=0, neginf=0),
                "actions": taken,
                "rewards": block.rewards[rows],
                "row": block.row[rows],
                "episode": block.episode[rows] + self._episodes,
                "has": has,
                "terminal": block.last[rows] & block.terminated[block.episode[rows]],
            },
        )
        self._episodes += len(block.starts)

    def windows(self) -> Windows | None:
        """Return the sample, or None if no row was finite."""
        columns = self._reservoir.columns()
        if not columns:
            return None
        order = np.lexsort((columns["row"], columns["episode"]))
        return Windows(**{name: values[order] for name, values in columns.items()})
