"""EXPO and FEdit: loops over rows, members, steps of Euler and candidates, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average
from plain_flows import bellman, combined, edit, matching, path, values
from torch import Tensor

from off2on.algorithms.expo import EXPO

TEXT = "plain loops from the papers' equations, float64"
Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("samples", "keep_unedited"), [(1, False), (3, True)], ids=["fedit", "expo"])
def test_expo(problem: Make, fidelity: Any, samples: int, keep_unedited: bool, seed: int):
    case = problem(
        EXPO, seed=seed, samples=samples, keep_unedited=keep_unedited, edit_scale=0.4, critics=4, flow_steps=3
    )
    nets, scale = case.nets, 0.4
    with torch.no_grad():
        nets.temperature.value.fill_(-0.5)
    torch.manual_seed(7)
    start, times = torch.randn(64, 3), torch.rand(64, 1)
    next_noise, next_edit_noise = torch.randn(samples, 64, 3), torch.randn(samples, 64, 3)
    noise, edit_noise = torch.randn(64, 3), torch.randn(64, 3)
    batch = case.prepared(7)
    assert torch.equal(batch.start, start)
    assert torch.equal(batch.time, times)

    def future(b: int) -> Tensor:
        obs, candidates = batch.next_obs[b], []
        for n in range(samples):
            base = path(nets.flow, obs, next_noise[n, b], 3)
            change, _ = edit(nets.actor, obs, base, next_edit_noise[n, b])
            candidates.append((base + scale * change).clamp(-1, 1))
            if keep_unedited:
                candidates.append(base)
        best = max(candidates, key=lambda a: average(values(nets.critic, obs, a)).item())
        return combined(values(nets.target.critic, obs, best), case.hp)

    alpha = nets.temperature.value.double().exp()
    actor, entropy = [], []
    for b in range(64):
        base = path(nets.flow, batch.obs[b], noise[b], 3).detach()
        change, log_prob = edit(nets.actor, batch.obs[b], base, edit_noise[b])
        q = average(values(nets.critic, batch.obs[b], (base + scale * change).clamp(-1, 1)))
        actor.append(alpha.detach() * log_prob - q)
        entropy.append(-log_prob.detach())
    for loss, other in (
        ("actor", average(actor)),
        ("temperature", (alpha * (average(entropy) - (-1.5))).squeeze()),
        ("critic", bellman(case, batch, future)),
        ("flow", matching(case, batch)),
    ):
        fidelity.compare(
            "expo", f"{loss}, {'expo' if keep_unedited else 'fedit'}", reference=TEXT,
            ours=case.loss(loss, batch), theirs=other, network=getattr(nets, loss), tolerance=5e-5,
        )  # fmt: skip
