"""Iteration over data sets and sources in blocks of whole episodes, a few megabytes at a time."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from datasets_io.diagnosis.finding import Finding
from datasets_io.episode import NO_CHOICE, Array, Episode
from datasets_io.errors import DataError
from datasets_io.faults import judge, merge
from datasets_io.ingestion.precision import Ranges, measure
from datasets_io.shards.reading import Shards
from datasets_io.source import Source

MAX_VALUES = 4_000_000
"""Approximate number of observation values per block."""
MAX_ROWS = 32_768
"""Approximate maximum number of rows per block."""


@dataclass(frozen=True, eq=False)
class Block:
    """E whole episodes, concatenated, with N rows in total.

    Args:
        obs: Flat observations [N, D] float32.
        actions: Actions [N, A] float32, or [N] integers.
        rewards: Rewards [N] float32.
        starts: Rows of the block at which episodes start [E].
        final_obs: Observations after the last actions [E, D]; arbitrary where they were not recorded.
        has_final: True where `final_obs` was recorded [E] bool.
        terminated: True if the task ended the episode [E] bool.
        truncated: True if the episode was cut off [E] bool.
        rows: Rows of the source at which the episodes start [E].
    """

    obs: Array
    actions: Array
    rewards: Array
    starts: Array
    final_obs: Array
    has_final: Array
    terminated: Array
    truncated: Array
    rows: Array

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def lengths(self) -> Array:
        """Return the number of steps of each episode [E]."""
        return np.diff(self.starts, append=len(self))

    @cached_property
    def last(self) -> Array:
        """Return the mask of the last rows of episodes [N] bool."""
        flags = np.zeros(len(self), bool)
        flags[self.starts + self.lengths - 1] = True
        return flags

    @cached_property
    def episode(self) -> Array:
        """Return the number of the episode within the block [N]."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def row(self) -> Array:
        """Return the row of the source [N]."""
        within: Array = np.arange(len(self)) - np.repeat(self.starts, self.lengths)
        row: Array = within + np.repeat(self.rows, self.lengths)
        return row

    @cached_property
    def new_obs(self) -> tuple[Array, Array]:
        """Return the observation after each action [N, D], and the mask of recorded ones [N] bool."""
        following = np.empty_like(self.obs)
        following[:-1] = self.obs[1:]
        following[self.last] = self.final_obs
        known = np.ones(len(self), bool)
        known[self.last] = self.has_final
        return following, known

    @cached_property
    def finite(self) -> Array:
        """Return the mask of rows without NaN and infinity [N] bool."""
        finite: Array = _finite(self.obs) & _finite(self.actions) & _finite(self.rewards)
        return finite


def _finite(values: Array) -> Array:
    if values.dtype.kind != "f":
        return np.ones(len(values), bool)
    rows: Array = np.logical_and.reduce(np.isfinite(values.reshape(len(values), -1)), axis=1)
    return rows


def shard_blocks(shards: Shards) -> Iterator[Block]:
    """Yield the blocks of a data set, piece by piece; rows are numbered over all files."""
    for piece in shards.pieces:
        read = shards.read(
            piece, ["obs", "actions", "rewards", "terminateds", "truncateds", "last", "new_obs"]
        )
        final = read.pop("new_obs")[read["last"]]
        rows = len(read["last"])
        ends = np.flatnonzero(read["last"])
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        obs = read["obs"].reshape(rows, -1)
        for first, stop in _pieces(starts, rows, obs.shape[1]):
            begin = starts[first]
            end = starts[stop] if stop < len(starts) else rows
            yield Block(
                obs[begin:end],
                read["actions"][begin:end].reshape(end - begin, *read["actions"].shape[1:][:1]),
                read["rewards"][begin:end],
                starts[first:stop] - begin,
                final[first:stop].reshape(stop - first, -1),
                np.ones(stop - first, bool),
                read["terminateds"][ends[first:stop]],
                read["truncateds"][ends[first:stop]],
                starts[first:stop] + piece.rows.start,
            )


def _pieces(starts: Array, rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of whole episodes with about the number of rows of a block."""
    size = rows_per_block(width)
    marks = np.searchsorted(starts, np.arange(0, rows, size))
    bounds = np.unique(np.append(marks, len(starts)))
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


def rows_per_block(width: int) -> int:
    """Return the number of rows per block for observations of `width` numbers."""
    return int(np.clip(MAX_VALUES // max(width, 1), 256, MAX_ROWS))


class SourceBlocks:
    """The blocks of a source, read part by part in this process; nothing is written.

    Args:
        source: Source of the episodes; a copy of it is read.
        path: Argument of `source.parts`.
        progress: Callback with the number of rows read so far.

    Attributes:
        refusals: Errors on parts of the data that could not be read; filled during iteration.
    """

    def __init__(self, source: Source, path: Any, progress: Callable[[int], None] | None = None) -> None:
        self.source, self._path, self._progress = copy(source), path, progress
        self.source.__dict__["_faults"] = []
        self.refusals: list[Finding] = []
        self._row = 0
        self._layout: dict[str, tuple[int, ...]] | None = None
        self._misfits: list[int] = []
        self._ranges: dict[str, Ranges] = {}

    def __iter__(self) -> Iterator[Block]:
        try:
            parts = self.source.parts(self._path)
        except DataError as error:
            self._refuse(error)
            return
        for part in parts:
            try:
                yield from self._of_part(part)
            except DataError as error:
                self._refuse(error)
        lost = [ranges.fault(name) for name, ranges in self._ranges.items()]
        self.source.faults.extend(fault for fault in lost if fault is not None)
        self.source.faults[:] = judge(merge(self.source.faults), self._row)
        if self._misfits:
            self.refusals.append(
                Finding(
                    "error",
                    "schema",
                    f"{len(self._misfits):,} episodes differ in width from the first one: {self._layout}",
                    "an ingest refuses the data: all observations, and all actions, have one width",
                    "leave these episodes out in the source, or convert them to one width",
                    tuple(self._misfits[:5]),
                )
            )

    def _of_part(self, part: Any) -> Iterator[Block]:
        buffer: list[tuple[Episode, int]] = []
        rows = 0
        for episode in self.source.episodes(part):
            row = self._row if episode.row is None else episode.row
            self._row += episode.length
            if not self._fits(episode, row):
                continue
            buffer.append((episode, row))
            rows += episode.length
            if rows >= rows_per_block(int(np.prod(episode.obs.shape[1:]))):
                yield self._pack(buffer)
                buffer, rows = [], 0
        if buffer:
            yield self._pack(buffer)

    def _fits(self, episode: Episode, row: int) -> bool:
        try:
            episode.check(finite=False)
        except DataError as error:
            self._refuse(error, row)
            return False
        layout = {"obs": episode.obs.shape[1:], "actions": episode.actions.shape[1:]}
        self._layout = self._layout or layout
        if layout != self._layout:
            self._misfits.append(row)
        return layout == self._layout

    def _pack(self, buffer: list[tuple[Episode, int]]) -> Block:
        episodes = [episode for episode, _ in buffer]
        _, rounded = measure(episodes, self._ranges)
        self.source.faults.extend(rounded)
        lengths = np.array([episode.length for episode in episodes])
        actions = np.concatenate([episode.actions for episode in episodes])
        starts = np.cumsum(lengths) - lengths
        if self._progress is not None:
            self._progress(self._row)
        return Block(
            _flat([episode.obs[: episode.length] for episode in episodes]),
            _choices(actions) if actions.ndim == 1 else _flat([episode.actions for episode in episodes]),
            _float32(np.concatenate([episode.rewards for episode in episodes])),
            starts,
            _flat([episode.obs[-1:] for episode in episodes]),
            np.array([len(episode.obs) > episode.length for episode in episodes]),
            np.array([episode.terminated for episode in episodes]),
            np.array([bool(episode.truncated) for episode in episodes]),
            np.array([row for _, row in buffer]),
        )

    def _refuse(self, error: DataError, row: int | None = None) -> None:
        if len(self.refusals) < 20:  # a source may have the same fault in every episode
            what = error.what.rstrip(".")
            rows = () if row is None else (row,)
            means = " ".join(error.hint.split()) or "an ingest refuses the data"
            self.refusals.append(Finding("error", "schema", what, means, error.try_, rows))


def _choices(actions: Array) -> Array:
    """Return choices [N]; floats with NaN where some were not recorded."""
    known = actions != NO_CHOICE
    return actions if known.all() else np.where(known, actions, np.nan)


def _flat(arrays: list[Array]) -> Array:
    joined = np.concatenate(arrays)
    return _float32(joined.reshape(len(joined), -1))


def _float32(values: Array) -> Array:
    # A float64 beyond the range of float32 becomes infinite, as in a shard, and is reported as infinite.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)
