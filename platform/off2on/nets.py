"""Networks: multi-layer perceptrons, critics as batched ensembles, actors.

Shapes: ``B`` transitions, ``E`` members (always first), ``D`` observation width, ``A`` action
width, ``H`` hidden width. Everything is float32. Actions live in [-1, 1].
"""

import copy
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.distributions import Normal, TanhNormal


class Nets(nn.Module):
    """An algorithm's networks by name, and the slowly following copies of some of them.

    ``nets.critic`` is a network, ``nets.target.critic`` its frozen copy.

    Args:
        targets: Names of the networks that have a following copy.
        **networks: The networks.
    """

    target: Any

    def __init__(self, *, targets: Sequence[str] = (), **networks: nn.Module) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)
        self.targets = tuple(targets)
        self.target = nn.Module()
        for name in targets:
            self.target.add_module(name, copy.deepcopy(networks[name]).requires_grad_(False))

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def names(self) -> list[str]:
        """The networks' names, the copies left out."""
        return [name for name, _ in self.named_children() if name != "target"]

    def keep(self, names: Iterable[str]) -> None:
        """Drop every network not named, and all copies: what acting does not need."""
        for name in set(self.names()) - set(names):
            delattr(self, name)
        self.targets = ()
        del self.target


class MLP(nn.Sequential):
    """Linear layers with ReLU between them, and none after the last.

    Args:
        sizes: Widths from input to output, ``(D, H, H, out)``.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


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


class Critic(nn.Module):
    """An ensemble of action values Q_i(s, a).

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int], members: int = 2) -> None:
        super().__init__()
        self.members = members
        self.obs = obs
        sizes = (obs + action, *hidden, 1)
        self.layers = nn.ModuleList(EnsembleLinear(members, *pair) for pair in pairwise(sizes))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values of one or of several actions per observation.

        Args:
            obs: [B, D].
            action: [B, A], or [n, B, A] for n actions per observation.

        Returns:
            [E, B] or [E, n, B].
        """
        if action.dim() == 3:
            return self._many(obs, action)
        x = torch.cat((obs, action), -1)
        return self._rest(self.layers[0](x.expand(self.members, *x.shape)))

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values [B] of the first member alone, at its cost alone."""
        x = torch.cat((obs, action), -1)
        for number, layer in enumerate(self.layers):
            x = F.linear(F.relu_(x) if number else x, layer.weight[0], layer.bias[0, 0])  # type: ignore[index]
        return x.squeeze(-1)

    def _many(self, obs: Tensor, action: Tensor) -> Tensor:
        """As if each observation were repeated n times, with its share of layer one computed once."""
        count, batch, width = action.shape
        first: EnsembleLinear = self.layers[0]  # type: ignore[assignment]
        weight = first.weight.transpose(1, 2)
        of_obs = torch.baddbmm(first.bias, obs.expand(self.members, batch, self.obs), weight[:, : self.obs])
        flat = action.reshape(count * batch, width)
        of_action = flat.expand(self.members, *flat.shape) @ weight[:, self.obs :]
        # The sum is a tensor of its own: autograd copies whole gradients for what changes a view in place.
        x = of_action.view(self.members, count, batch, -1) + of_obs.unsqueeze(1)
        return self._rest(x).view(self.members, count, batch)

    def _rest(self, x: Tensor) -> Tensor:
        """The layers after the first, on its output [E, …, H]: [E, rows]."""
        for layer in self.layers[1:]:
            x = layer(F.relu_(x).flatten(1, -2))
        return x.squeeze(-1)


class Value(nn.Module):
    """A state value V(s)."""

    def __init__(self, obs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, 1))

    def forward(self, obs: Tensor) -> Tensor:
        """Map [B, D] to [B]."""
        return self.mlp(obs).squeeze(-1)  # type: ignore[no-any-return]


class Scalar(nn.Module):
    """One learned number, such as SAC's log temperature."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([initial]))

    def forward(self) -> Tensor:
        """The number, as a tensor of no dimensions."""
        return self.value.squeeze()


class DeterministicActor(nn.Module):
    """A policy a = tanh(f(s))."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, action))

    def forward(self, obs: Tensor) -> Tensor:
        """Map [B, D] to [B, A] in (-1, 1)."""
        return self.mlp(obs).tanh()  # type: ignore[no-any-return]


class GaussianActor(nn.Module):
    """A policy N(tanh f(s), sigma) whose sigma does not depend on the state.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of log sigma, which starts at 0.
    """

    def __init__(
        self, obs: int, action: int, hidden: Sequence[int], log_std: tuple[float, float] = (-5.0, 2.0)
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, action))
        self.log_std = nn.Parameter(torch.zeros(action))
        self.bounds = log_std

    def forward(self, obs: Tensor) -> Normal:
        """The distribution of actions at [B, D]."""
        return Normal(self.mlp(obs).tanh(), self.log_std.clamp(*self.bounds).exp())


class SquashedGaussianActor(nn.Module):
    """A policy tanh(N(f(s), g(s))), SAC's.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of log g.
    """

    def __init__(
        self, obs: int, action: int, hidden: Sequence[int], log_std: tuple[float, float] = (-20.0, 2.0)
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, 2 * action))
        self.bounds = log_std

    def forward(self, obs: Tensor) -> TanhNormal:
        """The distribution of actions at [B, D]."""
        mean, log_std = self.mlp(obs).chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(*self.bounds))
