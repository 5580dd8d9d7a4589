"""Draw batches of offline rows, online rows and model rollouts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io.column_names import EPISODE_COLUMNS
from off2on.recipe.batch import Batch
from off2on.replay.augmentation.base import BatchAugmentation
from off2on.replay.buffer import to_learner_columns
from off2on.replay.episode_assembler import EpisodeAssembler
from off2on.replay.model_buffer import ModelBuffer
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.strategy import Options, Strategy
from off2on.replay.transforms import Array
from off2on.replay.windows import EpisodeChange

BLOCK_BYTES = 2**25
"""Largest size of the rows drawn at once: wide rows could need more memory than the window has."""


def takes_episodes(recipe: Any, changes: Sequence[EpisodeChange]) -> bool:
    """Return True if online rows are added as whole episodes, which learners do not share equally."""
    return bool(changes) or not {*EPISODE_COLUMNS}.isdisjoint(recipe.columns)


class BatchSampler:
    """Draws one learner's part of every batch.

    Args:
        source: The offline rows, in the buffer that online rows are added to.
        recipe: The algorithm.
        hp: Its hyperparameters.
        partition: (rank, world size): rank of this learner and number of learners that share each batch.
        augmentations: Applied to every batch, in this order.
    """

    def __init__(
        self,
        source: OfflineRows,
        recipe: Any,
        hp: Any,
        partition: tuple[int, int],
        augmentations: list[BatchAugmentation],
    ) -> None:
        self.source, self.recipe, self.hp = source, recipe, hp
        self.partition, self.augmentations = partition, augmentations
        self.rows = source.rows
        self.strategy: Strategy = Strategy(self.rows, Options())
        schedule = recipe.rollout_schedule(hp)
        self.model_buffer = ModelBuffer(schedule, self.rows, partition[1]) if schedule else None
        self.changes = source.reader.changes
        self.assembler = EpisodeAssembler() if takes_episodes(recipe, self.changes) else None
        self.episodes = 0
        """Number of online episodes assembled so far, of all learners."""

    @property
    def size(self) -> int:
        """Number of rows of a batch that this learner draws."""
        return int(self.hp.batch_size // self.partition[1])

    def share_rows(self, other: "BatchSampler") -> None:
        """Use the offline rows of another sampler, before either has online ones."""
        self.source, self.rows, self.strategy.rows = other.source, other.rows, other.rows

    # Drawing.

    def refresh(self, nets: Any, update: int, generator: torch.Generator) -> None:
        """Generate new model rollouts and labels before an update, if they are due."""
        with torch.no_grad():
            if self.model_buffer is not None and self.model_buffer.is_due(update):
                (starts,) = self.rows.batches_at(self.strategy.draw(1, self.model_buffer.starts, generator))
                self.model_buffer.add(vars(self.recipe.generate_rollouts(nets, starts, self.hp)))
            if self.recipe.is_relabel_due(self.hp, update):
                position, rows = self.rows.rows_in_order()
                for name, values in self.recipe.relabel(nets, rows, self.hp, update).items():
                    self.rows.write(name, position, values)

    def block_size(self, update: int, limit: int) -> int:
        """Return the number of updates, at most `limit`, for which rows can be drawn at once.

        A block ends before the next update at which `refresh` is due.
        """
        fit = BLOCK_BYTES // (4 * self.size * self.rows.layout.width)
        limit = min(self.strategy.block, max(1, fit), limit)
        if not (self.model_buffer or self.recipe.relabelled_columns):
            return limit
        return next((count for count in range(1, limit) if self.is_refresh_due(update + count)), limit)

    def is_refresh_due(self, update: int) -> bool:
        """Return True if `refresh` has something to do before an update."""
        has_rollouts = self.model_buffer is not None and self.model_buffer.is_due(update)
        return has_rollouts or self.recipe.is_relabel_due(self.hp, update)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw batches [count, size, W]; return the positions [count, real] of real rows, and the batches.

        A batch starts with its real rows; the others are model rollouts, which have no position.
        """
        real = self.model_buffer.real_size(self.size) if self.model_buffer is not None else self.size
        position = self.strategy.draw(count, real, generator)
        real_rows = self.rows.rows_at(position)
        if self.model_buffer is None:
            return position, real_rows
        return position, self.model_buffer.fill(real_rows, self.size, generator)

    def batch(self, block: Tensor, position: Tensor, progress: float, generator: torch.Generator) -> Batch:
        """Split a batch [size, W], whose first rows are at `position`, into columns, and augment it."""
        batch = self.rows.layout.split(block)
        batch.real, batch.progress = len(position), progress
        for augmentation in self.augmentations:
            batch = augmentation.augment(batch, position, generator)
        return batch

    def on_used(self, block: Tensor, position: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Pass a batch that an update has used to the strategy; return the strategy's metrics."""
        return self.strategy.on_used(self.rows.layout.split(block[: len(position)]), position, generator)

    # The online phase.

    def add(self, columns: Mapping[str, Array], first: int) -> None:
        """Add this learner's part of online transitions to the buffer.

        Args:
            columns: The columns of a rollout [n, …], in raw units.
            first: Number of transitions before them.
        """
        self.strategy.on_collected(columns)
        layout = self.rows.layout
        for own in self._own_part(columns, first):
            computed = self.columns_of(own)
            blank = np.zeros(len(own["rewards"]), np.float32)
            position = self.rows.add(layout.pack(dict.fromkeys(layout.widths, blank) | computed))
            self.strategy.on_added(position)

    def columns_of(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the learner's columns of online transitions; of whole episodes, if they need these."""
        transforms, discount = self.source.transforms, self.hp.discount
        return to_learner_columns(raw, self.recipe.columns, transforms, discount, self.changes)

    def _own_part(self, columns: Mapping[str, Array], first: int) -> Iterator[Mapping[str, Array]]:
        """Yield this learner's share of n learners: every n-th transition, or every n-th whole episode."""
        rank, world = self.partition
        if self.assembler is None:
            own = (first + np.arange(len(columns["rewards"]))) % world == rank
            if own.any():
                yield {name: column[own] for name, column in columns.items()}
            return
        for episode in self.assembler.add(columns):
            if self.episodes % world == rank:
                yield episode
            self.episodes += 1

    # Checkpoints.

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, without the offline rows."""
        kept = {"rows": self.rows.state(), "strategy": self.strategy.state(), "source": self.source.state()}
        if labels := len(self.recipe.relabelled_columns):
            kept["labels"] = {"recorded": self.rows.data[: self.rows.offline, -labels:].cpu().clone()}
        if self.model_buffer is not None:
            kept["imagined"] = self.model_buffer.rows.state()
        if self.assembler is not None:
            kept["unfinished"] = {"episodes": self.episodes, "held": self.assembler.state()}
        return kept

    def load(self, kept: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""
        self.source.load(kept["source"])
        self.rows.load(kept["rows"])
        self.strategy.load(kept["strategy"])
        if labels := len(self.recipe.relabelled_columns):
            self.rows.data[: self.rows.offline, -labels:] = kept["labels"]["recorded"].to(self.rows.data)
        if self.model_buffer is not None:
            self.model_buffer.rows.load(kept["imagined"])
        if self.assembler is not None:
            self.episodes = kept["unfinished"]["episodes"]
            self.assembler.load(kept["unfinished"]["held"])
