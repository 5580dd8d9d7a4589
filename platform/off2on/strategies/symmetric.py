"""Symmetric sampling: every batch has the same share of offline rows.

Ball et al., "Efficient Online Reinforcement Learning with Offline Data" (RLPD),
arXiv:2302.02948, section 4.1, where the share is one half.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from off2on.recipe.hyperparameters import Settings, hp
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.strategy import Strategy, offline_rows, uniform


@dataclass(frozen=True)
class SymmetricOptions(Settings):
    """The share."""

    offline_share: float = hp(0.5, "share of each batch drawn from the offline rows", least=0, most=1)


class Symmetric(Strategy):
    """A fixed share of each batch is offline."""

    Options: ClassVar[type[Settings]] = SymmetricOptions

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Positions [updates, size], the offline ones first."""
        return mixed(self.rows, self.options.offline_share, updates, size, generator)


def mixed(rows: ReplayBuffer, share: float, updates: int, size: int, generator: torch.Generator) -> Tensor:
    """Positions [updates, size], a share of each batch offline and first; all of it before any online row."""
    count = size if rows.online == 0 else round(share * size)
    offline = offline_rows(rows, (updates, count), generator)
    if count == size:
        return offline
    online = uniform(rows.offline, rows.online, (updates, size - count), generator)
    return torch.cat((offline, online), 1)
