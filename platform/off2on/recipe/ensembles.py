"""Layers of E members as one batched operation, each initialised like torch's layer of one."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class EnsembleLinear(nn.Module):
    """E linear layers as one batched matrix product, initialised like `torch.nn.Linear`."""

    def __init__(self, members: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fan_in)
        # [E, out, in], as in Linear: the gradient of the input is then a product without a transpose.
        self.weight = nn.Parameter(torch.empty(members, fan_out, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map [E, B, in] to [E, B, out]."""
        return torch.baddbmm(self.bias, x, self.weight.transpose(1, 2))


class EnsembleNorm(nn.Module):
    """E layer normalisations, each initialised like `torch.nn.LayerNorm`."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Normalise each vector of [E, B, H], or of [m, B, H] for the members with the indices [m]."""
        every = slice(None) if members is None else members
        return torch.addcmul(self.bias[every], F.layer_norm(x, x.shape[-1:]), self.weight[every])
