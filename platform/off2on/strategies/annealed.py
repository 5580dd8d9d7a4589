"""Annealed sampling: the offline share of each batch decreases linearly.

The share of offline transitions falls from `start` to `end` over the part `until` of the planned online
steps, or of the replay buffer's capacity if that is smaller. WSRL's ablations and torchrl's replay buffer of
this name use such a schedule.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from off2on.recipe.hyperparameters import Settings, hp
from off2on.replay.strategy import Strategy
from off2on.strategies.symmetric import draw_mixed


@dataclass(frozen=True)
class AnnealedOptions(Settings):
    """Options of the schedule."""

    start: float = hp(0.9, "initial offline share of each batch", least=0, most=1)
    end: float = hp(0.0, "final offline share of each batch", least=0, most=1)
    until: float = hp(
        0.5,
        "part of the planned online steps, or of the replay buffer's capacity if that is smaller, after "
        "which the share is final",
        above=0,
        most=1,
    )


class Annealed(Strategy):
    """A linearly decreasing offline share of each batch."""

    Options: ClassVar[type[Settings]] = AnnealedOptions

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return positions [updates, size], the offline ones first."""
        options, rows = self.options, self.rows
        part = min(1.0, rows.added / (options.until * rows.capacity))
        return draw_mixed(
            rows, options.start + part * (options.end - options.start), updates, size, generator
        )
