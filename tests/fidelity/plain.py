"""Networks and densities a second time, from their definitions: one member and one row at a time, in float64.

Everything is a function of weights, so that autograd gives the gradient of what is computed here.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Layers = list[tuple[Tensor, Tensor]]
"""Weight [out, in] and bias [out] of every linear layer, from input to output."""


def rows_of(batch: Any) -> range:
    """The numbers of a batch's transitions."""
    return range(len(batch.obs))


def layers_of(network: nn.Module) -> Layers:
    """The linear layers of a network without members."""
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [(layer.weight.double(), layer.bias.double()) for layer in linears]


def members_of(critic: Any) -> Iterator[Layers]:
    """Each member of an ensemble, as layers of its own."""
    for number in range(critic.members):
        yield [(layer.weight[number].double(), layer.bias[number, 0].double()) for layer in critic.layers]


def perceptron(layers: Layers, x: Tensor) -> Tensor:
    """Linear layers with ReLU between them, of one row [in]: [out]."""
    x = x.double()
    for number, (weight, bias) in enumerate(layers):
        x = weight @ (torch.where(x > 0, x, 0.0) if number else x) + bias
    return x


def values(critic: Any, obs: Tensor, action: Tensor) -> list[Tensor]:
    """Each member's Q_i(s, a) of one row."""
    row = torch.cat((obs.double(), action.double()))
    if critic.layer_norm == "before":
        return [normalised(critic, number, layers, row) for number, layers in enumerate(members_of(critic))]
    return [perceptron(layers, row).squeeze() for layers in members_of(critic)]


def normalised(critic: Any, number: int, layers: Layers, x: Tensor) -> Tensor:
    """One member's value of one row, each hidden layer normalised over its units and then cut off at 0."""
    *hidden, (last, offset) = layers
    for norm, (weight, bias) in zip(critic.norms, hidden, strict=True):
        x = weight @ x + bias
        spread = ((x - x.mean()) ** 2).mean()
        x = (x - x.mean()) / (spread + 1e-5).sqrt() * norm.weight[number, 0].double() + norm.bias[
            number, 0
        ].double()
        x = torch.where(x > 0, x, 0.0)
    return (last @ x + offset).squeeze()


def least(numbers: list[Tensor]) -> Tensor:
    """The smallest of some scalars."""
    return min(numbers, key=lambda one: one.item())


def smallest(critic: Any, obs: Tensor, action: Tensor) -> Tensor:
    """min_i Q_i(s, a) of one row."""
    return least(values(critic, obs, action))


def log_normal(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """The log density of N(mean, sigma), a diagonal Gaussian, at one row."""
    terms = [
        -0.5 * ((x[k].double() - mean[k]) / sigma[k]) ** 2 - sigma[k].log() - 0.5 * math.log(2 * math.pi)
        for k in range(len(x))
    ]
    return sum(terms, torch.zeros((), dtype=torch.float64))


def tanh_gaussian(actor: Any, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean tanh f(s) and sigma of one row; sigma is the state's, or the same for all states."""
    low, high = actor.bounds
    out = perceptron(layers_of(actor), obs)
    mean, log_std = (out, actor.log_std.double()) if hasattr(actor, "log_std") else out.chunk(2)
    return mean.tanh(), log_std.clamp(low, high).exp()


def squashed(actor: Any, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One row's tanh(u), u = mean + sigma noise, and its log density log N(u) - sum log(1 - tanh(u)^2)."""
    low, high = actor.bounds
    mean, log_std = perceptron(layers_of(actor), obs).chunk(2)
    sigma = log_std.clamp(low, high).exp()
    u = mean + sigma * noise.double()
    return u.tanh(), log_normal(u, mean, sigma) - (1 - u.tanh() ** 2).log().sum()


def average(numbers: Iterable[Tensor]) -> Tensor:
    """The arithmetic mean of scalars."""
    every = list(numbers)
    return sum(every, torch.zeros((), dtype=torch.float64)) / len(every)
