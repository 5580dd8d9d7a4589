"""Online only: the recorded rows have done their work, batches are made of what is collected now.

What was learned stays in the networks. Without a warm-up (`warm_start`) the first batches are a few rows
from one place, and values that were right on the data's distribution are unlearned before they are
learned on the new one (Zhou et al., arXiv:2412.07762, section 4).
"""

import torch
from torch import Tensor

from off2on.replay.strategy import Strategy
from off2on.strategies.symmetric import mixed


class OnlineOnly(Strategy):
    """Online rows alone."""

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Positions [updates, size]; of offline rows only as long as nothing was collected."""
        return mixed(self.rows, 0.0, updates, size, generator)
