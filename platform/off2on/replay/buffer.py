"""Hold the transitions of a learner in one packed matrix; batches are views of its columns.

A row of the matrix is one transition, float32, with all its columns side by side, so that the rows for a
block of updates are read by one gather. Offline rows come first, then a ring buffer of online rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from datasets_io.column_names import SHARD_COLUMNS
from datasets_io.shards.pieces import Piece
from datasets_io.shards.returns import returns_to_go
from datasets_io.storage import Place
from off2on.recipe.batch import Batch
from off2on.replay.transforms import Array, Transforms
from off2on.replay.windows import EpisodeChange


class Layout:
    """Order and widths of the columns in the packed matrix.

    Args:
        widths: Column name → width, 0 for a scalar column.
        num_actions: Number of discrete actions, 0 if actions are vectors.
    """

    def __init__(self, widths: Mapping[str, int], num_actions: int = 0) -> None:
        self.widths, self.num_actions = dict(widths), num_actions
        self.width = sum(max(width, 1) for width in widths.values())
        """Number of columns of the matrix, W."""

    def split(self, block: Tensor) -> Batch:
        """Return the columns of rows [..., B, W] as views [..., B] or [..., B, width]."""
        batch, start = Batch(), 0
        for name, width in self.widths.items():
            column = block[..., start] if width == 0 else block[..., start : start + width]
            setattr(batch, name, column)
            start += max(width, 1)
        return batch

    def pack(self, columns: Mapping[str, Array]) -> Tensor:
        """Return columns as rows [N, W], float32 on the CPU."""
        count = len(next(iter(columns.values())))
        parts = [
            np.asarray(columns[name], np.float32).reshape(count, max(width, 1))
            for name, width in self.widths.items()
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1))


class ReplayBuffer:
    """Replay buffer: offline rows, then a ring buffer of online rows, in one matrix on the learner's device.

    Args:
        layout: The columns.
        offline: Number of offline rows held: all of the data, or a window on them.
        total: Number of offline rows in the data set, at least `offline`; more if `offline` is a window.
        capacity: Largest number of online rows held; the oldest are overwritten.
        device: Device of the matrix.
    """

    def __init__(self, layout: Layout, offline: int, total: int, capacity: int, device: torch.device) -> None:
        self.layout, self.offline, self.total, self.capacity = layout, offline, total, capacity
        self.data = torch.empty((offline + capacity, layout.width), device=device)
        self.added = 0
        self.learners = 1
        """Number of learners; each holds its own part of the offline and the online rows."""
        self.offline_weight = float(total)
        """Sum of the weights of the offline rows; an online row has weight 1."""
        self.weights: Tensor | None = None
        """Weights of the offline rows [offline], float64; None: all equal."""
        self.cumulative_weights: Tensor | None = None
        """Cumulative sums of the weights [offline]."""

    def set_weights(self, weights: Tensor) -> None:
        """Draw the offline rows in proportion to weights [offline]; an online row has weight 1."""
        self.weights = weights.to(self.data.device, torch.float64)
        self.cumulative_weights = self.weights.cumsum(0)
        self.offline_weight = float(self.cumulative_weights[-1])

    @property
    def online(self) -> int:
        """Number of online rows held."""
        return min(self.added, self.capacity)

    def add(self, block: Tensor) -> Tensor:
        """Append [n, W] online rows, overwriting the oldest; return their positions in the matrix [n]."""
        block = block[-self.capacity :].to(self.data.device)
        position = (self.added + torch.arange(len(block), device=self.data.device)) % self.capacity
        self.data.index_copy_(0, self.offline + position, block)
        self.added += len(block)
        return self.offline + position

    def rows_at(self, index: Tensor) -> Tensor:
        """Return the rows [k, B, W] at [k, B] positions, with one gather."""
        return self.data.index_select(0, index.flatten()).view(*index.shape, self.data.shape[1])

    def batches_at(self, index: Tensor) -> Iterator[Batch]:
        """Yield one batch per row of [k, B] positions."""
        for block in self.rows_at(index):
            yield self.layout.split(block)

    def rows_in_order(self) -> tuple[slice | Tensor, Batch]:
        """Return positions and columns [N, …] of all rows: offline, then online, oldest first."""
        position: slice | Tensor = slice(0, self.offline)
        if self.online:
            oldest = self.added % self.capacity if self.added > self.capacity else 0
            device = self.data.device
            age = torch.arange(self.online, device=device)
            ring = self.offline + (oldest + age) % self.capacity
            position = torch.cat((torch.arange(self.offline, device=device), ring))
        return position, self.layout.split(self.data[position])

    def write(self, name: str, position: slice | Tensor, values: Tensor) -> None:
        """Overwrite a scalar column at [N] positions."""
        getattr(self.layout.split(self.data), name)[position] = values.to(self.data)

    def state(self) -> dict[str, Any]:
        """Return the online rows for a checkpoint."""
        stop = self.offline + self.online
        return {"added": self.added, "online": self.data[self.offline : stop].cpu().clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`; the capacity must be the same."""
        held = state["online"]
        self.data[self.offline : self.offline + len(held)] = held.to(self.data.device)
        self.added = state["added"]


def read_learner_columns(
    shards: Shards,
    source: Place | Piece,
    names: Sequence[str],
    transforms: Transforms,
    discount: float,
    changes: Sequence[EpisodeChange] = (),
) -> dict[str, Array]:
    """Read a shard file, or a piece of one, as the learner's columns.

    Args:
        shards: The data.
        source: One of its files or pieces.
        names: Names of the learner's columns; see `datasets_io.column_names`.
        transforms: From raw to transformed units.
        discount: Discount factor of the return to go ``ret``, and of the changes.
        changes: Changes that need whole episodes, in this order.

    Raises:
        MissingColumn: The data has no such column.
    """
    needed = {"rewards", "last"} if "ret" in names else {"last"} if changes else set()
    stored = {SHARD_COLUMNS.get(name, name) for name in names if name != "ret"} | needed
    return to_learner_columns(shards.read(source, sorted(stored)), names, transforms, discount, changes)


def to_learner_columns(
    raw: Mapping[str, Array],
    names: Sequence[str],
    transforms: Transforms,
    discount: float,
    changes: Sequence[EpisodeChange] = (),
) -> dict[str, Array]:
    """Compute the learner's columns from columns in raw units; ``ret`` and changes need whole episodes."""
    computed = transforms.apply(raw)
    for name in names:
        if name == "ret":
            computed["ret"] = returns_to_go(computed["reward"], raw["last"], discount)
        elif name not in computed:
            computed[name] = np.asarray(raw[SHARD_COLUMNS.get(name, name)], np.float32)
    columns = {name: computed[name] for name in names}
    for change in changes:
        columns = change.change(columns, raw["last"], discount)
    return columns
