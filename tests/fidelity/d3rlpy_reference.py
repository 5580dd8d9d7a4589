"""d3rlpy 2.8.1 with small networks, and its weights and gradients under our names.

d3rlpy pins another Gymnasium than RLlib does, so it is never a dependency: `make test` installs it beside
the pins.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

d3rlpy = pytest.importorskip(
    "d3rlpy", reason="d3rlpy 2.8.1 is not installed here: make test", exc_type=ImportError
)

HIDDEN = (32, 32)

Tensors = dict[str, Tensor]


def theirs(name: str, *, obs: int = 5, actions: int = 3, **options: Any) -> Any:
    """A d3rlpy implementation with small networks and a random state."""
    factory = d3rlpy.models.VectorEncoderFactory(hidden_units=list(HIDDEN))
    kind = getattr(d3rlpy.algos, f"{name}Config")
    encoders = [field for field in kind.__dataclass_fields__ if field.endswith("encoder_factory")]
    algo = kind(**(dict.fromkeys(encoders, factory) | options)).create("cpu:0")
    algo.create_impl((obs,), actions)
    return algo.impl


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def value_of(parameter: nn.Parameter) -> Tensor:
    return parameter.detach()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


Take = Callable[[nn.Parameter], Tensor]


def perceptron(module: nn.Module, take: Take) -> Tensors:
    """A d3rlpy network, or its gradient, under our names."""
    named = {}
    for number, layer in enumerate(linears(module)):
        named[f"mlp.{2 * number}.weight"] = take(layer.weight)
        named[f"mlp.{2 * number}.bias"] = take(layer.bias)
    return named


def critics(modules: nn.ModuleList, take: Take) -> Tensors:
    """d3rlpy's list of networks is one ensemble of ours."""
    named = {}
    for number, layers in enumerate(zip(*map(linears, modules), strict=True)):
        named[f"layers.{number}.weight"] = torch.stack([take(layer.weight) for layer in layers])
        named[f"layers.{number}.bias"] = torch.stack([take(layer.bias).unsqueeze(0) for layer in layers])
    return named


def squashed(module: Any, take: Take) -> Tensors:
    """d3rlpy has a head each for mean and log sigma, we have one for both."""
    named = perceptron(module, take)
    last, spread = len(HIDDEN) * 2, len(HIDDEN) * 2 + 2
    for part in ("weight", "bias"):
        both = named[f"mlp.{last}.{part}"], named.pop(f"mlp.{spread}.{part}")
        named[f"mlp.{last}.{part}"] = torch.cat(both)
    return named


def gaussian(module: Any, take: Take) -> Tensors:
    """d3rlpy's log sigma is -5 + 7 sigmoid(p), ours is a number clipped to [-5, 2]."""
    named = perceptron(module, take)
    share = torch.sigmoid(module._logstd.detach()).squeeze(0)
    if take is value_of:
        named["log_std"] = -5 + 7 * share
    else:
        named["log_std"] = take(module._logstd).squeeze(0) / (7 * share * (1 - share))
    return named


def shake(modules: Any) -> None:
    """Move d3rlpy's targets and log sigma away from their first values."""
    with torch.no_grad():
        for name in ("targ_q_funcs", "targ_policy"):
            for parameter in getattr(modules, name, nn.Module()).parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        spread = getattr(getattr(modules, "policy", None), "_logstd", None)
        if isinstance(spread, nn.Parameter):
            spread += torch.randn_like(spread)


def their_batch(batch: Any) -> Any:
    column = {name: getattr(batch, name).unsqueeze(1) for name in ("reward", "mask")}
    return d3rlpy.TorchMiniBatch(
        observations=batch.obs,
        actions=batch.action,
        rewards=column["reward"],
        next_observations=batch.next_obs,
        next_actions=torch.zeros_like(batch.action),
        returns_to_go=torch.zeros_like(column["reward"]),
        terminals=1 - column["mask"],
        intervals=torch.ones_like(column["reward"]),
        device="cpu:0",
    )


def flatten(named: Tensors) -> Tensor:
    """In the order of their names."""
    return torch.cat([named[name].detach().flatten() for name in sorted(named)])


def same(
    fidelity: Any,
    algorithm: str,
    loss: str,
    ours: Tensor,
    other: Tensor,
    network: nn.Module,
    gradient: Callable[[], Tensors],
    relation: str = "=",
) -> None:
    """Compare two losses, and their gradients with respect to one network."""
    other.backward()
    fidelity.compare(
        algorithm,
        loss,
        reference="d3rlpy 2.8.1",
        relation=relation,
        ours=ours,
        theirs=other,
        network=network,
        gradient=gradient(),
    )
