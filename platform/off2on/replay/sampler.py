"""What a learner draws its batches from: recorded rows, online rows, and rows that a model made up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io.column_names import EPISODE_COLUMNS
from off2on.recipe.batch import Batch
from off2on.replay.augmentation.base import BatchAugmentation
from off2on.replay.buffer import to_learner_columns
from off2on.replay.model_rollouts import ModelBuffer
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.open_episodes import EpisodeAssembler
from off2on.replay.strategy import Options, Strategy
from off2on.replay.transforms import Array

BLOCK_BYTES = 2**25
"""Most that is drawn at once, or wide rows would take more memory than the window that holds them."""


class BatchSampler:
    """Rows and what decides which of them make a batch.

    Args:
        source: The recorded rows, with room for online ones.
        recipe: What the batches are for.
        hp: Its hyperparameters.
        share: (rank, world): this learner is the rank-th of so many, which share each batch.
        changes: What is done to every batch before the recipe sees it.
    """

    def __init__(
        self,
        source: OfflineRows,
        recipe: Any,
        hp: Any,
        share: tuple[int, int],
        changes: list[BatchAugmentation],
    ) -> None:
        self.source, self.recipe, self.hp, self.share, self.changes = source, recipe, hp, share, changes
        self.rows = source.rows
        self.strategy: Strategy = Strategy(self.rows, Options())
        plan = recipe.rollout_schedule(hp)
        self.imagined = ModelBuffer(plan, self.rows, share[1]) if plan else None
        self.unfinished = EpisodeAssembler() if set(recipe.columns) & set(EPISODE_COLUMNS) else None
        self.episodes = 0

    @property
    def size(self) -> int:
        """Rows of a batch that are this learner's to draw."""
        return int(self.hp.batch_size // self.share[1])

    def share_rows(self, other: "BatchSampler") -> None:
        """Draw from the recorded rows of another, before either has online ones."""
        self.source, self.rows, self.strategy.rows = other.source, other.rows, other.rows

    # Drawing.

    def refresh(self, nets: Any, update: int, generator: torch.Generator) -> None:
        """Before an update: new imagined rows and new labels, if they are due."""
        with torch.no_grad():
            if self.imagined is not None and self.imagined.due(update):
                (starts,) = self.rows.gather(self.strategy.draw(1, self.imagined.starts, generator))
                self.imagined.add(vars(self.recipe.generate_rollouts(nets, starts, self.hp)))
            if self.recipe.is_relabel_due(self.hp, update):
                position, rows = self.rows.in_order()
                for name, values in self.recipe.relabel(nets, rows, self.hp, update).items():
                    self.rows.write(name, position, values)

    def block(self, update: int, most: int) -> int:
        """For how many updates, this one the first, rows can be drawn at once: none may await `refresh`."""
        fit = BLOCK_BYTES // (4 * self.size * self.rows.layout.width)
        most = min(self.strategy.block, max(1, fit), most)
        if not (self.imagined or self.recipe.relabelled_columns):
            return most
        return next((count for count in range(1, most) if self.is_stale(update + count)), most)

    def is_stale(self, update: int) -> bool:
        """Whether `refresh` has something to do before an update."""
        dreams = self.imagined is not None and self.imagined.due(update)
        return dreams or self.recipe.is_relabel_due(self.hp, update)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Recorded rows' positions [count, real] and the batches [count, size, W] that they begin."""
        real = self.imagined.real(self.size) if self.imagined else self.size
        position = self.strategy.draw(count, real, generator)
        recorded = self.rows.take(position)
        return position, self.imagined.join(recorded, self.size, generator) if self.imagined else recorded

    def batch(self, block: Tensor, position: Tensor, progress: float, generator: torch.Generator) -> Batch:
        """A batch [size, W], whose first rows lie at `position`, as the losses see it."""
        batch = self.rows.layout.split(block)
        batch.real, batch.progress = len(position), progress
        for change in self.changes:
            batch = change.batch(batch, position, generator)
        return batch

    def used(self, block: Tensor, position: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """An update used this batch; what the strategy has to say of it."""
        return self.strategy.used(self.rows.layout.split(block[: len(position)]), position, generator)

    # The online side.

    def add(self, columns: Mapping[str, Array], first: int) -> None:
        """Take this learner's share of online transitions: every other one, or every other episode.

        Args:
            columns: RLlib's columns and ``env``, each [n, …], in the world's units.
            first: How many transitions came before them.
        """
        rank, world = self.share
        self.strategy.observed(columns)
        if self.unfinished is None:
            mine = (first + np.arange(len(columns["rewards"]))) % world == rank
            if mine.any():
                self._enter({name: column[mine] for name, column in columns.items()})
            return
        for episode in self.unfinished.add(columns):
            if self.episodes % world == rank:
                self._enter(episode)
            self.episodes += 1

    def _enter(self, columns: Mapping[str, Array]) -> None:
        layout = self.rows.layout
        made = to_learner_columns(columns, self.recipe.columns, self.source.transforms, self.hp.discount)
        blank = np.zeros(len(columns["rewards"]), np.float32)
        self.strategy.entered(self.rows.add(layout.pack(dict.fromkeys(layout.widths, blank) | made)))

    # Checkpoints.

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep; the recorded rows are the data's."""
        kept = {"rows": self.rows.state(), "strategy": self.strategy.state(), "source": self.source.state()}
        if labels := len(self.recipe.relabelled_columns):
            kept["labels"] = {"recorded": self.rows.data[: self.rows.offline, -labels:].cpu().clone()}
        if self.imagined is not None:
            kept["imagined"] = self.imagined.rows.state()
        if self.unfinished is not None:
            kept["unfinished"] = {"episodes": self.episodes, "held": self.unfinished.state()}
        return kept

    def load(self, kept: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.source.load(kept["source"])
        self.rows.load(kept["rows"])
        self.strategy.load(kept["strategy"])
        if labels := len(self.recipe.relabelled_columns):
            self.rows.data[: self.rows.offline, -labels:] = kept["labels"]["recorded"].to(self.rows.data)
        if self.imagined is not None:
            self.imagined.rows.load(kept["imagined"])
        if self.unfinished is not None:
            self.episodes = kept["unfinished"]["episodes"]
            self.unfinished.load(kept["unfinished"]["held"])
