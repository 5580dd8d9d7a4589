"""Flow policies a second time, from their definitions: one row, member and step at a time, in float64."""

import math
from collections.abc import Callable
from typing import Any

import torch
from plain import average, least, log_normal
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """The tanh approximation, Hendrycks & Gimpel, arXiv:1606.08415."""
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    spread = ((x - x.mean()) ** 2).mean()
    return (x - x.mean()) / (spread + 1e-5).sqrt() * weight.double() + bias.double()


def network(mlp: nn.Sequential, *parts: Tensor, function: Function = gelu) -> Tensor:
    """One row through a network with a function between its layers."""
    x = torch.cat([part.double() for part in parts])
    for layer in mlp:
        if isinstance(layer, nn.Linear):
            x = layer.weight.double() @ x + layer.bias.double()
        else:
            x = normalise(x, layer.weight, layer.bias) if isinstance(layer, nn.LayerNorm) else function(x)
    return x


def values(critic: Any, *parts: Tensor, function: Function = gelu) -> list[Tensor]:
    """Each member's value of one row."""
    found = []
    for number in range(critic.members):
        x = torch.cat([part.double() for part in parts])
        for place, layer in enumerate(critic.layers):
            x = function(x) if place else x
            if place and len(critic.norms):
                norm = critic.norms[place - 1]
                x = normalise(x, norm.weight[number, 0], norm.bias[number, 0])
            x = layer.weight[number].double() @ x + layer.bias[number, 0].double()
        found.append(x.squeeze())
    return found


def path(flow: Any, obs: Tensor, noise: Tensor, steps: int) -> Tensor:
    """The end of the path from the noise of one row."""
    point = noise.double()
    for step in range(steps):
        point = point + network(flow.mlp, obs, point, torch.tensor([step / steps])) / steps
    return point.clamp(-1, 1)


def edit(actor: Any, obs: Tensor, base: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One row's tanh(u), u = mean + sigma noise, and its log density log N(u) - sum log(1 - tanh(u)^2)."""
    mean, log_sigma = network(actor.mlp, obs, base).chunk(2)
    sigma = log_sigma.clamp(-20, 2).exp()
    u = mean + sigma * noise.double()
    return u.tanh(), log_normal(u, mean, sigma) - (1 - u.tanh() ** 2).log().sum()


def matching(case: Any, batch: Any) -> Tensor:
    """E|v(s, (1 - t) z + t a, t) - (a - z)|^2, a mean over the dimensions too."""
    errors = []
    for b in range(64):
        start, action, time = batch.start[b].double(), batch.action[b].double(), batch.time[b].double()
        velocity = network(case.nets.flow.mlp, batch.obs[b], (1 - time) * start + time * action, time)
        errors.append(((velocity - (action - start)) ** 2).mean())
    return average(errors)


def combined(q: list[Tensor], hp: Any) -> Tensor:
    """Mean, minimum, or mean minus rho standard deviations of the members' values."""
    if hp.aggregate == "min":
        return least(q)
    mean = average(q)
    if hp.aggregate == "mean":
        return mean
    return mean - hp.rho * average((one - mean) ** 2 for one in q).sqrt()


def bellman(case: Any, batch: Any, future: Callable[[int], Tensor]) -> Tensor:
    """sum_i E(r + gamma m future - Q_i)^2."""
    errors = []
    for b in range(64):
        target = batch.reward[b].double() + case.hp.discount * batch.mask[b].double() * future(b).detach()
        errors += [(q - target) ** 2 for q in values(case.nets.critic, batch.obs[b], batch.action[b])]
    return average(errors) * case.nets.critic.members


def best_proposal(nets: Any, obs: Tensor, noise: Tensor, steps: int, hp: Any) -> Tensor:
    """The target critics' value of the flow's action, of those from noise [N, A], that the critics prefer."""
    proposals = [path(nets.flow, obs, one, steps) for one in noise]
    best = max(proposals, key=lambda action: combined(values(nets.critic, obs, action), hp).item())
    return combined(values(nets.target.critic, obs, best), hp)


def distillation(
    nets: Any, flow: Any, obs: Tensor, noise: Tensor, steps: int, normalise_q: bool = False
) -> Tensor:
    """1.7 E|mu - a|^2 - c E mean_i Q_i(s, clip(mu)), a of the flow; c is 1, or 1 / E|mean_i Q_i|."""
    distances, found = [], []
    for b in range(64):
        action = network(nets.actor.mlp, obs[b], noise[b])
        distances.append(((action - path(flow, obs[b], noise[b], steps).detach()) ** 2).mean())
        found.append(average(values(nets.critic, obs[b], action.clamp(-1, 1))))
    scale = 1 / average(q.abs() for q in found).detach() if normalise_q else 1.0
    return 1.7 * average(distances) - scale * average(found)
