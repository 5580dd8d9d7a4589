"""AWR and PEX beside plain loops, and golden numbers of the lambda returns."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import plain
import pytest
import torch
from d3rlpy_reference import (
    critics,
    gaussian,
    gradient_of,
    perceptron,
    same,
    shake,
    their_batch,
    theirs,
    value_of,
)

from off2on.algorithms.awr import AWR
from off2on.algorithms.pex import PEX
from off2on.recipe import losses
from off2on.recipe.batch import Batch

SEEDS = range(3)
Build = Callable[..., Any]


# AWR. Its labels are made here by loops over episodes, in numpy, as the authors' code makes them.


def timeline(seed: int, count: int = 400) -> Batch:
    """Rows in the order of time: episodes of 1 to 60 steps, half of which end by themselves."""
    rng = np.random.default_rng(seed)
    last, mask = np.zeros(count), np.ones(count)
    end = -1
    while end < count - 1:
        end = min(count - 1, end + int(rng.integers(1, 60)))
        last[end] = 1
        mask[end] = rng.integers(2)
    obs = rng.normal(size=(count, 5))
    after = np.where(last[:, None] == 1, rng.normal(size=(count, 5)), np.roll(obs, -1, 0))
    columns = {"obs": obs, "next_obs": after, "reward": rng.normal(size=count), "mask": mask, "last": last}
    return Batch(**{name: torch.tensor(column, dtype=torch.float32) for name, column in columns.items()})


def returns_by_episode(rows: Batch, value_after: list[float], discount: float, trace: float) -> np.ndarray:
    returns = np.zeros(len(rows.reward))
    for t in reversed(range(len(returns))):
        future = value_after[t] if rows.mask[t] else 0.0
        if not rows.last[t]:
            future = (1 - trace) * future + trace * returns[t + 1]
        returns[t] = float(rows.reward[t]) + discount * future
    return returns


@pytest.mark.parametrize("seed", SEEDS)
def test_awr_labels(problem: Build, fidelity: Any, seed: int):
    case, rows = problem(AWR, seed=seed), timeline(seed)
    with torch.no_grad():
        labels = AWR.relabel(case.nets, rows, case.hp, 1)
    layers = plain.layers_of(case.nets.value)
    at, after = (
        [plain.perceptron(layers, row)[0].item() / (1 - 0.99) for row in obs]
        for obs in (rows.obs, rows.next_obs)
    )
    returns = returns_by_episode(rows, after, 0.99, 0.95)
    advantage = returns - np.array(at)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
    for name, expected in (("lambda_return", returns), ("advantage", advantage)):
        fidelity.compare(
            "awr",
            f"{name} (column)",
            reference="plain loops over episodes, after the authors' code",
            ours=labels[name],
            theirs=torch.tensor(expected),
        )
    raw = problem(AWR, seed=seed, normalise_advantage=False)
    with torch.no_grad():
        plainly = AWR.relabel(raw.nets, rows, raw.hp, 1)["advantage"].numpy()
    np.testing.assert_allclose(plainly, returns - np.array(at), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_awr_losses(problem: Build, fidelity: Any, seed: int):
    case = problem(AWR, seed=seed, beta=0.5, weight_clip=3.0, sigma=0.3)
    batch, nets = case.batch, case.nets
    with torch.no_grad():
        nets.actor[-1].weight *= 200  # means beyond the box, too
    batch.lambda_return = 100 * batch.lambda_return
    fits, clones, outside = [], [], []
    for k in plain.rows_of(batch):
        value = plain.perceptron(plain.layers_of(nets.value), batch.obs[k])[0] / (1 - 0.99)
        known = 1.0 if batch.labelled[k] > 0 else 0.0
        fits.append(known * 0.5 * ((batch.lambda_return[k].double() - value) * (1 - 0.99)) ** 2)
        mean = plain.perceptron(plain.layers_of(nets.actor), batch.obs[k])
        weight = min(math.exp(float(batch.advantage[k]) / 0.5), 3.0)
        clones.append(-known * weight * plain.log_normal(batch.action[k], mean, torch.full((3,), 0.3)))
        beyond = [m - 1 if m > 1 else -1 - m for m in mean if m > 1 or m < -1]
        outside.append(sum((b**2 for b in beyond), torch.zeros((), dtype=torch.float64)))
    assert any(o.item() > 0 for o in outside)
    reference = "plain loops, after the authors' code"
    for name, other, network in (
        ("value", plain.average(fits), nets.value),
        ("actor", plain.average(clones) + 10 * 0.5 * plain.average(outside), nets.actor),
    ):
        fidelity.compare(
            "awr", name, reference=reference, ours=case.loss(name, batch), theirs=other, network=network
        )


# PEX.


@pytest.mark.parametrize("seed", SEEDS)
def test_pex_offline(problem: Build, fidelity: Any, seed: int):
    case, impl = problem(PEX, seed=seed), theirs("IQL")
    modules, nets, batch = impl._modules, case.nets, their_batch(case.batch)
    shake(modules)
    nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    nets.actor.load_state_dict(gaussian(modules.policy, value_of))
    nets.value.load_state_dict(perceptron(modules.value_func, value_of))
    joint = impl.compute_critic_loss(batch, impl.compute_target(batch))
    clone = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    for name, other, theirs_of in (
        ("value", joint.v_loss, lambda: perceptron(modules.value_func, gradient_of)),
        ("critic", joint.q_loss, lambda: critics(modules.q_funcs, gradient_of)),
        ("actor", clone, lambda: gaussian(modules.policy, gradient_of)),
    ):
        same(fidelity, "pex", name, case.loss(name), other, getattr(nets, name), theirs_of)


@pytest.mark.parametrize("online_actions", ["composite", "data"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pex_expansion(problem: Build, fidelity: Any, seed: int, online_actions: str):
    bound = 1.5
    case = problem(PEX, seed=seed, weight_clip=bound, online_actions=online_actions)
    nets, batch = case.nets, case.prepared(seed)
    with torch.no_grad():
        nets.expansion.log_std -= 1.0
        nets.critic.layers[-1].weight *= 3  # so that the choice between the policies is not a coin's
    ours = case.loss("expansion", batch, seed=seed)
    torch.manual_seed(seed + 1)
    noise, dice = torch.randn(64, 3), torch.rand(64)
    terms, expanded, weights = [], 0, []
    for k in plain.rows_of(batch):
        mean, sigma = plain.tanh_gaussian(nets.expansion, batch.obs[k])
        action = batch.action[k]
        if online_actions == "composite":
            old, _ = plain.tanh_gaussian(nets.actor, batch.obs[k])
            new = (mean + sigma * noise[k].double()).clamp(-1, 1)
            before, after = (
                math.exp(10 * plain.smallest(nets.critic, batch.obs[k], a).item()) for a in (old, new)
            )
            takes_new = float(dice[k]) < after / (before + after)
            action, expanded = (new if takes_new else old).detach(), expanded + takes_new
        q = plain.smallest(nets.target.critic, batch.obs[k], action).item()
        value = plain.perceptron(plain.layers_of(nets.value), batch.obs[k])[0].item()
        weights.append(min(math.exp(3.0 * (q - value)), bound))
        terms.append(-weights[-1] * plain.log_normal(action, mean, sigma))
    assert min(weights) < bound == max(weights)
    assert online_actions == "data" or 0 < expanded < 64
    reference = "the authors' code" if online_actions == "composite" else "the paper's text"
    fidelity.compare(
        "pex",
        "expansion" if online_actions == "composite" else "expansion (data)",
        reference=f"plain loops, after {reference}",
        ours=ours,
        theirs=plain.average(terms),
        network=nets.expansion,
    )


# Golden numbers.


def test_lambda_returns_by_hand():
    # gamma = 0.5, lambda = 0.5; V(s') = 4 everywhere. Two episodes: one ends by itself, one is cut off.
    reward = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0])
    discount = 0.5 * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    last = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0])
    found = losses.lambda_returns(reward, discount, last, torch.full((5,), 4.0), 0.5)
    # 3;  2 + 0.5 (2 + 1.5);  1 + 0.5 (2 + 1.875);  2 + 0.5 · 4;  1 + 0.5 (2 + 2)
    assert found.tolist() == [2.9375, 3.75, 3.0, 3.0, 4.0]


def test_lambda_returns_at_its_ends():
    rows = timeline(0)
    future = torch.randn(400)
    discount = 0.9 * rows.mask
    bootstrapped = losses.lambda_returns(rows.reward, discount, rows.last, future, 0.0)
    torch.testing.assert_close(bootstrapped, rows.reward + discount * future)
    whole = losses.lambda_returns(rows.reward, discount, rows.last, future, 1.0)
    expected = returns_by_episode(rows, future.tolist(), 0.9, 1.0)
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-5, atol=1e-5)
