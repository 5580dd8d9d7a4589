"""Hold model rollouts (synthetic transitions), and fill a part of every batch with them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from off2on.recipe.hooks import RolloutSchedule
from off2on.replay.buffer import ReplayBuffer


class ModelBuffer:
    """Ring buffer of the newest synthetic transitions.

    Args:
        schedule: Number of rollouts and their share of a batch.
        like: Buffer with the same columns and device.
        world_size: Number of learners; each holds its part.
    """

    def __init__(self, schedule: RolloutSchedule, like: ReplayBuffer, world_size: int) -> None:
        self.schedule, self.layout = schedule, like.layout
        self.starts = max(1, schedule.starts // world_size)
        self.rows = ReplayBuffer(like.layout, 0, 0, max(1, schedule.kept // world_size), like.data.device)

    def is_due(self, update: int) -> bool:
        """Return True if rollouts are generated before an update, counted from 1."""
        return (update - 1) % self.schedule.every == 0

    def real_size(self, size: int) -> int:
        """Return the number of real rows in a batch of this size: all, until there are model rollouts.

        At least one, unless their share is 0.
        """
        share = self.schedule.real_share
        return max(round(share * size), int(share > 0)) if self.rows.online else size

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Add synthetic transitions, by column; missing columns are 0."""
        count = len(columns["reward"])
        parts = [
            columns[name].reshape(count, max(width, 1))
            if name in columns
            else torch.zeros(count, max(width, 1))
            for name, width in self.layout.widths.items()
        ]
        self.rows.add(torch.cat([part.to(self.rows.data.device) for part in parts], 1))

    def fill(self, real_rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Append randomly drawn synthetic transitions to real rows [k, real, W]; return [k, size, W]."""
        shape = len(real_rows), size - real_rows.shape[1]
        if shape[1] == 0:
            return real_rows
        index = torch.randint(self.rows.online, shape, generator=generator, device=generator.device)
        return torch.cat((real_rows, self.rows.rows_at(index)), 1)
