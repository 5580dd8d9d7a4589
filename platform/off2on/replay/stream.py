"""Read a learner's rows epoch after epoch in shuffled order, ahead of time: bounded memory, exact resume.

Each epoch shuffles the order of the pieces (row groups of whole episodes) and the rows within each. The
position of a row is a function of the seed alone, so a stream that continues at some row reads no row before
it.
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

READ_AHEAD = 2
"""Number of pieces read ahead; in a bucket, number of simultaneous requests."""


class EpochPiece(NamedTuple):
    """A piece in an epoch.

    Args:
        number: Number of the piece.
        epoch: Number of the epoch.
        rows: Number of rows that it yields.
        interval: Start and end on the cumulative weights (see `Stream`); None: each row once.
    """

    number: int
    epoch: int
    rows: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Reader:
    """Reads a learner's rows of one piece of the data; holds no rows itself.

    Attributes:
        shards: The data.
        layout: The learner's columns.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        partition: (rank, world): the rank-th of world parts of every piece.
        seed: Seed of the order of the rows.
        stored: The columns that the data have; the layout's others are 0.
        weights: Weights of the rows of each episode [episodes]; None: all equal.
    """

    shards: Shards
    layout: Layout
    transforms: Transforms
    discount: float
    partition: tuple[int, int]
    seed: int
    stored: tuple[str, ...]
    weights: Array | None = None

    def packed(self, number: int) -> Tensor:
        """Return the learner's rows of piece `number`, in the order of the file: [n, W]."""
        part, count = self.part(number)
        if count == 0:
            return torch.empty(0, self.layout.width)
        piece, stored = self.shards.pieces[number], self.stored
        made = read_learner_columns(self.shards, piece, stored, self.transforms, self.discount)
        held = {name: column[part] for name, column in made.items()}
        if "last" in held:
            held["last"][-1:] = 1.0  # the learner's part may end within an episode
        rest = self.layout.widths.keys() - held.keys()
        return self.layout.pack(held | dict.fromkeys(rest, np.zeros(count, np.float32)))

    def part(self, number: int) -> tuple[slice | Array, int]:
        """Return the learner's rows of piece `number`, and their number."""
        rank, world = self.partition
        if self.weights is None:
            size = self.shards.pieces[number].size
            part = slice(size * rank // world, size * (rank + 1) // world)
            return part, part.stop - part.start
        weights = self._in_piece(number)
        kept = np.flatnonzero(weights)
        # Every learner draws the same number of rows, so it must hold the same sum of weights.
        mass = np.cumsum(weights[kept])
        whole = mass[-1] if len(mass) else 0.0
        start, stop = np.searchsorted(mass, [whole * rank / world, whole * (rank + 1) / world], side="right")
        return kept[start:stop], int(stop - start)

    def weighed(self, number: int) -> Array:
        """Return the weights of the learner's rows of piece `number`: [n]."""
        part, count = self.part(number)
        return np.ones(count) if self.weights is None else self._in_piece(number)[part]

    def _in_piece(self, number: int) -> Array:
        assert self.weights is not None
        here = self.shards.pieces[number].episodes
        return np.repeat(self.weights[here], self.shards.manifest.lengths[here])

    def shuffled(self, piece: EpochPiece) -> Tensor:
        """Return the rows of a piece in this epoch's order: [rows, W]."""
        rows = self.packed(piece.number).numpy()  # torch would use all cores, which training needs
        index = np.arange(len(rows))
        if piece.interval is not None:
            index = np.repeat(index, _copies(self.weighed(piece.number), *piece.interval))
        order = np.random.default_rng((self.seed, piece.epoch, piece.number))
        return torch.from_numpy(rows[order.permutation(index)])


class Stream:
    """Rows epoch after epoch.

    Rows of unequal weights are drawn by systematic sampling: each is an interval as long as its weight on the
    cumulative weights, and is yielded once for each of `total` points at distance 1 in it. On average a row
    is yielded as often as its weight.

    Args:
        reader: Reader of the rows.
        counts: Number of the learner's rows of each piece.
        uneven: True if the weights have other values than 0 and one more.
    """

    def __init__(self, reader: Reader, counts: Sequence[int], uneven: bool) -> None:
        self.reader, self.counts = reader, counts
        self.total = sum(counts)
        """Number of rows of an epoch."""
        self._cumulative = np.zeros(0)
        if uneven:
            mass = np.cumsum([0.0, *(reader.weighed(number).sum() for number in range(len(counts)))])
            self.total = max(1, round(mass[-1]))
            self._cumulative = mass / mass[-1] * self.total
        self._position = -1

    def read(self, start: int, stop: int) -> Iterator[Tensor]:
        """Yield rows start … stop - 1 in blocks [n, W]; reads nothing again if it continues the last call."""
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
        with ThreadPoolExecutor(READ_AHEAD, "off2on-reader") as pool:
            while True:
                for piece in self.epoch(epoch):
                    if skip >= piece.rows:
                        skip -= piece.rows
                        continue
                    waiting.append((pool.submit(self.reader.shuffled, piece), skip))
                    skip = 0
                    if len(waiting) > READ_AHEAD:
                        block, begun = waiting.popleft()
                        yield block.result()[begun:]
                epoch += 1

    def epoch(self, epoch: int) -> list[EpochPiece]:
        """Return the pieces of an epoch in order, without those that yield no row."""
        random = np.random.default_rng((self.reader.seed, epoch))
        numbers = random.permutation(len(self.counts)).tolist()
        if not len(self._cumulative):
            return [
                EpochPiece(number, epoch, self.counts[number]) for number in numbers if self.counts[number]
            ]
        edges = self._cumulative - random.random()
        counts = np.diff(np.ceil(edges)).astype(int).tolist()
        return [
            EpochPiece(number, epoch, counts[number], (float(edges[number]), float(edges[number + 1])))
            for number in numbers
            if counts[number]
        ]


def _copies(weights: Array, start: float, stop: float) -> Array:
    """Count the whole numbers in each row's interval [n], for weights [n] scaled to start … stop."""
    edges = np.minimum(start + np.cumsum(weights) * ((stop - start) / weights.sum()), stop)
    edges[-1] = stop
    copies: Array = np.diff(np.ceil(edges), prepend=np.ceil(start)).astype(np.int64)
    return copies
