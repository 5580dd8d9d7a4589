"""The offline rows of one learner: all of its share of the data, or a window that slides over it.

Data that fit the budget are read once, straight from Parquet. Larger data stream through Ray
Data: the shards in an order shuffled anew each epoch, the rows shuffled within each shard. The
window is a ring holding the newest streamed rows, so its content is a function of how many rows
were streamed, which is all that a checkpoint needs to know.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.batches import Layout, Rows, columns_of
from off2on.transforms import Transforms


@dataclass(frozen=True)
class Reader:
    """Reads a learner's rows of one shard; holds no rows itself, so that it may travel to Ray's workers.

    Attributes:
        shards: The data.
        layout: The learner's columns.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        share: (rank, world): every world-th row of every shard.
        seed: Of the order of the rows.
    """

    shards: Shards
    layout: Layout
    transforms: Transforms
    discount: float
    share: tuple[int, int]
    seed: int

    def packed(self, number: int) -> Tensor:
        """The rows of shard `number`, in the order of the file: [n, W]."""
        names = tuple(self.layout.widths)
        made = columns_of(self.shards, self.shards.files[number], names, self.transforms, self.discount)
        rank, world = self.share
        return self.layout.pack({name: column[rank::world] for name, column in made.items()})

    def shuffled(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of a shard in this epoch's order, as Ray Data passes them on."""
        number, epoch = int(item["number"][0]), int(item["epoch"][0])
        order = np.random.default_rng((self.seed, epoch, number))
        return {"row": order.permutation(self.packed(number).numpy())}


class OfflineRows:
    """Reads, and if need be keeps sliding, the offline part of `rows`.

    Args:
        shards: The data.
        columns: The learner's columns.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        budget: Bytes that the offline rows may take.
        capacity: Most online rows.
        share: (rank, world): this learner takes every world-th row of every shard.
        device: Where the rows lie.
        seed: Of the order in which the rows stream.
    """

    def __init__(
        self,
        shards: Shards,
        columns: Sequence[str],
        transforms: Transforms,
        *,
        discount: float,
        budget: int,
        capacity: int,
        share: tuple[int, int],
        device: torch.device,
        seed: int,
    ) -> None:
        rank, world = share
        self.counts = [len(range(rank, file["rows"], world)) for file in shards.manifest.files]
        layout = Layout(_widths(shards, columns))
        self.transforms, self.seed = transforms, seed
        self.reader = Reader(shards, layout, transforms, discount, share, seed)
        total = sum(self.counts)
        window = min(total, budget // (4 * layout.width))
        self.rows = Rows(layout, window, total, capacity, device)
        self.streams = window < total
        self.streamed = 0
        self._blocks: Iterator[Tensor] = iter(())
        self._position = -1
        if self.streams:
            self._slide_to(window)
        else:
            start = 0
            for number, count in enumerate(self.counts):
                self.rows.data[start : start + count] = self.reader.packed(number)
                start += count

    def slide(self, used: int) -> Tensor:
        """Let as many new rows into the window as were used; the positions [n] they took."""
        if not self.streams:
            return torch.empty(0, dtype=torch.long)
        return self._slide_to(self.streamed + min(used, self.rows.offline))

    def _slide_to(self, stop: int) -> Tensor:
        start, taken = self.streamed, []
        for block in self._stream(start, stop):
            position = (self.streamed + torch.arange(len(block))) % self.rows.offline
            self.rows.data[position.to(self.rows.data.device)] = block.to(self.rows.data.device)
            self.streamed += len(block)
            taken.append(position)
        return torch.cat(taken)

    def _stream(self, start: int, stop: int) -> Iterator[Tensor]:
        """Rows start … stop - 1 of the endless stream, in blocks [n, W]."""
        if self._position != start:
            self._blocks, self._position = self._endless(start), start
            self._left = torch.empty(0, self.rows.layout.width)
        while self._position < stop:
            block = self._left if len(self._left) else next(self._blocks)
            cut = stop - self._position
            block, self._left = block[:cut], block[cut:]
            self._position += len(block)
            yield block

    def _endless(self, start: int) -> Iterator[Tensor]:
        """The stream from row `start` on, read by Ray Data."""
        import ray.data

        epoch, skip = divmod(start, self.rows.total)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.counts))
            items = [{"number": int(number), "epoch": epoch} for number in order]
            shards = ray.data.from_items(items, override_num_blocks=len(items))
            # No CPU is asked for: learners and runners may hold them all, and the stream would hang.
            one = ray.data.TaskPoolStrategy(size=1)
            rows = shards.map_batches(self.reader.shuffled, batch_size=1, num_cpus=0, compute=one)
            for batch in rows.iter_batches(batch_size=8192, batch_format="numpy", prefetch_batches=1):
                block = torch.from_numpy(np.ascontiguousarray(batch["row"]))
                if skip >= len(block):
                    skip -= len(block)
                    continue
                yield block[skip:]
                skip = 0
            epoch += 1

    def state(self) -> dict[str, Any]:
        """How far the stream came."""
        return {"streamed": self.streamed}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put the window where it was."""
        if self.streams:
            # Another run's window, where this one starts at its handover, may have been smaller or none.
            stop = max(state["streamed"], self.rows.offline)
            self.streamed = stop - self.rows.offline
            self._slide_to(stop)


def _widths(shards: Shards, columns: Sequence[str]) -> dict[str, int]:
    """Column name to width, 0 for a number."""
    obs, action = shards.observation_space.shape[0], shards.action_space.shape[0]
    vectors = {"obs": obs, "next_obs": obs, "action": action, "next_action": action}
    return {name: vectors.get(name, 0) for name in columns}
