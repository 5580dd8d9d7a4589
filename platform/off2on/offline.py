"""The offline rows of one learner: all of its share of the data, or a window that slides over it.

Data that fit the budget are read once, straight from Parquet. Larger data stream through Ray
Data: the shards in an order shuffled anew each epoch, the rows shuffled within each shard. The
window is a ring holding the newest streamed rows, so its content is a function of how many rows
were streamed, which is all that a checkpoint needs to know.

Episodes may have weights. Those of weight 0 are left out; of the others, rows that are held are drawn
by weight, and rows that stream come by as often as their weight says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.batches import Layout, Rows, columns_of
from off2on.transforms import Array, Transforms


@dataclass(frozen=True)
class Reader:
    """Reads a learner's rows of one shard; holds no rows itself, so that it may travel to Ray's workers.

    Attributes:
        shards: The data.
        layout: The learner's columns.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        share: (rank, world): this part of every shard.
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
        """The learner's rows of shard `number`, in the order of the file: [n, W]."""
        part, count = self.part(number)
        if count == 0:
            return torch.empty(0, self.layout.width)
        file, stored = self.shards.files[number], self.stored
        made = columns_of(self.shards, file, stored, self.transforms, self.discount)
        held = {name: column[part] for name, column in made.items()}
        if "last" in held:
            held["last"][-1:] = 1.0  # where the learner's part ends, time goes on elsewhere
        rest = self.layout.widths.keys() - held.keys()
        return self.layout.pack(held | dict.fromkeys(rest, np.zeros(count, np.float32)))

    def part(self, number: int) -> tuple[slice | Array, int]:
        """Which rows of shard `number` are this learner's, and how many they are."""
        if self.weights is None:
            part = slice(*_part(self.shards.manifest.rows_per_file[number], self.share))
            return part, part.stop - part.start
        weights = self._in_shard(number)
        kept = np.flatnonzero(weights)
        # Every learner draws as many rows of a batch as any other, so it must hold as much weight.
        mass, (rank, world) = np.cumsum(weights[kept]), self.share
        whole = mass[-1] if len(mass) else 0.0
        start, stop = np.searchsorted(mass, [whole * rank / world, whole * (rank + 1) / world], side="right")
        return kept[start:stop], int(stop - start)

    def weighed(self, number: int) -> Array:
        """The weights of the learner's rows of shard `number`: [n]."""
        part, count = self.part(number)
        return np.ones(count) if self.weights is None else self._in_shard(number)[part]

    def _in_shard(self, number: int) -> Array:
        assert self.weights is not None
        manifest = self.shards.manifest
        here = manifest.episodes_of(number)
        return np.repeat(self.weights[here], manifest.lengths[here])

    def shuffled(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of a shard in this epoch's order, as Ray Data passes them on."""
        number, epoch = int(item["number"][0]), int(item["epoch"][0])
        order = np.random.default_rng((self.seed, epoch, number))
        rows = self.packed(number).numpy()
        if "start" in item:
            rows = rows.repeat(_copies(self.weighed(number), item["start"][0], item["stop"][0]), 0)
        return {"row": order.permutation(rows)}


class OfflineRows:
    """Reads, and if need be keeps sliding, the offline part of `rows`.

    Args:
        shards: The data.
        columns: The learner's columns that the data have.
        relabelled: Further columns, 0 at first.
        transforms: Units.
        discount: Gamma of the column ``ret``.
        budget: Bytes that the offline rows may take.
        capacity: Most online rows.
        share: (rank, world): this learner takes the rank-th of so many parts of every shard.
        device: Where the rows lie.
        seed: Of the order in which the rows stream.
        weights: How often the rows of each episode are drawn [episodes], 1 on average; None: all alike.
    """

    def __init__(
        self,
        shards: Shards,
        columns: Sequence[str],
        transforms: Transforms,
        *,
        relabelled: Sequence[str] = (),
        discount: float,
        budget: int,
        capacity: int,
        share: tuple[int, int],
        device: torch.device,
        seed: int,
        weights: Array | None = None,
    ) -> None:
        layout = layout_of(shards, columns, relabelled)
        self.transforms, self.seed = transforms, seed
        self.reader = Reader(shards, layout, transforms, discount, share, seed, tuple(columns), weights)
        shard_numbers = range(len(shards.files))
        self.counts = [self.reader.part(number)[1] for number in shard_numbers]
        total = sum(self.counts)
        window = min(total, budget // (4 * layout.width))
        self.streams = window < total
        uneven = weights is not None and len(set(weights[weights > 0])) > 1
        self.bounds = np.zeros(0)
        if uneven and self.streams:
            mass = np.cumsum([0.0, *(self.reader.weighed(number).sum() for number in shard_numbers)])
            total = max(1, round(mass[-1]))
            self.bounds = mass / mass[-1] * total
        self.rows = Rows(layout, window, total, capacity, device)
        if uneven and not self.streams:
            held = [self.reader.weighed(number) for number in shard_numbers]
            self.rows.weigh(torch.from_numpy(np.concatenate(held)))
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
            items = self._epoch(epoch)
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

    def _epoch(self, epoch: int) -> list[dict[str, Any]]:
        """The shards of an epoch, in its order.

        Rows of uneven weights lie on a line, each as long as its weight, and `rows.total` points one apart
        pick those that come: on average, a row comes as often as its weight says.
        """
        random = np.random.default_rng((self.seed, epoch))
        items: list[dict[str, Any]] = [
            {"number": int(number), "epoch": epoch} for number in random.permutation(len(self.counts))
        ]
        if len(self.bounds):
            edges = self.bounds - random.random()
            for item in items:
                item["start"], item["stop"] = map(float, edges[item["number"] : item["number"] + 2])
            items = [item for item in items if np.ceil(item["start"]) < np.ceil(item["stop"])]
        return items

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


def layout_of(shards: Shards, columns: Sequence[str], relabelled: Sequence[str] = ()) -> Layout:
    """Where a learner's columns lie: those of the data, then those it computes itself."""
    obs, space = shards.observation_space.shape[0], shards.action_space
    action = 0 if hasattr(space, "n") else space.shape[0]
    vectors = {"obs": obs, "next_obs": obs, "action": action, "next_action": action}
    widths = {name: vectors.get(name, 0) for name in columns} | dict.fromkeys(relabelled, 0)
    return Layout(widths, int(getattr(space, "n", 0)))


def _copies(weights: Array, start: float, stop: float) -> Array:
    """How many whole numbers each row meets [n], if rows of these weights [n] fill the line start … stop."""
    edges = np.minimum(start + np.cumsum(weights) * ((stop - start) / weights.sum()), stop)
    edges[-1] = stop
    copies: Array = np.diff(np.ceil(edges), prepend=np.ceil(start)).astype(np.int64)
    return copies


def _part(count: int, share: tuple[int, int]) -> tuple[int, int]:
    """The first of so many rows that a learner takes and the first that it does not: they are neighbours."""
    rank, world = share
    return count * rank // world, count * (rank + 1) // world
