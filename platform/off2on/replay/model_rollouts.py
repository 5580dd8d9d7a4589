"""Transitions that a recipe's model made up: a ring of them, and their place in a batch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from off2on.recipe.hooks import RolloutSchedule
from off2on.replay.buffer import ReplayBuffer


class ModelBuffer:
    """Keeps the newest imagined rows and fills batches with them.

    Args:
        plan: How many, and what share of a batch.
        like: The recorded rows, whose columns and device these have.
        world: Number of learners; each keeps its part.
    """

    def __init__(self, plan: RolloutSchedule, like: ReplayBuffer, world: int) -> None:
        self.plan, self.layout = plan, like.layout
        self.starts = max(1, plan.starts // world)
        self.rows = ReplayBuffer(like.layout, 0, 0, max(1, plan.kept // world), like.data.device)

    def due(self, update: int) -> bool:
        """Whether a round of rollouts comes before an update, counted from 1."""
        return (update - 1) % self.plan.every == 0

    def real(self, size: int) -> int:
        """How many rows of a batch are recorded: all, until something was imagined."""
        return round(self.plan.real_share * size) if self.rows.online else size

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Take a round's transitions, by the names of the columns; those it lacks are 0."""
        count = len(columns["reward"])
        parts = [
            columns[name].reshape(count, max(width, 1))
            if name in columns
            else torch.zeros(count, max(width, 1))
            for name, width in self.layout.widths.items()
        ]
        self.rows.add(torch.cat([part.to(self.rows.data.device) for part in parts], 1))

    def join(self, recorded: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Fill up [k, real, W] recorded rows to [k, size, W]."""
        shape = len(recorded), size - recorded.shape[1]
        if shape[1] == 0:
            return recorded
        index = torch.randint(self.rows.online, shape, generator=generator, device=generator.device)
        return torch.cat((recorded, self.rows.take(index)), 1)
