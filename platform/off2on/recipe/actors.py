"""Policy networks: deterministic, Gaussian, squashed Gaussian.

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width. Actions live in [-1, 1].
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from off2on.recipe.distributions import Normal, TanhNormal
from off2on.recipe.ensembles import EnsembleLinear, EnsembleNorm
from off2on.recipe.networks import ACTIVATIONS, MLP, Norm


class DeterministicActor(nn.Module):
    """A policy a = tanh(f(s)).

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        activation: Name of the function between layers, see `networks.ACTIVATIONS`.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int], activation: str = "relu") -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, action), activation)

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Tensor:
        """Map [B, D] to actions [B, A] in (-1, 1); `dropout` is the share of hidden units set to 0."""
        return self.mlp(obs, dropout).tanh()  # type: ignore[no-any-return]


class GaussianActor(nn.Module):
    """A policy N(tanh f(s), sigma), with a sigma that does not depend on the state.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of log sigma.
        start: Initial log sigma.
        activation: Name of the function between layers, see `networks.ACTIVATIONS`.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        hidden: Sequence[int],
        log_std: tuple[float, float] = (-5.0, 2.0),
        start: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, action), activation)
        self.log_std = nn.Parameter(torch.full((action,), start))
        self.bounds = log_std

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Normal:
        """Return the distribution of actions at [B, D]; `dropout` is the share of hidden units set to 0."""
        return Normal(self.mlp(obs, dropout).tanh(), self.log_std.clamp(*self.bounds).exp())


class StateGaussianActor(nn.Module):
    """A policy N(tanh f(s), g(s)): Gaussian, with a sigma that depends on the state.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of log g.
    """

    def __init__(
        self, obs: int, action: int, hidden: Sequence[int], log_std: tuple[float, float] = (-5.0, 2.0)
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, 2 * action))
        self.bounds = log_std

    def forward(self, obs: Tensor) -> Normal:
        """Return the distribution of actions at [B, D]."""
        mean, log_std = self.mlp(obs).chunk(2, -1)
        return Normal(mean.tanh(), log_std.clamp(*self.bounds).exp())


class SquashedGaussianActor(nn.Module):
    """A policy tanh(N(f(s), g(s))), the squashed Gaussian of SAC.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of log g.
        activation: Name of the function between layers, see `networks.ACTIVATIONS`.
        layer_norm: Place of layer normalisation; None: no normalisation.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        hidden: Sequence[int],
        log_std: tuple[float, float] = (-20.0, 2.0),
        activation: str = "relu",
        layer_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, 2 * action), activation, layer_norm)
        self.bounds = log_std

    def forward(self, obs: Tensor) -> TanhNormal:
        """Return the distribution of actions at [B, D]."""
        mean, log_std = self.mlp(obs).chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(*self.bounds))


class EnsembleActor(nn.Module):
    """E policies tanh(N(f_e(s), g_e(s))) as one batched network.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        log_std: Bounds of log g.
        activation: Name of the function between layers, see `networks.ACTIVATIONS`.
        layer_norm: Place of layer normalisation; None: no normalisation.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        hidden: Sequence[int],
        members: int,
        log_std: tuple[float, float] = (-20.0, 2.0),
        activation: str = "relu",
        layer_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        sizes = (obs, *hidden, 2 * action)
        self.layers = nn.ModuleList(EnsembleLinear(members, *pair) for pair in pairwise(sizes))
        self.norms = nn.ModuleList(EnsembleNorm(members, width) for width in hidden if layer_norm)
        self.activation, self.layer_norm = ACTIVATIONS[activation](), layer_norm
        self.members = members
        self.bounds = log_std

    def forward(self, obs: Tensor) -> TanhNormal:
        """Return every member's distribution of actions at [B, D], with tensors [E, B, A]."""
        x = obs.expand(self.members, *obs.shape)
        for number, layer in enumerate(self.layers):
            x = layer(self._hidden(number - 1, x) if number else x)
        mean, log_std = x.chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(*self.bounds))

    def _hidden(self, number: int, x: Tensor) -> Tensor:
        """Apply activation, and layer normalisation if configured, to an output [E, B, H]."""
        if self.layer_norm == "before":
            x = self.norms[number](x)
        x = self.activation(x)
        return self.norms[number](x) if self.layer_norm == "after" else x
