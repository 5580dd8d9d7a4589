"""DSRL: loops over rows, members, steps of Euler and proposals, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average
from plain_flows import bellman, combined, edit, matching, path, values
from torch import Tensor

from off2on.algorithms.dsrl import DSRL

TEXT = "plain loops from the papers' equations, float64"
NOTHING = torch.empty(0)
Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("samples", "aggregate"), [(1, "pessimistic"), (3, "mean")])
def test_dsrl(problem: Make, fidelity: Any, samples: int, aggregate: str, seed: int):
    case = problem(
        DSRL, seed=seed, samples=samples, aggregate=aggregate, noise_scale=0.7, critics=4, flow_steps=3
    )
    nets = case.nets
    with torch.no_grad():
        nets.temperature.value.fill_(-0.5)
    torch.manual_seed(7)
    start, time, next_noise = torch.randn(64, 3), torch.rand(64, 1), torch.randn(samples, 64, 3)
    latent, own = torch.randn(64, 3), torch.randn(64, 3)
    batch = case.prepared(7)
    assert torch.equal(batch.start, start)
    assert torch.equal(batch.time, time)
    assert torch.equal(batch.latent, latent)

    def future(b: int) -> Tensor:
        obs = batch.next_obs[b]
        drawn = [edit(nets.actor, obs, NOTHING, next_noise[n, b])[0] for n in range(samples)]
        actions = [path(nets.target.flow, obs, 0.7 * u, 3) for u in drawn]
        best = max(actions, key=lambda a: average(values(nets.critic, obs, a)).item())
        return combined(values(nets.target.critic, obs, best), case.hp)

    alpha = nets.temperature.value.double().exp()
    actor, entropy, errors = [], [], []
    for b in range(64):
        obs = batch.obs[b]
        u, log_prob = edit(nets.actor, obs, NOTHING, own[b])
        actor.append(alpha.detach() * log_prob - average(values(nets.noise_critic, obs, 0.7 * u)))
        entropy.append(-log_prob.detach())
        goals = values(nets.critic, obs, path(nets.target.flow, obs, latent[b], 3))
        found = values(nets.noise_critic, obs, latent[b])
        errors += [(goal.detach() - value) ** 2 for goal, value in zip(goals, found, strict=True)]
    for loss, other in (
        ("actor", average(actor)),
        ("temperature", (alpha * (average(entropy) - (-1.5))).squeeze()),
        ("flow", matching(case, batch)),
        ("noise_critic", average(errors) * 4),
        ("critic", bellman(case, batch, future)),
    ):
        fidelity.compare(
            "dsrl", f"{loss}, N = {samples}, {aggregate}", reference=TEXT, ours=case.loss(loss, batch),
            theirs=other, network=getattr(nets, loss), tolerance=5e-5,
        )  # fmt: skip
