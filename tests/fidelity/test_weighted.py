"""Weighted and filtered cloning: AWAC, CRR and the Gaussian BC, beside d3rlpy or plain loops."""

import math
from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from d3rlpy_reference import (
    critics,
    gradient_of,
    perceptron,
    same,
    shake,
    squashed,
    their_batch,
    theirs,
    value_of,
)
from torch import Tensor

from off2on.algorithms.awac import AWAC
from off2on.algorithms.bc import BC
from off2on.algorithms.crr import CRR
from off2on.algorithms.filtered_bc import FilteredBC

SEEDS = range(3)
Build = Callable[..., Any]


def bellman(case: Any, batch: Any, next_actions: Tensor) -> Tensor:
    """sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ], row by row."""
    terms = []
    for k in plain.rows_of(batch):
        future = plain.smallest(case.nets.target.critic, batch.next_obs[k], next_actions[k]).detach()
        target = batch.reward[k].double() + case.hp.discount * batch.mask[k].double() * future
        members = plain.values(case.nets.critic, batch.obs[k], batch.action[k])
        terms.append(sum(((target - q) ** 2 for q in members), torch.zeros(())))
    return plain.average(terms)


# BC, filtered or not.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("recipe", "name"), [(BC, "bc"), (FilteredBC, "filtered_bc")])
def test_gaussian_bc(problem: Build, fidelity: Any, recipe: Any, name: str, seed: int):
    case = problem(recipe, seed=seed, policy="gaussian")
    batch, actor = case.batch, case.nets.actor
    terms = [
        plain.log_normal(batch.action[k], *plain.tanh_gaussian(actor, batch.obs[k]))
        for k in plain.rows_of(batch)
    ]
    fidelity.compare(
        name,
        "actor (gaussian)",
        reference="plain loops: minus the mean log-likelihood",
        ours=case.loss("actor"),
        theirs=-plain.average(terms),
        network=actor,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_filtered_bc(problem: Build, fidelity: Any, seed: int):
    case, impl = problem(FilteredBC, seed=seed), theirs("BC")
    imitator = impl._modules.imitator
    case.nets.actor.load_state_dict(perceptron(imitator, value_of))
    other = impl.compute_loss(case.batch.obs, case.batch.action).loss
    actor = lambda: perceptron(imitator, gradient_of)  # noqa: E731
    same(fidelity, "filtered_bc", "actor", case.loss("actor"), other, case.nets.actor, actor)


# AWAC. d3rlpy's critic takes SAC's target, with an entropy and a squashed policy: not AWAC's.


def their_gaussian(module: Any, take: Any, low: float, high: float) -> dict[str, Tensor]:
    """d3rlpy's log sigma is low + (high - low) sigmoid(p), ours is a clipped number."""
    named = perceptron(module, take)
    share = torch.sigmoid(module._logstd.detach()).squeeze(0)
    if take is value_of:
        named["log_std"] = low + (high - low) * share
    else:
        named["log_std"] = take(module._logstd).squeeze(0) / ((high - low) * share * (1 - share))
    return named


@pytest.mark.parametrize("seed", SEEDS)
def test_awac_actor(problem: Build, fidelity: Any, seed: int):
    case, impl = problem(AWAC, seed=seed, temperature=0.3), theirs("AWAC", lam=0.3)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.actor.load_state_dict(their_gaussian(modules.policy, value_of, -6.0, 0.0))
    mine = case.prepared(seed)
    torch.manual_seed(seed)
    mine.own_action = case.nets.actor(mine.obs).sample(1)[0].clamp(-1, 1).detach()
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss / len(mine.obs)
    ours = case.loss("actor", mine)
    actor = lambda: their_gaussian(modules.policy, gradient_of, -6.0, 0.0)  # noqa: E731
    same(fidelity, "awac", "actor", ours, other, case.nets.actor, actor, relation="theirs / batch size")


@pytest.mark.parametrize("weight", ["softmax", "exp_clip"])
@pytest.mark.parametrize("seed", SEEDS)
def test_awac_actor_by_hand(problem: Build, fidelity: Any, seed: int, weight: str):
    bound = 1.02
    case = problem(AWAC, seed=seed, temperature=0.3, weight=weight, weight_clip=bound)
    batch, actor = case.prepared(seed), case.nets.actor
    advantages, likelihoods = [], []
    for k in plain.rows_of(batch):
        taken, own = (
            plain.smallest(case.nets.critic, batch.obs[k], action[k]).item()
            for action in (batch.action, batch.own_action)
        )
        advantages.append(taken - own)
        likelihoods.append(plain.log_normal(batch.action[k], *plain.tanh_gaussian(actor, batch.obs[k])))
    weights = [math.exp(a / 0.3) for a in advantages]
    if weight == "softmax":
        total = sum(weights)
        weights = [len(weights) * w / total for w in weights]
        reference = "plain loops: rlkit's batch-normalised weights"
    else:
        assert max(weights) > bound > min(weights)
        weights = [min(w, bound) for w in weights]
        reference = "plain loops: CORL's clipped weights"
    other = -plain.average([w * p for w, p in zip(weights, likelihoods, strict=True)])
    fidelity.compare(
        "awac",
        "actor" if weight == "softmax" else f"actor ({weight})",
        reference=reference,
        ours=case.loss("actor", batch),
        theirs=other,
        network=actor,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_awac_critic(problem: Build, fidelity: Any, seed: int):
    case = problem(AWAC, seed=seed)
    batch = case.prepared(seed)
    fidelity.compare(
        "awac",
        "critic",
        reference="plain loops: the paper's Bellman error, without entropy",
        ours=case.loss("critic", batch),
        theirs=bellman(case, batch, batch.own_next_action),
        network=case.nets.critic,
    )


# CRR.


def match_crr(case: Any, modules: Any) -> None:
    nets = case.nets
    nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    nets.actor.load_state_dict(squashed(modules.policy, value_of), strict=False)  # ours holds noise as well
    nets.target.actor.load_state_dict(squashed(modules.targ_policy, value_of), strict=False)


@pytest.mark.parametrize("weight", ["exp", "binary"])
@pytest.mark.parametrize("baseline", ["mean", "max"])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_crr(problem: Build, fidelity: Any, seed: int, weight: str, baseline: str, members: int):
    # A small beta and bound, so that the networks' small advantages matter.
    options = {"beta": 0.05, "weight_clip": 1.5, "critics": members}
    case = problem(CRR, seed=seed, weight=weight, baseline=baseline, **options)
    impl = theirs(
        "CRR", weight_type=weight, advantage_type=baseline, beta=0.05, max_weight=1.5, n_critics=members
    )
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match_crr(case, modules)

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    name = "actor" if (weight, baseline) == ("exp", "mean") else f"actor ({weight}, {baseline})"
    actor = lambda: squashed(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "crr", name, ours, other, case.nets.actor, actor)

    if (weight, baseline) == ("exp", "mean"):
        ours = case.loss("critic", seed=seed)
        torch.manual_seed(seed + 1)
        other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
        both = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
        same(fidelity, "crr", "critic", ours, other, case.nets.critic, both)
