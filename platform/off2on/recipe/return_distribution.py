"""Distributions of the return as weighted numbers, for targets of critics that learn distributions.

Shapes: ``B`` transitions, ``E`` members (always first), ``N`` returns of a distribution, always last.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReturnDistribution:
    """Distributions of the return, which are combined and shifted as values are: ``r + gamma * future``.

    Attributes:
        returns: Possible returns [..., N].
        probabilities: Their probabilities [..., N], which sum to 1.
    """

    returns: Tensor
    probabilities: Tensor

    @property
    def value(self) -> Tensor:
        """Return the means [...]."""
        return (self.probabilities * self.returns).sum(-1)

    @property
    def device(self) -> torch.device:
        """Return the device of the tensors."""
        return self.returns.device

    def __len__(self) -> int:
        return len(self.returns)

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.returns[index], self.probabilities[index])

    def __add__(self, shift: Tensor) -> Self:
        return type(self)(self.returns + shift.unsqueeze(-1), self.probabilities)

    def __sub__(self, shift: Tensor) -> Self:
        return self + -shift

    def __mul__(self, factor: Tensor) -> Self:
        return type(self)(self.returns * factor.unsqueeze(-1), self.probabilities)

    __radd__, __rmul__ = __add__, __mul__

    def amin(self, dim: int) -> Self:
        """Select the distribution of the smallest mean along a dimension."""
        return self._select(self.value.argmin(dim, keepdim=True), dim)

    def amax(self, dim: int) -> Self:
        """Select the distribution of the largest mean along a dimension."""
        return self._select(self.value.argmax(dim, keepdim=True), dim)

    def mean(self, dim: int) -> Self:
        """Mix the distributions along the first dimension, with equal shares."""
        if dim != 0:
            raise ValueError(f"expected the dimension of the members, 0: got {dim}")
        return self.mix(self.returns.new_full((len(self),), 1 / len(self)))

    def std(self, dim: int, correction: int) -> Tensor:
        """Return the standard deviation of the means along a dimension."""
        return self.value.std(dim, correction=correction)

    def sorted(self) -> Self:
        """Sort the members by their means, at every place: [E, …]."""
        return self._select(self.value.argsort(0), 0, keep=True)

    def mix(self, shares: Tensor) -> Self:
        """Mix the distributions of all members [E, …, N], with shares [E] that sum to 1: […, E N]."""
        weighed = shares.view(-1, *[1] * (self.returns.dim() - 1)) * self.probabilities
        return type(self)(*(each.movedim(0, -2).flatten(-2) for each in (self.returns, weighed)))

    def at_action(self, action: Tensor) -> Self:
        """Select the distributions [E, B] of discrete actions [B], of those [E, B, n] of all actions."""
        return type(self)(select_action(self.returns, action), select_action(self.probabilities, action))

    def _select(self, index: Tensor, dim: int, keep: bool = False) -> Self:
        dim = dim % (self.returns.dim() - 1)
        index = index.unsqueeze(-1).expand(*index.shape, self.returns.shape[-1])
        found = [each.gather(dim, index) for each in (self.returns, self.probabilities)]
        return type(self)(*(each if keep else each.squeeze(dim) for each in found))


def select_action(outputs: Tensor, action: Tensor) -> Tensor:
    """Return the parts [E, B, M] of [E, B, n, M] at discrete actions [B]."""
    index = action.long().view(1, -1, 1, 1).expand(len(outputs), -1, 1, outputs.shape[-1])
    return outputs.gather(-2, index).squeeze(-2)
