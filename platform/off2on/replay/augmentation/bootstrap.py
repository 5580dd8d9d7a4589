"""Bootstrap: train every critic on its own random part of the rows, so that the critics differ.

Osband et al., "Deep Exploration via Bootstrapped DQN", NeurIPS 2016, arXiv:1602.04621, section 3.

    critic_e learns from row i if m_ei = 1,   m_ei ~ Bernoulli(SHARE), drawn once

The mask multiplies the squared temporal-difference errors, whose sum is still divided by the size of the
batch, as in the paper. Differences: masks are not stored with the rows but computed as a hash of seed, row
and critic, so that a row has the same mask whenever it is drawn. A row is identified by its position in the
buffer: where data larger than the memory budget are streamed, the mask belongs to the position. Every critic
learns from all model rollouts.
"""

from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Rule
from off2on.replay.augmentation.base import BatchAugmentation

LOW_32_BITS = 0xFFFFFFFF
"""Mask of the lowest 32 bits of an integer, which are hashed."""


class Bootstrap(BatchAugmentation):
    """Fixed Bernoulli masks, one per row and critic."""

    number = Rule("share of the rows that a critic learns from", above=0, most=1)
    default = 0.5
    objectives = ("critic",)

    def augment(self, batch: Batch, position: Tensor, generator: torch.Generator) -> Batch:
        """Multiply the batch's ``weight`` by the masks [E, B]."""
        mask = torch.ones((self.context.members, len(batch.obs)), device=batch.obs.device)
        mask[:, : len(position)] = self._masks(position)
        batch.weight = mask if batch.weight is None else batch.weight * mask
        return batch

    def _masks(self, position: Tensor) -> Tensor:
        """Return the masks [E, n] of rows at positions [n]: True if the critic learns from the row."""
        member = torch.arange(self.context.members, device=position.device).unsqueeze(1)
        # Hashed before each sum: plain sums are the same for (seed, critic + 1) and (seed + 1, critic).
        key = _hash(member + _hash(self.context.seed + _hash(self.context.seed >> 32)))
        masks: Tensor = _hash(_hash(position + key) ^ key) < self.value * 2**32
        return masks


def _hash(x: Any) -> Any:
    """Hash 32-bit integers, or a tensor of them, by a bijection; hashes of neighbours are uncorrelated."""
    x = x & LOW_32_BITS
    for _ in range(2):
        x = (x ^ x >> 16) * 0x119DE1F3 & LOW_32_BITS  # a product of 32 and 29 bits fits in 63
    return x ^ x >> 16
