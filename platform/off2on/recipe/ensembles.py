"""Layers of E members as one batched operation, and critics of E agents as one ensemble.

Each member is initialised like torch's layer of one.
"""

import math
from typing import Any

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


def to_critics(each: Tensor, critics: int) -> Tensor:
    """Rearrange a tensor [n, E, …] of E agents for their critics: [critics E, n, …].

    Every agent's first critic comes first, then every agent's second.
    """
    return torch.cat([each.transpose(0, 1)] * critics)


def minimum_values(critic: Any, obs: Tensor, action: Tensor, agents: int) -> Tensor:
    """Return every agent's minimum value [..., E, B] of actions [B, A], or of its own [..., E, B, A].

    Args:
        critic: Critics in the order of `to_critics`.
        obs: Observations [B, D].
        action: Actions.
        agents: Number of agents E.
    """
    critics = critic.members // agents
    if action.dim() == 2:
        return critic(obs, action).view(critics, agents, -1).amin(0)  # type: ignore[no-any-return]
    own = action.reshape(-1, *action.shape[-3:])
    q = critic(obs, to_critics(own, critics)).view(critics, agents, len(own), -1).amin(0)
    return q.transpose(0, 1).reshape(action.shape[:-1])  # type: ignore[no-any-return]
