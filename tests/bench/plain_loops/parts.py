"""Parts that several loops share: rows, networks, policies, target networks, as the two codes have them.

Shapes: ``B`` rows of a batch, ``D`` observation width, ``A`` action width, ``E`` critics. All is float32.
"""

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F  # noqa: N812

BATCH, DISCOUNT, TAU = 256, 0.99, 0.005
Columns = Mapping[str, np.ndarray]
"""obs [N, D], action [N, A], reward [N, 1], next_obs [N, D], done [N, 1], and what else a loop needs."""
FIVE = ("obs", "action", "reward", "next_obs", "done")


class TensorRows:
    """Keep the columns as tensors; draw indices with NumPy and index each tensor (CORL)."""

    def __init__(self, columns: Columns, *more: str) -> None:
        self.columns = [torch.tensor(columns[name]) for name in (*FIVE, *more)]
        self.count, self.obs, self.action = len(columns["obs"]), *_widths(columns)

    def sample(self) -> list[Tensor]:
        positions = np.random.randint(0, self.count, size=BATCH)  # noqa: NPY002
        return [column[positions] for column in self.columns]


class ArrayRows:
    """Keep the columns as arrays; index each array and copy the result to a tensor (OfflineRL-Kit)."""

    def __init__(self, columns: Columns, *more: str) -> None:
        self.columns = [columns[name] for name in (*FIVE, *more)]
        self.count, self.obs, self.action = len(columns["obs"]), *_widths(columns)

    def sample(self) -> list[Tensor]:
        positions = np.random.randint(0, self.count, size=BATCH)  # noqa: NPY002
        return [torch.tensor(column[positions]) for column in self.columns]


Rows = TensorRows | ArrayRows


def _widths(columns: Columns) -> tuple[int, int]:
    return columns["obs"].shape[1], columns["action"].shape[1]


def mlp(*sizes: int, last: nn.Module | None = None, norm: bool = False) -> nn.Sequential:
    """Return linear layers with ReLU between them; `norm` adds a layer normalisation after each ReLU."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), *([nn.LayerNorm(fan_out)] if norm else [])]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers, *([] if last is None else [last]))


class Critic(nn.Module):
    """One action value Q(s, a): [B, 1]."""

    def __init__(self, rows: Rows, *hidden: int, norm: bool = False) -> None:
        super().__init__()
        self.net = mlp(rows.obs + rows.action, *hidden, 1, norm=norm)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([obs, action], -1))


class VectorizedLinear(nn.Module):
    """E linear layers as one batched product; `einsum` as OfflineRL-Kit writes it, else as CORL does."""

    def __init__(self, fan_in: int, fan_out: int, members: int, einsum: bool) -> None:
        super().__init__()
        bound = fan_in**-0.5
        self.weight = nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound))
        self.einsum = einsum

    def forward(self, x: Tensor) -> Tensor:
        if self.einsum:
            return torch.einsum("ij,bjk->bik" if x.dim() == 2 else "bij,bjk->bik", x, self.weight) + self.bias
        return x @ self.weight + self.bias


class VectorizedCritic(nn.Module):
    """E action values Q_i(s, a): [E, B, 1]."""

    def __init__(self, rows: Rows, *hidden: int, members: int, einsum: bool) -> None:
        super().__init__()
        sizes = (rows.obs + rows.action, *hidden)
        layers: list[nn.Module] = []
        for pair in pairwise(sizes):
            layers += [VectorizedLinear(*pair, members, einsum), nn.ReLU()]
        self.net = nn.Sequential(*layers, VectorizedLinear(sizes[-1], 1, members, einsum))
        self.members, self.einsum = members, einsum

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], -1)
        if x.dim() == 2 and not self.einsum:
            x = x.unsqueeze(0).repeat_interleave(self.members, dim=0)
        return self.net(x)


class GaussianPolicy(nn.Module):
    """N(tanh f(s), sigma) with one sigma for all states."""

    def __init__(self, rows: Rows, *hidden: int, tanh: bool = True) -> None:
        super().__init__()
        self.net = mlp(rows.obs, *hidden, rows.action, last=nn.Tanh() if tanh else None)
        self.log_std = nn.Parameter(torch.zeros(rows.action))

    def forward(self, obs: Tensor) -> Normal:
        return Normal(self.net(obs), self.log_std.clamp(-20.0, 2.0).exp())


class SquashedPolicy(nn.Module):
    """tanh(N(f(s), g(s))) with a layer each for f and g; returns a sample [B, A] and its log density."""

    def __init__(self, rows: Rows, *hidden: int, keepdim: bool) -> None:
        super().__init__()
        self.trunk = mlp(rows.obs, *hidden, last=nn.ReLU())
        self.mean, self.log_std = (nn.Linear(hidden[-1], rows.action) for _ in range(2))
        self.keepdim = keepdim

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(obs)
        distribution = Normal(self.mean(hidden), self.log_std(hidden).clamp(-5.0, 2.0).exp())
        raw = distribution.rsample()
        action = torch.tanh(raw)
        correction = torch.log(1 - action.pow(2) + 1e-6).sum(-1, keepdim=self.keepdim)
        return action, distribution.log_prob(raw).sum(-1, keepdim=self.keepdim) - correction


def adam(network: nn.Module, lr: float = 3e-4) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=lr)


def with_target(network: nn.Module) -> tuple[Any, Any]:
    """Return a network and its target network."""
    return network, deepcopy(network).requires_grad_(False)


def soft_update(target: nn.Module, network: nn.Module) -> None:
    for old, new in zip(target.parameters(), network.parameters(), strict=True):
        old.data.copy_((1 - TAU) * old.data + TAU * new.data)


def minimise(loss: Tensor, *optimizers: torch.optim.Optimizer, retain_graph: bool = False) -> None:
    """Make one step of the optimisers along the gradient of a loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward(retain_graph=retain_graph)
    for optimizer in optimizers:
        optimizer.step()


def squared(value: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error as OfflineRL-Kit writes it."""
    return (value - target).pow(2).mean()


def twin_loss(values: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """Return the sum of two mean squared errors as CORL writes it."""
    return F.mse_loss(values[0], target) + F.mse_loss(values[1], target)
