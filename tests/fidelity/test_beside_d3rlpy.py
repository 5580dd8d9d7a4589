"""The algorithms that d3rlpy 2.8.1 has as well: same weights, same batch, same random numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from d3rlpy_reference import (
    critics,
    flatten,
    gaussian,
    gradient_of,
    perceptron,
    same,
    shake,
    squashed,
    their_batch,
    theirs,
    value_of,
)

from off2on.algorithms.bc import BC
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.rllib.seeding import POSITIONS, UPDATES, seed_of

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_bc(problem: Callable[..., Any], fidelity: Any, seed: int):
    case, impl = problem(BC, seed=seed), theirs("BC")
    imitator = impl._modules.imitator
    case.nets.actor.load_state_dict(perceptron(imitator, value_of))
    ours = case.loss("actor")
    other = impl.compute_loss(case.batch.obs, case.batch.action).loss
    same(fidelity, "bc", "actor", ours, other, case.nets.actor, lambda: perceptron(imitator, gradient_of))


@pytest.mark.parametrize("seed", SEEDS)
def test_td3_bc(problem: Callable[..., Any], fidelity: Any, seed: int):
    case, impl = problem(TD3BC, seed=seed), theirs("TD3PlusBC")
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    case.nets.target.actor.load_state_dict(perceptron(modules.targ_policy, value_of))

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    same(
        fidelity,
        "td3_bc",
        "critic",
        ours,
        other,
        case.nets.critic,
        lambda: critics(modules.q_funcs, gradient_of),
    )

    ours = case.loss("actor")
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    same(
        fidelity,
        "td3_bc",
        "actor",
        ours,
        other,
        case.nets.actor,
        lambda: perceptron(modules.policy, gradient_of),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_iql(problem: Callable[..., Any], fidelity: Any, seed: int):
    case, impl = problem(IQL, seed=seed), theirs("IQL")
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(gaussian(modules.policy, value_of))
    case.nets.value.load_state_dict(perceptron(modules.value_func, value_of))

    joint = impl.compute_critic_loss(batch, impl.compute_target(batch))
    value = lambda: perceptron(modules.value_func, gradient_of)  # noqa: E731
    same(fidelity, "iql", "value", case.loss("value"), joint.v_loss, case.nets.value, value)
    both = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(
        fidelity,
        "iql",
        "critic",
        case.loss("critic"),
        joint.q_loss,
        case.nets.critic,
        both,
    )
    # CORL averages over the critics: ours is twice its loss.
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    actor = lambda: gaussian(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "iql", "actor", case.loss("actor"), other, case.nets.actor, actor, "=, log sigma mapped")


def match_soft(case: Any, modules: Any, log_temperature: float) -> None:
    """Give our SAC or CQL the networks of d3rlpy's, and both another temperature than 1."""
    with torch.no_grad():
        next(modules.log_temp.parameters()).fill_(log_temperature)
    case.nets.temperature.value.data.fill_(log_temperature)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(squashed(modules.policy, value_of))


@pytest.mark.parametrize("members", [2, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_sac(problem: Callable[..., Any], fidelity: Any, seed: int, members: int):
    # Without a step size d3rlpy does not step the temperature inside its actor loss.
    case = problem(SAC, seed=seed, critics=members)
    impl = theirs("SAC", n_critics=members, temp_learning_rate=0.0)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match_soft(case, modules, log_temperature=-0.7)

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    same(
        fidelity,
        "sac",
        "critic",
        ours,
        other,
        case.nets.critic,
        lambda: critics(modules.q_funcs, gradient_of),
    )

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    same(
        fidelity, "sac", "actor", ours, other, case.nets.actor, lambda: squashed(modules.policy, gradient_of)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_temperature(problem: Callable[..., Any], fidelity: Any, seed: int):
    case, impl = problem(SAC, seed=seed, temperature_form="alpha"), theirs("SAC", temp_learning_rate=1e-3)
    modules = impl._modules
    match_soft(case, modules, log_temperature=-0.7)
    batch = case.prepared(seed)
    ours = case.loss("temperature", batch)
    before = next(modules.log_temp.parameters())
    other = impl.update_temp(batch.own_log_prob.unsqueeze(1)).detach()
    fidelity.compare(
        "sac",
        "temperature",
        reference="d3rlpy 2.8.1",
        relation="= with temperature_form=alpha",
        ours=ours,
        theirs=other,
        network=case.nets.temperature,
        gradient={"value": before.grad.flatten()},
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_cql(problem: Callable[..., Any], fidelity: Any, seed: int, soft: bool):
    weight, threshold, samples = 5.0, 10.0, 10
    case = problem(CQL, seed=seed, conservative_weight=weight, samples=samples, entropy_backup=soft)
    impl = theirs(
        "CQL",
        conservative_weight=weight,
        alpha_threshold=threshold,
        n_action_samples=samples,
        soft_q_backup=soft,
        temp_learning_rate=0.0,
        alpha_learning_rate=0.0,
    )
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match_soft(case, modules, log_temperature=-0.7)

    torch.manual_seed(seed)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    other = other + 2 * weight * threshold  # subtracted even without a Lagrange multiplier
    # The same draws, in d3rlpy's order: next action (its mean, unless soft), pi(s), pi(s'), uniform.
    mine = case.prepared(seed)
    here, there = case.nets.actor(mine.obs), case.nets.actor(mine.next_obs)
    with torch.no_grad():
        torch.manual_seed(seed)
        mine.next_sample = there.sample() if soft else (there.mean, torch.zeros(64))
        own, next_own = here.sample(samples), there.sample(samples)
        uniform = torch.empty(64, samples, 3).uniform_(-1, 1).transpose(0, 1)
        density = torch.full((samples, 64), 0.5**3).log()
        mine.proposals = tuple(
            torch.cat(parts) for parts in zip((uniform, density), own, next_own, strict=True)
        )
    ours = case.loss("critic", mine)
    both = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, "cql", "critic", ours, other, case.nets.critic, both, "d3rlpy's + 2 w tau, a constant")

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    same(
        fidelity, "cql", "actor", ours, other, case.nets.actor, lambda: squashed(modules.policy, gradient_of)
    )


# The machine, too: whole updates of the two algorithms whose order is the same in both libraries.


def next_batch(learner: Any) -> Any:
    """What the learner's next update will draw, with torch's random numbers set as it will set them."""
    where = learner.config.seed, learner.rank, learner.updates
    generator = torch.Generator().manual_seed(seed_of(POSITIONS, *where))
    position = learner.sampler.strategy.draw(1, learner.hp.batch_size, generator)
    (batch,) = learner.rows.batches_at(position)
    torch.manual_seed(seed_of(UPDATES, *where))
    return batch


def test_bc_for_fifty_updates(build_learner: Callable[..., Any], fidelity: Any):
    learner, impl = build_learner(BC, "wide"), theirs("BC", learning_rate=3e-4)
    imitator = impl._modules.imitator
    learner.nets.actor.load_state_dict(perceptron(imitator, value_of))
    for _ in range(50):
        batch = next_batch(learner)
        batch.reward, batch.mask, batch.next_obs = torch.zeros(32), torch.ones(32), batch.obs
        impl.inner_update(their_batch(batch), learner.updates + 1)
        learner.advance(1)
    after = flatten(perceptron(imitator, value_of))
    mine = flatten(dict(learner.nets.actor.named_parameters()))
    fidelity.compare("bc", "50 updates, actor", reference="d3rlpy 2.8.1", ours=mine, theirs=after)


def test_td3_bc_for_fifty_updates(build_learner: Callable[..., Any], fidelity: Any):
    learner, impl = build_learner(TD3BC, "wide", normalise_obs=False), theirs("TD3PlusBC")
    modules, nets = impl._modules, learner.nets
    pairs = [
        (nets.critic, modules.q_funcs, critics),
        (nets.target.critic, modules.targ_q_funcs, critics),
        (nets.actor, modules.policy, perceptron),
        (nets.target.actor, modules.targ_policy, perceptron),
    ]
    for mine, other, translate in pairs:
        mine.load_state_dict(translate(other, value_of))
    for _ in range(50):
        batch = next_batch(learner)
        impl.inner_update(their_batch(batch), learner.updates + 1)
        learner.advance(1)
    names = ("critic", "target critic", "actor", "target actor")
    for name, (mine, other, translate) in zip(names, pairs, strict=True):
        fidelity.compare(
            "td3_bc",
            f"50 updates, {name}",
            reference="d3rlpy 2.8.1",
            ours=flatten(dict(mine.named_parameters())),
            theirs=flatten(translate(other, value_of)),
        )
