"""Read the rows of a learner in shuffled order, epoch after epoch, with bounded memory and exact resume.

Each epoch shuffles the order of the pieces (row groups of whole episodes) and the rows within each. The
order is a function of the seed alone, so that a resumed stream need not read the rows before its position.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.replay.buffer import Layout, read_learner_columns
from off2on.replay.transforms import Array, Transforms
from off2on.replay.windows import EpisodeChange

READ_AHEAD = 2
"""Number of pieces read ahead; for data in a bucket also the number of simultaneous requests."""


class EpochPiece(NamedTuple):
    """A piece of the data in one epoch.

    Args:
        number: Number of the piece.
        epoch: Number of the epoch.
        rows: Number of rows that it yields.
        interval: Start and end on the cumulative weights (see `ShuffledStream`); None: each row once.
    """

    number: int
    epoch: int
    rows: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PieceReader:
    """Reads the rows of a learner, one piece of the data at a time; holds no rows itself.

    Attributes:
        shards: The data.
        layout: The learner's columns.
        transforms: From raw to transformed units.
        discount: Discount factor of the return to go ``ret``, and of the changes.
        partition: (rank, world size): part `rank` of `world size` equal parts of every piece.
        seed: Seed of the order of the rows.
        stored: The columns that are read from the data; the other columns of the layout are 0.
        weights: Weights of the rows of each episode [episodes]; None: all equal.
        changes: Changes that need whole episodes, in this order.
    """

    shards: Shards
    layout: Layout
    transforms: Transforms
    discount: float
    partition: tuple[int, int]
    seed: int
    stored: tuple[str, ...]
    weights: Array | None = None
    changes: tuple[EpisodeChange, ...] = ()

    def read_piece(self, number: int) -> Tensor:
        """Read the learner's rows of piece `number`, in the order of the file: [n, W]."""
        part, count = self.own_part(number)
        if count == 0:
            return torch.empty(0, self.layout.width)
        piece, stored = self.shards.pieces[number], self.stored
        columns = read_learner_columns(
            self.shards, piece, stored, self.transforms, self.discount, self.changes
        )
        held = {name: column[part] for name, column in columns.items()}
        if "last" in held:
            held["last"][-1:] = 1.0  # the part may end within an episode, whose rest another learner holds
        rest = self.layout.widths.keys() - held.keys()
        return self.layout.pack(held | dict.fromkeys(rest, np.zeros(count, np.float32)))

    def own_part(self, number: int) -> tuple[slice | Array, int]:
        """Return which rows of piece `number` are this learner's (slice or indices), and how many."""
        rank, world = self.partition
        if self.weights is None:
            size = self.shards.pieces[number].size
            part = slice(size * rank // world, size * (rank + 1) // world)
            return part, part.stop - part.start
        weights = self._piece_weights(number)
        kept = np.flatnonzero(weights)
        # Every learner draws the same number of rows, so it must hold the same sum of weights.
        cumulative = np.cumsum(weights[kept])
        total = cumulative[-1] if len(cumulative) else 0.0
        edges = [total * (rank / world), total * ((rank + 1) / world)]  # the last is exactly the total
        start, stop = np.searchsorted(cumulative, edges, side="right")
        return kept[start:stop], int(stop - start)

    def row_weights(self, number: int) -> Array:
        """Return the weights of the learner's rows of piece `number`: [n]."""
        part, count = self.own_part(number)
        return np.ones(count) if self.weights is None else self._piece_weights(number)[part]

    def _piece_weights(self, number: int) -> Array:
        assert self.weights is not None
        episodes = self.shards.pieces[number].episodes
        return np.repeat(self.weights[episodes], self.shards.manifest.lengths[episodes])

    def read_shuffled(self, piece: EpochPiece) -> Tensor:
        """Read the rows of a piece in the order of its epoch: [rows, W]."""
        # Indexed by numpy: torch would use all cores, which training needs.
        rows = self.read_piece(piece.number).numpy()
        index = np.arange(len(rows))
        if piece.interval is not None:
            index = np.repeat(index, _copies(self.row_weights(piece.number), *piece.interval))
        rng = np.random.default_rng((self.seed, piece.epoch, piece.number))
        return torch.from_numpy(rows[rng.permutation(index)])


class ShuffledStream:
    """Endless stream of a learner's rows, shuffled anew in each epoch.

    Rows of unequal weights are drawn by systematic sampling. The weights, scaled to the sum `total`, are laid
    end to end as intervals; points at distance 1 with a random start are placed on them; and a row is yielded
    once for each point in its interval. So a row is yielded as often as its weight on average.

    Args:
        reader: Reader of the rows.
        counts: Number of the learner's rows of each piece.
        unequal_weights: True if the rows of positive weight do not all have the same weight.
    """

    def __init__(self, reader: PieceReader, counts: Sequence[int], unequal_weights: bool) -> None:
        self.reader, self.counts = reader, counts
        self.total = sum(counts)
        """Number of rows of an epoch."""
        self._cumulative = np.zeros(0)
        if unequal_weights:
            cumulative = np.cumsum(
                [0.0, *(reader.row_weights(number).sum() for number in range(len(counts)))]
            )
            self.total = max(1, round(cumulative[-1]))
            self._cumulative = cumulative / cumulative[-1] * self.total
        self._position = -1

    def read(self, start: int, stop: int) -> Iterator[Tensor]:
        """Yield rows start … stop - 1 in blocks [n, W].

        A call that starts where the last one stopped reads no piece twice.
        """
        if self._position != start:
            self._blocks, self._position = self._endless(start), start
            self._left = torch.empty(0, self.reader.layout.width)
        while self._position < stop:
            block = self._left if len(self._left) else next(self._blocks)
            cut = stop - self._position
            block, self._left = block[:cut], block[cut:]
            self._position += len(block)
            yield block

    def _endless(self, start: int) -> Iterator[Tensor]:
        """Yield blocks from row `start` on."""
        epoch, skip = divmod(start, self.total)
        waiting: deque[tuple[Future[Tensor], int]] = deque()
        pool = ThreadPoolExecutor(READ_AHEAD, "off2on-reader")
        try:
            while True:
                for piece in self.epoch(epoch):
                    if skip >= piece.rows:
                        skip -= piece.rows
                        continue
                    waiting.append((pool.submit(self.reader.read_shuffled, piece), skip))
                    skip = 0
                    if len(waiting) > READ_AHEAD:
                        block, skipped = waiting.popleft()
                        yield block.result()[skipped:]
                epoch += 1
        finally:
            # Without waiting: the garbage collector may end this generator in any thread, also in one of the
            # pool, which cannot wait for itself, or in one that is being started, which others wait for.
            pool.shutdown(wait=False, cancel_futures=True)

    def epoch(self, epoch: int) -> list[EpochPiece]:
        """Return the pieces of an epoch in order, without those that yield no row."""
        rng = np.random.default_rng((self.reader.seed, epoch))
        numbers = rng.permutation(len(self.counts)).tolist()
        if not len(self._cumulative):
            return [
                EpochPiece(number, epoch, self.counts[number]) for number in numbers if self.counts[number]
            ]
        edges = self._cumulative - rng.random()
        counts = np.diff(np.ceil(edges)).astype(int).tolist()
        return [
            EpochPiece(number, epoch, counts[number], (float(edges[number]), float(edges[number + 1])))
            for number in numbers
            if counts[number]
        ]


def _copies(weights: Array, start: float, stop: float) -> Array:
    """Return the number of copies of each row [n]: the integers in its interval.

    The intervals are the weights [n], scaled to the interval start … stop.
    """
    edges = np.minimum(start + np.cumsum(weights) * ((stop - start) / weights.sum()), stop)
    edges[-1] = stop
    copies: Array = np.diff(np.ceil(edges), prepend=np.ceil(start)).astype(np.int64)
    return copies
