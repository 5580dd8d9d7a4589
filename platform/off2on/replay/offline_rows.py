"""The offline rows of one learner: all of its share of the data, or a window that slides over it.

Data that fit the budget are read once. Of larger data the window is a ring holding the newest rows of a
shuffled stream, so its content is a function of how many rows were streamed, which is all that a checkpoint
needs to know.

Episodes may have weights. Those of weight 0 are left out; of the others, rows that are held are drawn
by weight, and rows that stream come by as often as their weight says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.replay.buffer import Layout, ReplayBuffer
from off2on.replay.stream import Reader, Stream
from off2on.replay.transforms import Array, Transforms


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
        share: (rank, world): this learner takes the rank-th of so many parts of every piece of the data.
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
        self.transforms = transforms
        self.reader = Reader(shards, layout, transforms, discount, share, seed, tuple(columns), weights)
        numbers = range(len(shards.pieces))
        self.counts = [self.reader.part(number)[1] for number in numbers]
        held = sum(self.counts)
        window = min(held, budget // (4 * layout.width))
        self.streams = window < held
        uneven = weights is not None and len(set(weights[weights > 0])) > 1
        self.stream = Stream(self.reader, self.counts, uneven and self.streams)
        self.rows = ReplayBuffer(layout, window, self.stream.total, capacity, device)
        self.rows.learners = share[1]
        if uneven and not self.streams:
            weighed = [self.reader.weighed(number) for number in numbers]
            self.rows.weigh(torch.from_numpy(np.concatenate(weighed)))
        self.streamed = 0
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
        ring, first = self.rows.data[: self.rows.offline], self.streamed
        for block in self.stream.read(first, stop):
            position = self.streamed % len(ring)
            room = len(ring) - position
            ring[position : position + len(block)] = block[:room]
            ring[: max(len(block) - room, 0)] = block[room:]
            self.streamed += len(block)
        return torch.arange(first, stop) % len(ring)

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
