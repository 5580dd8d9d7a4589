"""Load the offline rows of one learner: its part of the data, or a sliding window on it.

Data within the memory budget are read once. For larger data the window is a ring buffer with the newest rows
of a shuffled stream. Its content is a function of the number of rows streamed, so a checkpoint stores only
this number.

Episodes may have weights. Those of weight 0 are left out. Of the others, rows in memory are drawn by weight,
and rows of a stream are repeated by weight.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.replay.buffer import Layout, ReplayBuffer
from off2on.replay.stream import PieceReader, ShuffledStream
from off2on.replay.transforms import Array, Transforms
from off2on.replay.windows import EpisodeChange


class OfflineRows:
    """Reads the offline part of the replay buffer, and slides the window if there is one.

    Args:
        shards: The data.
        columns: Columns of the learner that are read from the data.
        relabelled: Further columns, which the algorithm fills during training; 0 at first.
        transforms: From raw to transformed units.
        discount: Discount factor of the return to go ``ret``, and of the changes.
        budget: Largest size of the offline rows in bytes.
        capacity: Largest number of online rows.
        partition: (rank, world size): this learner holds part `rank` of `world size` equal parts of each
            piece.
        device: Device of the rows.
        seed: Seed of the order of a stream.
        weights: Weights of the rows of each episode [episodes], 1 on average; None: all equal.
        changes: Changes of the rows that need whole episodes, in this order.
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
        partition: tuple[int, int],
        device: torch.device,
        seed: int,
        weights: Array | None = None,
        changes: Sequence[EpisodeChange] = (),
    ) -> None:
        layout = layout_of(shards, columns, relabelled, changes)
        self.transforms = transforms
        self.reader = PieceReader(
            shards, layout, transforms, discount, partition, seed, tuple(columns), weights, tuple(changes)
        )
        numbers = range(len(shards.pieces))
        self.counts = [self.reader.own_part(number)[1] for number in numbers]
        held = sum(self.counts)
        window = min(held, budget // (4 * layout.width))
        self.streams = window < held
        has_unequal_weights = weights is not None and len(set(weights[weights > 0])) > 1
        self.stream = ShuffledStream(self.reader, self.counts, has_unequal_weights and self.streams)
        self.rows = ReplayBuffer(layout, window, self.stream.total, capacity, device)
        self.rows.learners = partition[1]
        if has_unequal_weights and not self.streams:
            weights_by_piece = [self.reader.row_weights(number) for number in numbers]
            self.rows.set_weights(torch.from_numpy(np.concatenate(weights_by_piece)))
        self.streamed = 0
        if self.streams:
            self._slide_to(window)
        else:
            start = 0
            for number, count in enumerate(self.counts):
                self.rows.data[start : start + count] = self.reader.read_piece(number)
                start += count

    def slide(self, used: int) -> Tensor:
        """Replace the oldest `used` rows of the window; return the positions [n] of the new rows."""
        if not self.streams:
            return torch.empty(0, dtype=torch.long)
        return self._slide_to(self.streamed + min(used, self.rows.offline))

    def _slide_to(self, stop: int) -> Tensor:
        ring, first = self.rows.data[: self.rows.offline], self.streamed
        for block in self.stream.read(first, stop):
            position = self.streamed % len(ring)
            space = len(ring) - position
            ring[position : position + len(block)] = block[:space]
            ring[: max(len(block) - space, 0)] = block[space:]
            self.streamed += len(block)
        return torch.arange(first, stop) % len(ring)

    def state(self) -> dict[str, Any]:
        """Return the number of rows streamed."""
        return {"streamed": self.streamed}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the window."""
        if self.streams:
            # A run that starts from another run's handover may have a larger window.
            stop = max(state["streamed"], self.rows.offline)
            self.streamed = stop - self.rows.offline
            self._slide_to(stop)


def layout_of(
    shards: Shards,
    columns: Sequence[str],
    relabelled: Sequence[str] = (),
    changes: Sequence[EpisodeChange] = (),
) -> Layout:
    """Return the layout of a learner's columns: those of the data, changed, then the relabelled ones."""
    obs, space = shards.observation_space.shape[0], shards.action_space
    action = 0 if hasattr(space, "n") else space.shape[0]
    vectors = {"obs": obs, "next_obs": obs, "action": action, "next_action": action}
    widths = {name: vectors.get(name, 0) for name in columns}
    for change in changes:
        widths = change.widths(widths)
    return Layout(widths | dict.fromkeys(relabelled, 0), int(getattr(space, "n", 0)))
