"""Diffusion-QL and IDQL: loops over rows, members and denoising steps, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average, layers_of, least, perceptron
from plain import values as relu_values
from plain_diffusion import chain, kept, predicted, residual, values
from torch import Tensor

from off2on.algorithms.diffusion_ql import DiffusionQL
from off2on.algorithms.idql import IDQL

TEXT = "plain loops from the paper's equations, float64"
Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("backup_samples", [1, 3])
def test_diffusion_ql(problem: Make, fidelity: Any, backup_samples: int, seed: int):
    case = problem(
        DiffusionQL, seed=seed, eta=0.7, alpha=1.3, diffusion_steps=4, backup_samples=backup_samples
    )
    case.batch.obs[0] *= 3
    torch.manual_seed(7)
    torch.randn(64, 3), torch.randint(4, (64,)), torch.rand(1), torch.randn(4, 64, 3)
    noise = torch.randn(4, backup_samples, 64, 3)
    batch, nets, hp = case.prepared(7), case.nets, case.hp

    errors = []
    for b in range(64):
        found = []
        for n in range(backup_samples):
            action = chain(nets.target.actor, batch.next_obs[b], noise[:, n, b])
            found.append(values(nets.target.critic, batch.next_obs[b], action))
        future = least(max(member) for member in zip(*found, strict=True)).detach()
        target = batch.reward[b].double() + hp.discount * batch.mask[b].double() * future
        errors += [(q - target) ** 2 for q in values(nets.critic, batch.obs[b], batch.action[b])]
    critic = 2 * average(errors)
    more = f", {backup_samples} samples" if backup_samples > 1 else ""
    fidelity.compare(
        "diffusion_ql", f"critic{more}", reference=TEXT, ours=case.loss("critic", batch), theirs=critic,
        network=nets.critic, tolerance=5e-5,
    )  # fmt: skip
    if backup_samples > 1:
        return

    for coin in (0.2, 0.8):
        batch.coin = torch.tensor([coin])
        errors, found = [], []
        for b in range(64):
            t = int(batch.number[b]) + 1
            z, a = batch.start[b].double(), batch.action[b].double()
            point = kept(t, 4) ** 0.5 * a + (1 - kept(t, 4)) ** 0.5 * z
            errors.append(((predicted(nets.actor, batch.obs[b], point, t) - z) ** 2).mean())
            action = chain(nets.actor, batch.obs[b], batch.noise[:, b])
            found.append(values(nets.critic, batch.obs[b], action))
        first, second = zip(*found, strict=True)
        best, scale = (first, second) if coin < 0.5 else (second, first)
        actor = 1.3 * average(errors) - 0.7 * average(best) / average(q.abs() for q in scale).detach()
        fidelity.compare(
            "diffusion_ql", f"actor, {'first' if coin < 0.5 else 'second'} Q", reference=TEXT,
            ours=case.loss("actor", batch), theirs=actor, network=nets.actor, tolerance=5e-5,
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_idql(problem: Make, fidelity: Any, monkeypatch: pytest.MonkeyPatch, dropout: float, seed: int):
    def drop(x: Tensor, rate: float = 0.3) -> Tensor:
        """In place of random numbers: a factor that depends on the input."""
        return x * (1 + rate * x.cos())

    monkeypatch.setattr("torch.nn.functional.dropout", drop)
    case = problem(IDQL, seed=seed, expectile=0.8, diffusion_steps=4, width=8, blocks=2, dropout=dropout)
    nets, batch, hp = case.nets, case.prepared(), case.hp
    assert set(batch.number.tolist()) == {0, 1, 2, 3}
    for network in (*nets.actor.norms,):
        network.weight.data.uniform_(0.5, 1.5)
        network.bias.data.uniform_(-0.5, 0.5)
    actor, value, critic = [], [], []
    for b in range(64):
        t, z, a = int(batch.number[b]) + 1, batch.start[b].double(), batch.action[b].double()
        point = kept(t, 4) ** 0.5 * a + (1 - kept(t, 4)) ** 0.5 * z
        noise = residual(nets.actor, batch.obs[b], point, t, drop if dropout else None)
        actor.append(((noise - z) ** 2).sum())
        u = least(relu_values(nets.target.critic, batch.obs[b], batch.action[b])).detach()
        u = u - perceptron(layers_of(nets.value), batch.obs[b]).squeeze()
        value.append((0.2 if u < 0 else 0.8) * u**2)
        future = perceptron(layers_of(nets.value), batch.next_obs[b]).squeeze().detach()
        target = batch.reward[b].double() + hp.discount * batch.mask[b].double() * future
        critic += [(q - target) ** 2 for q in relu_values(nets.critic, batch.obs[b], batch.action[b])]
    for name, theirs in (
        ("actor", average(actor)),
        ("value", average(value)),
        ("critic", 2 * average(critic)),
    ):
        more = ", dropout" if dropout and name == "actor" else ""
        fidelity.compare(
            "idql", name + more, reference=TEXT, ours=case.loss(name, batch), theirs=theirs,
            network=getattr(nets, name), tolerance=5e-5,
        )  # fmt: skip
