"""XQL beside plain loops over rows, members and actions, in double precision."""

from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from torch import Tensor

from off2on.algorithms.xql import XQL

SEEDS = range(3)
LOOPS = "plain loops from the paper's equations and the authors' code, float64"


def value_of(network: Any, row: Tensor) -> Tensor:
    """V(s) of one row: each hidden layer is normalised over its units and then cut off at 0."""
    *hidden, (last, offset) = plain.layers_of(network)
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.LayerNorm)]
    x = row.double()
    for norm, (weight, bias) in zip(norms, hidden, strict=True):
        x = weight @ x + bias
        spread = ((x - x.mean()) ** 2).mean()
        x = (x - x.mean()) / (spread + 1e-5).sqrt() * norm.weight.double() + norm.bias.double()
        x = torch.where(x > 0, x, 0.0)
    return (last @ x + offset).squeeze()


@pytest.mark.parametrize("uniform", [0, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_xql(problem: Callable[..., Any], fidelity: Any, seed: int, uniform: int):
    case = problem(
        XQL, seed=seed, temperature=0.05, loss_clip=0.1, uniform_actions=uniform, huber=0.8, beta=2.0
    )
    nets, hp = case.nets, case.hp
    with torch.no_grad():
        for parameter in nets.value.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    batch = case.prepared(seed)
    torch.manual_seed(seed)
    actions = torch.empty(uniform, 64, 3).uniform_(-1, 1)

    errors, critic, actor = [], [], []
    for k in plain.rows_of(batch):
        values = value_of(nets.value, batch.obs[k])
        known = plain.smallest(nets.target.critic, batch.obs[k], batch.action[k]).detach()
        others = [plain.smallest(nets.target.critic, batch.obs[k], a[k]).detach() for a in actions]
        errors += [(q - values) / hp.temperature for q in (known, *others)]
        future = value_of(nets.value, batch.next_obs[k]).detach()
        target = batch.reward[k].double() + hp.discount * batch.mask[k].double() * future
        apart = [(q - target).abs() for q in plain.values(nets.critic, batch.obs[k], batch.action[k])]
        bound = hp.huber
        critic.append(sum(a**2 / 2 if a <= bound else bound * (a - bound / 2) for a in apart))
        weight = min((hp.beta * (known - values.detach())).exp(), torch.tensor(100.0))
        log_prob = plain.log_normal(batch.action[k], *plain.tanh_gaussian(nets.actor, batch.obs[k]))
        actor.append(-weight * log_prob)
    cut = [error if error < 0.1 else torch.full_like(error, 0.1) for error in errors]
    assert any(error > 0.1 for error in errors)
    assert any(error < 0.1 for error in errors)
    largest = max(-1.0, max(error.item() for error in cut))
    scale = torch.tensor(-largest, dtype=torch.float64).exp()
    value = plain.average([(error.exp() - error - 1) * scale for error in cut])

    name = "value, uniform actions" if uniform else "value"
    rows = [(name, "value", value)]
    if not uniform:
        rows += [("critic", "critic", plain.average(critic)), ("actor", "actor", plain.average(actor))]
    for row, objective, theirs in rows:
        ours, network = case.loss(objective, batch), getattr(nets, objective)
        fidelity.compare("xql", row, reference=LOOPS, ours=ours, theirs=theirs, network=network)
