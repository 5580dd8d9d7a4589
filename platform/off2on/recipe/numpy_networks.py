"""Evaluate small networks with NumPy, for the few observations of one step of a runner.

For one observation, torch's cost of calling modules and operators is several times that of the arithmetic:
about 60 µs for two hidden layers of 256, against 12 µs with NumPy.

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width; everything float32, on the CPU.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from off2on.recipe.actors import DeterministicActor, GaussianActor, SquashedGaussianActor, StateGaussianActor
from off2on.recipe.distributions import Normal, TanhNormal
from off2on.recipe.networks import MLP

Array = npt.NDArray[np.float32]
Layers = list[tuple[Array, Array]]

MAX_ROWS = 4
"""Number of observations up to which NumPy is used: for more, its matrix products start threads."""


def with_numpy(network: nn.Module) -> Any:
    """Return a network that shares the weights of another one and evaluates what it can with NumPy.

    Replaced are every `MLP` of linear layers and ReLU, and the actors of `off2on.recipe.actors` that consist
    of one; all other modules, also subclasses of these, are evaluated as before. The results differ from
    torch's by rounding. The copy uses torch with gradients, dropout or more than `MAX_ROWS` observations.

    Weights that are changed in place are followed. A new copy is needed if a parameter is replaced.
    """
    children = {name: child and with_numpy(child) for name, child in network._modules.items()}
    kind = _KINDS.get(type(network), type(network))
    layers = _layers(network if isinstance(network, MLP) else children.get("mlp"))
    if kind is not type(network) and not layers:
        kind = type(network)
    copied = kind.__new__(kind)
    # Modules are attributes too, which Python finds several times faster than torch's `__getattr__` does.
    copied.__dict__.update(network.__dict__, _modules=children, **children)
    if kind is not type(network):
        copied.__dict__["layers"] = layers
    return copied


def _layers(network: nn.Module | None) -> Layers:
    """Return weights [in, out] and biases of an `MLP`, as views; an empty list if it has other layers."""
    if not isinstance(network, MLP):
        return []
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    if len(linear) + sum(type(layer) is nn.ReLU for layer in network) != len(network):
        return []
    return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]


def _is_small(obs: Tensor) -> bool:
    return obs.dim() == 2 and len(obs) <= MAX_ROWS and not torch.is_grad_enabled()


def _evaluate(layers: Layers, x: Array) -> Array:
    """Map [B, D] to [B, out]."""
    for number, (weight, bias) in enumerate(layers):
        if number:
            np.maximum(x, 0, out=x)
        x = np.dot(x, weight)
        x += bias
    return x


def _clip(values: Array, bounds: tuple[float, float]) -> Array:
    """Do what `numpy.clip` does, which takes several times as long for a few numbers."""
    clipped: Array = np.minimum(np.maximum(values, np.float32(bounds[0])), np.float32(bounds[1]))
    return clipped


class NumpyNormal(Normal):
    """See `Normal`.

    Args:
        mean: [B, A].
        std: [A] or [B, A], positive.
    """

    def __init__(self, mean: Array, std: Array) -> None:
        super().__init__(torch.from_numpy(mean), torch.from_numpy(std))
        self._arrays = mean, std

    def draw(self) -> Tensor:
        """Draw actions [B, A]."""
        mean, std = self._arrays
        return torch.from_numpy(mean + std * torch.randn(mean.shape).numpy())


class NumpyTanhNormal(TanhNormal):
    """See `TanhNormal`.

    Args:
        mean: [B, A] before squashing.
        log_std: [B, A] before squashing.
    """

    def __init__(self, mean: Array, log_std: Array) -> None:
        super().__init__(torch.from_numpy(mean), torch.from_numpy(log_std))
        self._arrays = mean, log_std

    def draw(self) -> Tensor:
        """Draw actions [B, A]."""
        mean, log_std = self._arrays
        return torch.from_numpy(np.tanh(mean + np.exp(log_std) * torch.randn(mean.shape).numpy()))


class NumpyMLP(MLP):
    """See `MLP`."""

    layers: Layers

    def forward(self, x: Tensor, dropout: float = 0.0) -> Tensor:
        """Map [B, D] to [B, out]."""
        if dropout or not _is_small(x):
            return super().forward(x, dropout)
        return torch.from_numpy(_evaluate(self.layers, x.numpy()))


class NumpyDeterministicActor(DeterministicActor):
    """See `DeterministicActor`."""

    layers: Layers

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Tensor:
        """Map observations [B, D] to actions [B, A] in (-1, 1)."""
        if dropout or not _is_small(obs):
            return super().forward(obs, dropout)
        return torch.from_numpy(np.tanh(_evaluate(self.layers, obs.numpy())))


class NumpyGaussianActor(GaussianActor):
    """See `GaussianActor`."""

    layers: Layers

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Normal:
        """Return the distribution of actions at [B, D]."""
        if dropout or not _is_small(obs):
            return super().forward(obs, dropout)
        mean = np.tanh(_evaluate(self.layers, obs.numpy()))
        std = np.exp(_clip(self.log_std.detach().numpy(), self.bounds))
        return NumpyNormal(mean, std)


class NumpyStateGaussianActor(StateGaussianActor):
    """See `StateGaussianActor`."""

    layers: Layers

    def forward(self, obs: Tensor) -> Normal:
        """Return the distribution of actions at [B, D]."""
        if not _is_small(obs):
            return super().forward(obs)
        both = _evaluate(self.layers, obs.numpy())
        width = both.shape[1] // 2
        std = np.exp(_clip(both[:, width:], self.bounds))
        return NumpyNormal(np.tanh(both[:, :width]), std)


class NumpySquashedGaussianActor(SquashedGaussianActor):
    """See `SquashedGaussianActor`."""

    layers: Layers

    def forward(self, obs: Tensor) -> TanhNormal:
        """Return the distribution of actions at [B, D]."""
        if not _is_small(obs):
            return super().forward(obs)
        both = _evaluate(self.layers, obs.numpy())
        width = both.shape[1] // 2
        log_std = _clip(both[:, width:], self.bounds)
        return NumpyTanhNormal(both[:, :width], log_std)


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    MLP: NumpyMLP,
    DeterministicActor: NumpyDeterministicActor,
    GaussianActor: NumpyGaussianActor,
    StateGaussianActor: NumpyStateGaussianActor,
    SquashedGaussianActor: NumpySquashedGaussianActor,
}
"""The classes that `with_numpy` replaces, and by which."""
