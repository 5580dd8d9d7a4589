"""Annealed sampling: batches begin offline and end online, in a straight line.

The share of offline rows falls from `start` to `end` while the online steps that were planned, or the part
`until` of them, come in; what is tuned by hand in WSRL's ablations and torchrl's replay buffer of this name.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from off2on.recipe.hyperparameters import Settings, hp
from off2on.replay.strategy import Strategy
from off2on.strategies.symmetric import mixed


@dataclass(frozen=True)
class AnnealedOptions(Settings):
    """Where the line begins and ends."""

    start: float = hp(0.9, "share of each batch that is offline at first", least=0, most=1)
    end: float = hp(0.0, "share that is offline in the end", least=0, most=1)
    until: float = hp(0.5, "part of the planned online steps after which it is at its end", above=0, most=1)


class Annealed(Strategy):
    """A falling share of each batch is offline."""

    Options: ClassVar[type[Settings]] = AnnealedOptions

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Positions [updates, size], the offline ones first."""
        options, rows = self.options, self.rows
        part = min(1.0, rows.added / (options.until * rows.capacity))
        return mixed(rows, options.start + part * (options.end - options.start), updates, size, generator)
