"""Networks: multi-layer perceptrons, and critics as batched ensembles.

Shapes: ``B`` transitions, ``E`` members (always first), ``D`` observation width, ``A`` action
width, ``H`` hidden width. Everything is float32. Actions live in [-1, 1].
"""

import copy
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.critic_heads import Head, Prediction
from off2on.recipe.ensembles import EnsembleLinear, EnsembleNorm
from off2on.recipe.return_distribution import ReturnDistribution

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": partial(nn.GELU, approximate="tanh"),  # the approximation is flax's default
    "mish": nn.Mish,
}
"""Functions between layers, by name."""

Norm = Literal["before", "after"]
"""Place of layer normalisation: before or after the function between layers."""

NORMS: tuple[str, ...] = get_args(Norm)
ACTIVATION = "function between the layers of all networks"
NORM_PLACE = "place of layer normalisation: before or after the function between layers"


class Nets(nn.Module):
    """Networks of an algorithm by name, and the target networks of some of them.

    ``nets.critic`` is a network, ``nets.target.critic`` its target network, a copy without gradient.

    Args:
        targets: Names of the networks that have a target network.
        **networks: Networks by name.
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
        """Return the names of the networks, without the target networks."""
        return [name for name, _ in self.named_children() if name != "target"]

    def keep(self, names: Iterable[str], targets: Collection[str] = ()) -> None:
        """Remove all networks and all target networks that are not named."""
        for name in set(self.names()) - set(names):
            delattr(self, name)
        for name in set(self.targets) - set(targets):
            delattr(self.target, name)
        self.targets = tuple(name for name in self.targets if name in targets)
        if not self.targets:
            del self.target


class MLP(nn.Sequential):
    """Linear layers with a function between them, and none after the last.

    Args:
        sizes: Widths from input to output, ``(D, H, H, out)``.
        activation: Name of the function, see `ACTIVATIONS`.
        layer_norm: Layer normalisation of the hidden layers ``"before"`` or ``"after"`` the function; None:
            no normalisation.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        layer_norm: Norm | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            hidden: list[nn.Module] = [ACTIVATIONS[activation]()]
            if layer_norm is not None:
                hidden.insert(0 if layer_norm == "before" else 1, nn.LayerNorm(fan_out))
            layers += [nn.Linear(fan_in, fan_out), *hidden]
        super().__init__(*layers[: -1 - (layer_norm is not None)])

    def forward(self, x: Tensor, dropout: float = 0.0) -> Tensor:
        """Map [B, D] to [B, out]; `dropout` is the share of hidden units set to 0."""
        for layer in self:
            x = layer(x)
            if dropout and not isinstance(layer, nn.Linear | nn.LayerNorm):  # an activation
                x = F.dropout(x, dropout)
        return x


@torch.no_grad()
def start_small(network: nn.Module, last: float) -> None:
    """Set the biases of the hidden layers to 0.1, and draw the last layer uniformly from [-last, last]."""
    *hidden, final = (layer for layer in network.modules() if isinstance(layer, nn.Linear | EnsembleLinear))
    for layer in hidden:
        layer.bias.fill_(0.1)
    for parameter in final.parameters():
        parameter.uniform_(-last, last)


@torch.no_grad()
def glorot(network: nn.Module) -> None:
    """Draw the weights of every layer, and member, uniformly in Glorot's range, and set the biases to 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | EnsembleLinear):
            bound = math.sqrt(6 / sum(layer.weight.shape[-2:]))
            layer.weight.uniform_(-bound, bound)
            layer.bias.zero_()


class Critic(nn.Module):
    """An ensemble of action values Q_i(s, a).

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        layer_norm: Layer normalisation of the hidden layers ``"before"`` or ``"after"`` the function between
            layers; None: no normalisation.
        activation: Name of that function, see `ACTIVATIONS`.
        head: What the critics put out for a value; None: the value itself.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        hidden: Sequence[int],
        members: int = 2,
        layer_norm: Norm | None = None,
        activation: str = "relu",
        head: Head | None = None,
    ) -> None:
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]()
        self.members = members
        self.obs = obs
        self.layer_norm = layer_norm
        self.head = head
        sizes = (obs + action, *hidden, 1 if head is None else head.outputs)
        self.layers = nn.ModuleList(EnsembleLinear(members, *pair) for pair in pairwise(sizes))
        self.norms = nn.ModuleList(EnsembleNorm(members, width) for width in hidden if layer_norm)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the values of one or several actions per observation.

        Args:
            obs: Observations [B, D].
            action: Actions [B, A], or [n, B, A] for n per observation, or [E, n, B, A] for n per observation
                and member.

        Returns:
            Values [E, B] or [E, n, B].
        """
        return self._values(self._outputs(obs, action))

    def predict(self, obs: Tensor, action: Tensor) -> Tensor | Prediction:
        """Return what `losses.td` compares with a target, with the arguments of `forward`."""
        if self.head is None:
            return self(obs, action)  # type: ignore[no-any-return]
        return Prediction(self._outputs(obs, action), self.head)

    def future(self, obs: Tensor, action: Tensor) -> Tensor | ReturnDistribution:
        """Return what targets are made of, with the arguments of `forward`."""
        return self(obs, action) if self.head is None else self.head.future(self._outputs(obs, action))

    def _values(self, outputs: Tensor) -> Tensor:
        """Return the values [...] of outputs [..., M]."""
        return outputs.squeeze(-1) if self.head is None else self.head.value(outputs)

    def _outputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the outputs [E, B, M] or [E, n, B, M]."""
        if action.dim() > 2:
            return self._many(obs, action)
        x = torch.cat((obs, action), -1)
        return self._rest(self.layers[0](x.expand(self.members, *x.shape)))

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the values [B] of the first member only, at the cost of one member."""
        x = torch.cat((obs, action), -1)
        for number, layer in enumerate(self.layers):
            x = self._first_hidden(number - 1, x) if number else x
            x = F.linear(x, layer.weight[0], layer.bias[0, 0])  # type: ignore[index]
        return self._values(x)

    def _first_hidden(self, number: int, x: Tensor) -> Tensor:
        """Apply `_hidden` for the first member: [B, H]."""
        if self.layer_norm is None:
            return self.activation(x)
        norm: EnsembleNorm = self.norms[number]  # type: ignore[assignment]
        scale, shift, width = norm.weight[0, 0], norm.bias[0, 0], x.shape[-1:]
        if self.layer_norm == "after":
            return F.layer_norm(self.activation(x), width, scale, shift)
        return self.activation(F.layer_norm(x, width, scale, shift))

    def subset(self, obs: Tensor, action: Tensor, members: Tensor) -> Tensor | ReturnDistribution:
        """Return the `future` [m, B] of the members with the indices [m], at the cost of m members."""
        x = torch.cat((obs, action), -1).expand(len(members), -1, -1)
        for number, layer in enumerate(self.layers):
            weight, bias = layer.weight[members], layer.bias[members]  # type: ignore[index]
            x = self._hidden(number - 1, x, members) if number else x
            x = torch.baddbmm(bias, x, weight.transpose(1, 2))
        return x.squeeze(-1) if self.head is None else self.head.future(x)

    def with_action_gradient(self, obs: Tensor, action: Tensor) -> tuple[Tensor | Prediction, Tensor]:
        """Return `predict` [E, B] and the gradients [E, B, A] of the values by the action, differentiable."""
        x = torch.cat((obs, action), -1).expand(self.members, -1, -1).requires_grad_()
        outputs = self._rest(self.layers[0](x))
        q = self._values(outputs)
        (slope,) = torch.autograd.grad(q.sum(), x, create_graph=True)
        return q if self.head is None else Prediction(outputs, self.head), slope[..., self.obs :]

    def _many(self, obs: Tensor, action: Tensor) -> Tensor:
        """Compute the outputs for n actions per observation, with its part of layer one only once."""
        count, batch, width = action.shape[-3:]
        first: EnsembleLinear = self.layers[0]  # type: ignore[assignment]
        weight = first.weight.transpose(1, 2)
        of_obs = torch.baddbmm(first.bias, obs.expand(self.members, batch, self.obs), weight[:, : self.obs])
        flat = action.flatten(-3, -2).expand(self.members, count * batch, width)
        of_action = flat @ weight[:, self.obs :]
        # The sum is a tensor of its own: autograd copies whole gradients for what changes a view in place.
        x = of_action.view(self.members, count, batch, -1) + of_obs.unsqueeze(1)
        return self._rest(x).view(self.members, count, batch, -1)

    def _rest(self, x: Tensor) -> Tensor:
        """Apply the layers after the first to its output [E, …, H]: [E, rows, M]."""
        for number, layer in enumerate(islice(self.layers, 1, None)):
            x = layer(self._hidden(number, x))
        return x

    def _hidden(self, number: int, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Apply activation, and layer normalisation if configured, to an output [E, …, H]: [E, rows, H]."""
        if self.layer_norm == "before":
            return self.activation(self.norms[number](x.flatten(1, -2), members))
        x = self.activation(x).flatten(1, -2)
        return x if self.layer_norm is None else self.norms[number](x, members)


class Value(nn.Module):
    """A state value V(s); the arguments are those of `MLP`."""

    def __init__(
        self,
        obs: int,
        hidden: Sequence[int],
        activation: str = "relu",
        layer_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, 1), activation, layer_norm)

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations [B, D] to values [B]."""
        return self.mlp(obs).squeeze(-1)  # type: ignore[no-any-return]


def concatenate(obs: Tensor, other: Tensor) -> Tensor:
    """Concatenate observations [B, D] with [B, W], or repeated with each of [n, B, W]: [..., D + W]."""
    return torch.cat((obs.expand(*other.shape[:-1], obs.shape[-1]), other), -1)


class Scalar(nn.Module):
    """A learned number, such as SAC's log temperature, or several with the same initial value."""

    def __init__(self, initial: float, count: int = 1) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((count,), initial))

    def forward(self) -> Tensor:
        """Return the number as a tensor [], or several as [count]."""
        return self.value.squeeze()
