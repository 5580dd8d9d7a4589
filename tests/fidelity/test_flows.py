"""FQL, IFQL and BFN: loops over rows, members and steps of Euler, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average
from plain_flows import bellman, best_proposal, combined, distillation, matching, network, values
from torch import Tensor

from off2on.algorithms.bfn import BFN
from off2on.algorithms.fql import FQL
from off2on.algorithms.ifql import IFQL

SEEDS = range(3)
Make = Callable[..., Any]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("aggregate", "normalise_q"), [("mean", True), ("min", False), ("pessimistic", True)]
)
def test_fql(problem: Make, fidelity: Any, aggregate: str, normalise_q: bool, seed: int):
    case = problem(FQL, seed=seed, flow_steps=3, alpha=1.7, aggregate=aggregate, normalise_q=normalise_q)
    torch.manual_seed(7)
    start, noise, next_noise = torch.randn(3, 64, 3)
    batch, nets = case.prepared(7), case.nets
    assert torch.equal(batch.start, start)
    assert torch.equal(batch.noise, noise)

    def future(b: int) -> Tensor:
        action = network(nets.actor.mlp, batch.next_obs[b], next_noise[b]).clamp(-1, 1)
        return combined(values(nets.target.critic, batch.next_obs[b], action), case.hp)

    actor = distillation(nets, nets.flow, batch.obs, noise, 3, normalise_q)
    more = f", {aggregate}, {'scaled' if normalise_q else 'plain'} Q"
    fidelity.compare_with_loops("fql", "critic", case, batch, bellman(case, batch, future), more)
    fidelity.compare_with_loops("fql", "actor", case, batch, actor, more)
    fidelity.compare_with_loops("fql", "flow", case, batch, matching(case, batch))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("aggregate", ["min", "pessimistic"])
def test_ifql(problem: Make, fidelity: Any, aggregate: str, seed: int):
    case = problem(IFQL, seed=seed, samples=3, flow_steps=3, expectile=0.8, aggregate=aggregate)
    nets, batch = case.nets, case.prepared()
    errors = []
    for b in range(64):
        u = combined(values(nets.target.critic, batch.obs[b], batch.action[b]), case.hp).detach()
        u = u - network(nets.value.mlp, batch.obs[b]).squeeze()
        errors.append((0.2 if u < 0 else 0.8) * u**2)
    critic = bellman(case, batch, lambda b: network(nets.value.mlp, batch.next_obs[b]).squeeze())
    more = "" if aggregate == "min" else f", {aggregate}"
    fidelity.compare_with_loops("ifql", "value", case, batch, average(errors), more)
    fidelity.compare_with_loops("ifql", "critic", case, batch, critic)
    fidelity.compare_with_loops("ifql", "flow", case, batch, matching(case, batch))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("aggregate", ["mean", "min", "pessimistic"])
def test_bfn(problem: Make, fidelity: Any, aggregate: str, seed: int):
    case = problem(BFN, seed=seed, samples=3, flow_steps=3, aggregate=aggregate)
    torch.manual_seed(7)
    torch.randn(64, 3), torch.rand(64, 1)
    noise = torch.randn(3, 64, 3)
    nets, batch = case.nets, case.prepared(7)

    def future(b: int) -> Tensor:
        return best_proposal(nets, batch.next_obs[b], noise[:, b], 3, case.hp)

    critic = bellman(case, batch, future)
    fidelity.compare_with_loops("bfn", "critic", case, batch, critic, f", {aggregate}")
    fidelity.compare_with_loops("bfn", "flow", case, batch, matching(case, batch))
