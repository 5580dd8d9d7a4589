"""SPOT beside plain loops over rows and members, in double precision."""

from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.spot import SPOT

SEEDS = range(3)
LOOPS = "plain loops from the authors' code, float64"
SHARE = 0.25


def masks(width: int) -> list[Tensor]:
    """What dropout multiplies the hidden units of both layers with, as it is drawn next."""
    return [F.dropout(torch.ones(64, width), SHARE).double() for _ in range(2)]


def action_of(actor: Any, obs: Tensor, kept: list[Tensor]) -> Tensor:
    """tanh f(s) of one row, with units set to 0."""
    (first, one), (second, two), (last, three) = plain.layers_of(actor)
    x = torch.relu(first @ obs.double() + one) * kept[0]
    x = torch.relu(second @ x + two) * kept[1]
    return (last @ x + three).tanh()


def bound(vae: Any, obs: Tensor, action: Tensor, noise: Tensor, weight: float) -> Tensor:
    """l(s, a) of one row: squared error and divergence, means over dimensions."""
    row = torch.cat((obs.double(), action.double()))
    mean, log_std = plain.perceptron(plain.layers_of(vae.encoder), row).chunk(2)
    sigma = log_std.clamp(-4, 15).exp()
    latent = torch.cat((obs.double(), mean + sigma * noise.double()))
    decoded = plain.perceptron(plain.layers_of(vae.decoder), latent).tanh()
    error = plain.average([(decoded[k] - action[k]) ** 2 for k in range(len(action))])
    apart = [-(1 + (s**2).log() - m**2 - s**2) / 2 for m, s in zip(mean, sigma, strict=True)]
    return error + weight * plain.average(apart)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("progress", "share"), [(0.5, 1.0), (1.25, 0.75), (1.9, 0.2)])
def test_spot(problem: Callable[..., Any], fidelity: Any, seed: int, progress: float, share: float):
    case = problem(SPOT, seed=seed, support_weight=0.4, dropout=SHARE, kl_weight=0.3, vae_hidden=(32, 32))
    nets, batch, weight = case.nets, case.batch, 0.4 * share
    case.batch.progress = progress
    torch.manual_seed(seed + 1)
    kept, noise = masks(32), torch.randn(64, 6)
    actions = [action_of(nets.actor, s, [m[k] for m in kept]) for k, s in enumerate(batch.obs)]
    q = [plain.values(nets.critic, s, a)[0] for s, a in zip(batch.obs, actions, strict=True)]
    scale = plain.average([one.detach().abs() for one in q])
    penalty = [bound(nets.vae, batch.obs[k], actions[k], noise[k], 0.3) for k in range(64)]
    actor = -plain.average(q) / scale + weight * plain.average(penalty)
    name = "actor" if progress < 1 else "actor, online"
    compare(fidelity, name, case.loss("actor", batch, seed), actor, nets.actor)
    if progress > 1:
        return

    torch.manual_seed(seed + 1)
    noise = torch.randn(64, 6)
    vae = plain.average([bound(nets.vae, batch.obs[k], batch.action[k], noise[k], 0.3) for k in range(64)])
    compare(fidelity, "vae", case.loss("vae", batch, seed), vae, nets.vae)

    torch.manual_seed(seed + 1)
    kept = masks(32)
    smoothing = (case.hp.target_noise * torch.randn(64, 3)).clamp(-0.5, 0.5).double()
    errors = []
    for k in range(64):
        action = action_of(nets.target.actor, batch.next_obs[k], [m[k] for m in kept])
        action = (action + smoothing[k]).clamp(-1, 1)
        future = plain.smallest(nets.target.critic, batch.next_obs[k], action).detach()
        target = batch.reward[k].double() + case.hp.discount * batch.mask[k].double() * future
        errors.append(
            sum((target - one) ** 2 for one in plain.values(nets.critic, batch.obs[k], batch.action[k]))
        )
    compare(fidelity, "critic", case.loss("critic", batch, seed), plain.average(errors), nets.critic)


def compare(fidelity: Any, loss: str, ours: Tensor, theirs: Tensor, network: Any) -> None:
    fidelity.compare("spot", loss, reference=LOOPS, ours=ours, theirs=theirs, network=network)
