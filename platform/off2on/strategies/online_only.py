"""Online only: batches consist of online transitions.

Offline data influence the online phase through the networks only. Without a warm-up (`warm_start`) the first
batches consist of a few similar transitions, and values that were accurate on the data's distribution are
lost before they are learned on the new one (Zhou et al., arXiv:2412.07762, section 4).
"""

import torch
from torch import Tensor

from off2on.replay.strategy import Strategy
from off2on.strategies.symmetric import draw_mixed


class OnlineOnly(Strategy):
    """Online transitions only."""

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return positions [updates, size]; they are offline only while there is no online row."""
        return draw_mixed(self.rows, 0.0, updates, size, generator)
