"""Symmetric sampling: every batch has the same share of offline transitions.

Ball et al., "Efficient Online Reinforcement Learning with Offline Data" (RLPD),
arXiv:2302.02948, section 4.1, where the share is one half.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from off2on.recipe.hyperparameters import Settings, hp
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.strategy import Strategy, draw_offline, draw_uniform


@dataclass(frozen=True)
class SymmetricOptions(Settings):
    """Options of symmetric sampling."""

    offline_share: float = hp(0.5, "offline share of each batch", least=0, most=1)


class Symmetric(Strategy):
    """A fixed offline share of each batch."""

    Options: ClassVar[type[Settings]] = SymmetricOptions

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return positions [updates, size], the offline ones first."""
        return draw_mixed(self.rows, self.options.offline_share, updates, size, generator)


def draw_mixed(
    rows: ReplayBuffer, share: float, updates: int, size: int, generator: torch.Generator
) -> Tensor:
    """Return positions [updates, size] with an offline share, the offline ones first.

    All are offline while there is no online row.
    """
    count = size if rows.online == 0 else round(share * size)
    offline = draw_offline(rows, (updates, count), generator)
    if count == size:
        return offline
    online = draw_uniform(rows.offline, rows.online, (updates, size - count), generator)
    return torch.cat((offline, online), 1)
