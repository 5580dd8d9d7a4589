"""A learner's rows in an endless order of their own, read ahead by threads: bounded memory, exact resume.

Each epoch takes the data's pieces (row groups of whole episodes) in an order shuffled anew, and shuffles the
rows within each. Where a row comes is a function of the seed alone, so that a stream which is to go on at
some row reads nothing that lies before it.
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
"""Pieces that are read while the learner uses the rows before them; in a bucket, requests at a time."""


class Item(NamedTuple):
    """A piece's turn in an epoch.

    Args:
        number: Of the piece.
        epoch: Of the stream.
        rows: Number of rows that it brings.
        line: From where to where it lies on the line of weights (see `Stream`); None: each row comes once.
    """

    number: int
    epoch: int
    rows: int
    line: tuple[float, float] | None = None


@dataclass(frozen=True)
class Reader:
    """Reads a learner's rows of one piece of the data; holds no rows itself.

    Attributes:
        shards: The data.
        layout: The learner's columns.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        share: (rank, world): this part of every piece.
        seed: Of the order of the rows.
        stored: The columns that the data have; the layout's others are 0.
        weights: How often the rows of each episode are drawn [episodes]; None: all alike.
    """

    shards: Shards
    layout: Layout
    transforms: Transforms
    discount: float
    share: tuple[int, int]
    seed: int
    stored: tuple[str, ...]
    weights: Array | None = None

    def packed(self, number: int) -> Tensor:
        """The learner's rows of piece `number`, in the order of the file: [n, W]."""
        part, count = self.part(number)
        if count == 0:
            return torch.empty(0, self.layout.width)
        piece, stored = self.shards.pieces[number], self.stored
        made = read_learner_columns(self.shards, piece, stored, self.transforms, self.discount)
        held = {name: column[part] for name, column in made.items()}
        if "last" in held:
            held["last"][-1:] = 1.0  # where the learner's part ends, time goes on elsewhere
        rest = self.layout.widths.keys() - held.keys()
        return self.layout.pack(held | dict.fromkeys(rest, np.zeros(count, np.float32)))

    def part(self, number: int) -> tuple[slice | Array, int]:
        """Which rows of piece `number` are this learner's, and how many they are."""
        rank, world = self.share
        if self.weights is None:
            size = self.shards.pieces[number].size
            part = slice(size * rank // world, size * (rank + 1) // world)
            return part, part.stop - part.start
        weights = self._in_piece(number)
        kept = np.flatnonzero(weights)
        # Every learner draws as many rows of a batch as any other, so it must hold as much weight.
        mass = np.cumsum(weights[kept])
        whole = mass[-1] if len(mass) else 0.0
        start, stop = np.searchsorted(mass, [whole * rank / world, whole * (rank + 1) / world], side="right")
        return kept[start:stop], int(stop - start)

    def weighed(self, number: int) -> Array:
        """The weights of the learner's rows of piece `number`: [n]."""
        part, count = self.part(number)
        return np.ones(count) if self.weights is None else self._in_piece(number)[part]

    def _in_piece(self, number: int) -> Array:
        assert self.weights is not None
        here = self.shards.pieces[number].episodes
        return np.repeat(self.weights[here], self.shards.manifest.lengths[here])

    def shuffled(self, item: Item) -> Tensor:
        """The rows of a piece in this epoch's order: [rows, W]."""
        rows = self.packed(item.number).numpy()  # torch would use all cores for this, and training has them
        index = np.arange(len(rows))
        if item.line is not None:
            index = np.repeat(index, _copies(self.weighed(item.number), *item.line))
        order = np.random.default_rng((self.seed, item.epoch, item.number))
        return torch.from_numpy(rows[order.permutation(index)])


class Stream:
    """Rows of one epoch after the other.

    Rows of uneven weights lie on a line, each as long as its weight, and `total` points one apart pick those
    that come: on average, a row comes as often as its weight says.

    Args:
        reader: Reads them.
        counts: The learner's rows of each piece.
        uneven: Whether weights other than 0 and one value are among them.
    """

    def __init__(self, reader: Reader, counts: Sequence[int], uneven: bool) -> None:
        self.reader, self.counts = reader, counts
        self.total = sum(counts)
        """Rows of an epoch."""
        self._line = np.zeros(0)
        if uneven:
            mass = np.cumsum([0.0, *(reader.weighed(number).sum() for number in range(len(counts)))])
            self.total = max(1, round(mass[-1]))
            self._line = mass / mass[-1] * self.total
        self._position = -1

    def read(self, start: int, stop: int) -> Iterator[Tensor]:
        """Rows start … stop - 1 in blocks [n, W]; nothing is read twice if the last call stopped at start."""
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
        """The stream from row `start` on."""
        epoch, skip = divmod(start, self.total)
        waiting: deque[tuple[Future[Tensor], int]] = deque()
        with ThreadPoolExecutor(READ_AHEAD, "off2on-reader") as pool:
            while True:
                for item in self.epoch(epoch):
                    if skip >= item.rows:
                        skip -= item.rows
                        continue
                    waiting.append((pool.submit(self.reader.shuffled, item), skip))
                    skip = 0
                    if len(waiting) > READ_AHEAD:
                        block, begun = waiting.popleft()
                        yield block.result()[begun:]
                epoch += 1

    def epoch(self, epoch: int) -> list[Item]:
        """The pieces of an epoch, in its order; those that bring nothing are left out."""
        random = np.random.default_rng((self.reader.seed, epoch))
        numbers = random.permutation(len(self.counts)).tolist()
        if not len(self._line):
            return [Item(number, epoch, self.counts[number]) for number in numbers if self.counts[number]]
        edges = self._line - random.random()
        counts = np.diff(np.ceil(edges)).astype(int).tolist()
        return [
            Item(number, epoch, counts[number], (float(edges[number]), float(edges[number + 1])))
            for number in numbers
            if counts[number]
        ]


def _copies(weights: Array, start: float, stop: float) -> Array:
    """How many whole numbers each row meets [n], if rows of these weights [n] fill the line start … stop."""
    edges = np.minimum(start + np.cumsum(weights) * ((stop - start) / weights.sum()), stop)
    edges[-1] = stop
    copies: Array = np.diff(np.ceil(edges), prepend=np.ceil(start)).astype(np.int64)
    return copies
