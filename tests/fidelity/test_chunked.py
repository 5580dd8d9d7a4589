"""QC and QC-FQL: loops over rows, steps of a chunk and members, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_flows import best_proposal, combined, distillation, network, values
from torch import Tensor

from off2on.algorithms.qc import QC
from off2on.algorithms.qc_fql import QCFQL

SEEDS = range(3)
STEPS = 4
Make = Callable[..., Any]


def matching(case: Any, batch: Any) -> Tensor:
    """The flow's error on the steps of each chunk that are in the episode, divided by all steps."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(64):
        start, action, time = batch.start[b].double(), batch.action[b].double(), batch.time[b].double()
        velocity = network(case.nets.flow.mlp, batch.obs[b], (1 - time) * start + time * action, time)
        for step in range(STEPS):
            if batch.inside[b, step] == 1:
                part = slice(3 * step, 3 * step + 3)
                total = total + ((velocity - (action - start))[part] ** 2).sum()
    return total / (64 * STEPS * 3)


def bellman(case: Any, batch: Any, future: Callable[[int], Tensor]) -> Tensor:
    """sum_i E(R + gamma^h m future - Q_i)^2 over the whole chunks, divided by all of them."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(64):
        if batch.inside[b, -1] == 0:
            continue
        target = batch.reward[b].double() + case.hp.discount * batch.mask[b].double() * future(b).detach()
        for q in values(case.nets.critic, batch.obs[b], batch.action[b]):
            total = total + (q - target) ** 2
    return total / 64


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("aggregate", ["mean", "min"])
def test_qc(problem: Make, fidelity: Any, aggregate: str, seed: int):
    case = problem(QC, seed=seed, samples=3, flow_steps=3, aggregate=aggregate, chunk=STEPS)
    torch.manual_seed(7)
    torch.randn(64, 3 * STEPS), torch.rand(64, 1)
    noise = torch.randn(3, 64, 3 * STEPS)
    nets, batch = case.nets, case.prepared(7)
    assert 0 < batch.inside[:, -1].sum() < 64

    def future(b: int) -> Tensor:
        return best_proposal(nets, batch.next_obs[b], noise[:, b], 3, case.hp)

    fidelity.compare_with_loops("qc", "critic", case, batch, bellman(case, batch, future), f", {aggregate}")
    fidelity.compare_with_loops("qc", "flow", case, batch, matching(case, batch))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("normalise_q", [True, False])
def test_qc_fql(problem: Make, fidelity: Any, normalise_q: bool, seed: int):
    case = problem(QCFQL, seed=seed, flow_steps=3, alpha=1.7, normalise_q=normalise_q, chunk=STEPS)
    torch.manual_seed(7)
    _, noise, next_noise = torch.randn(3, 64, 3 * STEPS)
    batch, nets = case.prepared(7), case.nets
    assert torch.equal(batch.noise, noise)

    def future(b: int) -> Tensor:
        action = network(nets.actor.mlp, batch.next_obs[b], next_noise[b]).clamp(-1, 1)
        return combined(values(nets.target.critic, batch.next_obs[b], action), case.hp)

    actor = distillation(nets, nets.flow, batch.obs, noise, 3, normalise_q)
    more = ", scaled Q" if normalise_q else ", plain Q"
    fidelity.compare_with_loops("qc_fql", "critic", case, batch, bellman(case, batch, future))
    fidelity.compare_with_loops("qc_fql", "actor", case, batch, actor, more)
    fidelity.compare_with_loops("qc_fql", "flow", case, batch, matching(case, batch))
