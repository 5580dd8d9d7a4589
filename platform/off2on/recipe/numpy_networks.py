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
    of one; all other modules, also subclasses of these and modules with hooks, are evaluated as before. The
    results differ from torch's by rounding. The copy uses torch with gradients, dropout or more than
    `MAX_ROWS` observations.

    Weights that are changed in place are followed. A new copy is needed if a parameter is replaced. A copy is
    used by one thread at a time.
    """
    children = {name: child and with_numpy(child) for name, child in network._modules.items()}
    kind = _KINDS.get(type(network), type(network))
    layers = _layers(network if isinstance(network, MLP) else children.get("mlp"))
    if not layers or any(part._forward_hooks or part._forward_pre_hooks for part in network.modules()):
        kind = type(network)
    copied = kind.__new__(kind)
    # Modules are attributes too, which Python finds several times faster than torch's `__getattr__` does.
    copied.__dict__.update(network.__dict__, _modules=children, **children)
    if kind is not type(network):
        copied.__dict__.update(layers=layers, _noise=_Noise())
        if "bounds" in network.__dict__:
            copied.__dict__["_limits"] = tuple(map(np.float32, network.__dict__["bounds"]))
        if isinstance(network, GaussianActor):
            copied.__dict__["_log_std"] = network.log_std.detach().numpy()
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
    return obs.dim() == 2 and obs.shape[0] <= MAX_ROWS and not torch.is_grad_enabled()


class _Noise:
    """Draws the numbers of `torch.randn` into memory of its own, in half the time."""

    def __init__(self) -> None:
        self._tensor = torch.empty(0)
        self._array: Array = self._tensor.numpy()

    def draw(self, shape: tuple[int, ...]) -> Array:
        """Return standard normal numbers, which the next draw overwrites."""
        if self._array.shape != shape:
            self._tensor = torch.empty(shape)
            self._array = self._tensor.numpy()
        self._tensor.normal_()
        return self._array


def _evaluate(layers: Layers, x: Array) -> Array:
    """Map [B, D] to [B, out]."""
    for number, (weight, bias) in enumerate(layers):
        if number:
            np.maximum(x, 0, out=x)
        x = np.dot(x, weight)
        x += bias
    return x


def _clip(values: Array, limits: tuple[np.float32, np.float32]) -> Array:
    """Do what `numpy.clip` does, which takes several times as long for a few numbers."""
    clipped: Array = np.maximum(values, limits[0])
    return np.minimum(clipped, limits[1], out=clipped)


class _Arrays:
    """Gives tensors of arrays when they are asked for, since a step needs none of them."""

    def __getattr__(self, name: str) -> Tensor:
        """Return the array ``_name`` as a tensor."""
        array = self.__dict__.get(f"_{name}")
        if not isinstance(array, np.ndarray):
            raise AttributeError(name)
        return torch.from_numpy(array)


class NumpyNormal(_Arrays, Normal):
    """See `Normal`.

    Args:
        mean: [B, A].
        std: [A] or [B, A], positive.
        noise: Source of the random numbers.
    """

    def __init__(self, mean: Array, std: Array, noise: _Noise) -> None:
        self._mean, self._std, self._noise = mean, std, noise

    def draw(self) -> Tensor:
        """Draw actions [B, A]."""
        return torch.from_numpy(self._mean + self._std * self._noise.draw(self._mean.shape))


class NumpyTanhNormal(_Arrays, TanhNormal):
    """See `TanhNormal`.

    Args:
        location: Mean [B, A] before squashing.
        log_std: [B, A] before squashing.
        noise: Source of the random numbers.
    """

    def __init__(self, location: Array, log_std: Array, noise: _Noise) -> None:
        self._location, self._log_std, self._noise = location, log_std, noise

    def draw(self) -> Tensor:
        """Draw actions [B, A]."""
        noise = self._noise.draw(self._location.shape)
        return torch.from_numpy(np.tanh(self._location + np.exp(self._log_std) * noise))


class NumpyMLP(MLP):
    """See `MLP`."""

    layers: Layers

    def forward(self, x: Tensor, dropout: float = 0.0) -> Tensor:
        """Map [B, D] to [B, out]."""
        if dropout or not _is_small(x):
            return super().forward(x, dropout)
        return torch.from_numpy(_evaluate(self.layers, x.numpy()))

    __call__ = forward  # without torch's search for hooks


class NumpyDeterministicActor(DeterministicActor):
    """See `DeterministicActor`."""

    layers: Layers

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Tensor:
        """Map observations [B, D] to actions [B, A] in (-1, 1)."""
        if dropout or not _is_small(obs):
            return super().forward(obs, dropout)
        return torch.from_numpy(np.tanh(_evaluate(self.layers, obs.numpy())))

    __call__ = forward  # without torch's search for hooks


class NumpyGaussianActor(GaussianActor):
    """See `GaussianActor`."""

    layers: Layers
    _noise: _Noise
    _limits: tuple[np.float32, np.float32]
    _log_std: Array

    def forward(self, obs: Tensor, dropout: float = 0.0) -> Normal:
        """Return the distribution of actions at [B, D]."""
        if dropout or not _is_small(obs):
            return super().forward(obs, dropout)
        mean = _evaluate(self.layers, obs.numpy())
        np.tanh(mean, out=mean)
        return NumpyNormal(mean, np.exp(_clip(self._log_std, self._limits)), self._noise)

    __call__ = forward  # without torch's search for hooks


class NumpyStateGaussianActor(StateGaussianActor):
    """See `StateGaussianActor`."""

    layers: Layers
    _noise: _Noise
    _limits: tuple[np.float32, np.float32]

    def forward(self, obs: Tensor) -> Normal:
        """Return the distribution of actions at [B, D]."""
        if not _is_small(obs):
            return super().forward(obs)
        both = _evaluate(self.layers, obs.numpy())
        width = both.shape[1] // 2
        std = np.exp(_clip(both[:, width:], self._limits))
        return NumpyNormal(np.tanh(both[:, :width]), std, self._noise)

    __call__ = forward  # without torch's search for hooks


class NumpySquashedGaussianActor(SquashedGaussianActor):
    """See `SquashedGaussianActor`."""

    layers: Layers
    _noise: _Noise
    _limits: tuple[np.float32, np.float32]

    def forward(self, obs: Tensor) -> TanhNormal:
        """Return the distribution of actions at [B, D]."""
        if not _is_small(obs):
            return super().forward(obs)
        both = _evaluate(self.layers, obs.numpy())
        width = both.shape[1] // 2
        log_std = _clip(both[:, width:], self._limits)
        return NumpyTanhNormal(both[:, :width], log_std, self._noise)

    __call__ = forward  # without torch's search for hooks


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    MLP: NumpyMLP,
    DeterministicActor: NumpyDeterministicActor,
    GaussianActor: NumpyGaussianActor,
    StateGaussianActor: NumpyStateGaussianActor,
    SquashedGaussianActor: NumpySquashedGaussianActor,
}
"""The classes that `with_numpy` replaces, and by which."""
