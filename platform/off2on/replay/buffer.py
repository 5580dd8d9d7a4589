"""Transitions as the learner sees them: one packed matrix, batches as views of its columns.

All columns of a transition lie side by side in a row of float32, so that drawing the rows for a
block of updates is a single gather. Offline rows come first, a ring of online rows follows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from datasets_io.column_names import SHARD_COLUMNS
from datasets_io.returns import returns_to_go
from datasets_io.shards.pieces import Piece
from datasets_io.storage import Place
from off2on.recipe.batch import Batch
from off2on.replay.transforms import Array, Transforms


class Layout:
    """Which columns of the packed matrix hold what.

    Args:
        widths: Column name to width, 0 for a plain number.
        choices: Number of actions if they are whole numbers, 0 if they are vectors.
    """

    def __init__(self, widths: Mapping[str, int], choices: int = 0) -> None:
        self.widths, self.choices = dict(widths), choices
        self.width = sum(max(width, 1) for width in widths.values())

    def split(self, block: Tensor) -> Batch:
        """Name the columns of [B, W] rows, or of [..., B, W], without copying."""
        batch, start = Batch(), 0
        for name, width in self.widths.items():
            column = block[..., start] if width == 0 else block[..., start : start + width]
            setattr(batch, name, column)
            start += max(width, 1)
        return batch

    def pack(self, columns: Mapping[str, Array]) -> Tensor:
        """Lay columns side by side: [N, W] float32 on the CPU."""
        count = len(next(iter(columns.values())))
        parts = [
            np.asarray(columns[name], np.float32).reshape(count, max(width, 1))
            for name, width in self.widths.items()
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1))


class ReplayBuffer:
    """Offline rows, then a ring of online rows, in one matrix on the learner's device.

    Args:
        layout: The columns.
        offline: Number of offline rows held: all of the data, or a window on it.
        total: Number of offline rows there are, at least `offline`.
        capacity: Most online rows held; the oldest are overwritten.
        device: Where the matrix lies.
    """

    def __init__(self, layout: Layout, offline: int, total: int, capacity: int, device: torch.device) -> None:
        self.layout, self.offline, self.total, self.capacity = layout, offline, total, capacity
        self.data = torch.empty((offline + capacity, layout.width), device=device)
        self.added = 0
        self.learners = 1
        """How many learners share out the data and what is collected; these rows are one's."""
        self.mass = float(total)
        """How many online rows the offline ones count for."""
        self.weights: Tensor | None = None
        """How often each offline row is drawn [offline], float64; None: all alike."""
        self.edges: Tensor | None = None
        """Cumulative sums of the weights [offline]."""

    def weigh(self, weights: Tensor) -> None:
        """Have the offline rows drawn in proportion to weights [offline], against 1 for an online row."""
        self.weights = weights.to(self.data.device, torch.float64)
        self.edges = self.weights.cumsum(0)
        self.mass = float(self.edges[-1])

    @property
    def online(self) -> int:
        """Number of online rows held."""
        return min(self.added, self.capacity)

    def add(self, block: Tensor) -> Tensor:
        """Append [n, W] online rows, overwriting the oldest; their positions in the matrix [n]."""
        block = block[-self.capacity :].to(self.data.device)
        position = (self.added + torch.arange(len(block), device=self.data.device)) % self.capacity
        self.data.index_copy_(0, self.offline + position, block)
        self.added += len(block)
        return self.offline + position

    def take(self, index: Tensor) -> Tensor:
        """The rows [k, B, W] at [k, B] positions, drawn by one gather."""
        return self.data.index_select(0, index.flatten()).view(*index.shape, -1)

    def gather(self, index: Tensor) -> Iterator[Batch]:
        """One batch per row of [k, B] positions."""
        for block in self.take(index):
            yield self.layout.split(block)

    def in_order(self) -> tuple[slice | Tensor, Batch]:
        """All rows held, offline ones first, online ones from the oldest: positions and columns [N, …]."""
        position: slice | Tensor = slice(0, self.offline)
        if self.online:
            oldest = self.added % self.capacity if self.added > self.capacity else 0
            device = self.data.device
            age = torch.arange(self.online, device=device)
            ring = self.offline + (oldest + age) % self.capacity
            position = torch.cat((torch.arange(self.offline, device=device), ring))
        return position, self.layout.split(self.data[position])

    def write(self, name: str, position: slice | Tensor, values: Tensor) -> None:
        """Overwrite a column of numbers at [N] positions."""
        getattr(self.layout.split(self.data), name)[position] = values.to(self.data)

    def state(self) -> dict[str, Any]:
        """The online side, to be saved: the offline rows are the data's."""
        stop = self.offline + self.online
        return {"added": self.added, "online": self.data[self.offline : stop].cpu().clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave, into a ring of the same capacity."""
        held = state["online"]
        self.data[self.offline : self.offline + len(held)] = held.to(self.data.device)
        self.added = state["added"]


def read_learner_columns(
    shards: Shards, source: Place | Piece, names: Sequence[str], transforms: Transforms, discount: float
) -> dict[str, Array]:
    """One shard file, or a piece of one, as the learner's columns.

    Args:
        shards: The data.
        source: One of its files or pieces.
        names: The learner's columns wanted.
        transforms: From the world's units to the learner's.
        discount: Gamma of ``ret``.

    Raises:
        MissingColumn: The data has no such column.
    """
    needed = {"rewards", "last"} if "ret" in names else set()
    stored = {SHARD_COLUMNS.get(name, name) for name in names if name != "ret"} | needed
    return to_learner_columns(shards.read(source, sorted(stored)), names, transforms, discount)


def to_learner_columns(
    raw: Mapping[str, Array], names: Sequence[str], transforms: Transforms, discount: float
) -> dict[str, Array]:
    """The learner's columns of transitions in the world's units; of ``ret``, whole episodes."""
    made = transforms.rows(raw)
    for name in names:
        if name == "ret":
            made["ret"] = returns_to_go(made["reward"], raw["last"], discount)
        elif name not in made:
            made[name] = np.asarray(raw[SHARD_COLUMNS.get(name, name)], np.float32)
    return {name: made[name] for name in names}
