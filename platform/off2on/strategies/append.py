"""Append: online rows join the offline ones, and every row is equally likely.

The field's baseline: what one gets by filling the offline data's replay buffer further.
"""

import torch
from torch import Tensor

from off2on.strategies.base import Strategy, offline_rows, uniform


class Append(Strategy):
    """Offline and online rows, all equally likely."""

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Positions [updates, size]; a window on larger offline data counts as all of it.

        Offline rows with weights, 1 on average, are drawn by them; online rows weigh 1.
        """
        rows = self.rows
        if rows.total == rows.offline and rows.edges is None:
            return uniform(0, rows.offline + rows.online, (updates, size), generator)
        offline = offline_rows(rows, (updates, size), generator)
        if rows.online == 0:
            return offline
        online = uniform(rows.offline, rows.online, (updates, size), generator)
        share = rows.mass / (rows.mass + rows.online)
        chance = torch.rand((updates, size), generator=generator, device=generator.device)
        return torch.where(chance < share, offline, online)
