"""CQL, Cal-QL and E2O beside d3rlpy."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from d3rlpy_reference import critics, gradient_of, same, shake, squashed, their_batch, theirs, value_of

from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL
from off2on.algorithms.e2o import E2O

Make = Callable[..., Any]
SEEDS = range(3)
LOG_TEMPERATURE, LOG_MULTIPLIER = -0.7, 0.4
WEIGHT, THRESHOLD, SAMPLES = 3.0, 0.8, 10


def beside(problem: Make, recipe: Any, name: str, seed: int, samples: int, **options: Any) -> Any:
    """Our recipe and d3rlpy's with the same networks, batch and proposals, and d3rlpy's batch."""
    case = problem(
        recipe,
        seed=seed,
        conservative_weight=WEIGHT,
        threshold=THRESHOLD,
        samples=samples,
        backup_actions=samples,
        **options,
    )
    impl = theirs(
        name,
        conservative_weight=WEIGHT,
        alpha_threshold=THRESHOLD,
        n_action_samples=samples,
        soft_q_backup=False,
        max_q_backup=True,
        temp_learning_rate=0.0,
        alpha_learning_rate=0.0,
    )
    modules, nets = impl._modules, case.nets
    shake(modules)
    with torch.no_grad():
        next(modules.log_temp.parameters()).fill_(LOG_TEMPERATURE)
        next(modules.log_alpha.parameters()).fill_(LOG_MULTIPLIER)
        nets.temperature.value.fill_(LOG_TEMPERATURE)
        nets.multiplier.value.fill_(LOG_MULTIPLIER)
    nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    nets.actor.load_state_dict(squashed(modules.policy, value_of))
    batch = their_batch(case.batch)
    if recipe is CalQL:
        case.batch.ret = 0.3 * torch.randn(64)  # some of the values are below, some above
        batch = dataclasses.replace(batch, returns_to_go=case.batch.ret.unsqueeze(1))
    mine = case.prepared(seed)
    here, there = nets.actor(mine.obs), nets.actor(mine.next_obs)
    with torch.no_grad():  # the same draws, in d3rlpy's order: the target's, pi(s), pi(s'), uniform
        torch.manual_seed(seed)
        mine.next_sample = there.sample(samples) if samples > 1 else there.sample()
        own, next_own = here.sample(samples), there.sample(samples)
        uniform = torch.empty(64, samples, 3).uniform_(-1, 1).transpose(0, 1)
        drawn = (uniform, torch.full((samples, 64), 0.5**3).log()), own, next_own
        mine.proposals = tuple(torch.cat(parts) for parts in zip(*drawn, strict=True))
    return case, mine, impl, batch


@pytest.mark.parametrize("samples", [1, SAMPLES])
@pytest.mark.parametrize(("recipe", "name", "kind"), [(CQL, "cql", "CQL"), (CalQL, "cal_ql", "CalQL")])
@pytest.mark.parametrize("seed", SEEDS)
def test_critics_with_a_multiplier_and_the_best_of_several_actions(
    problem: Make, fidelity: Any, recipe: Any, name: str, kind: str, samples: int, seed: int
):
    case, mine, impl, batch = beside(problem, recipe, kind, seed, samples)
    torch.manual_seed(seed)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    row = "critic" if name == "cal_ql" else "critic, with multiplier and best of several actions"
    both = lambda: critics(impl._modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, name, row, case.loss("critic", mine), other, case.nets.critic, both)
    if recipe is CalQL and samples == SAMPLES:
        q = case.nets.critic(mine.obs, mine.proposals[0])[:, samples:]
        share = (q < mine.ret).float().mean()
        assert 0.1 < share < 0.9


@pytest.mark.parametrize(
    ("recipe", "name", "kind"), [(CQL, "cql", "CQL"), (CalQL, "cal_ql", "CalQL"), (E2O, "e2o", "CQL")]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_multipliers(problem: Make, fidelity: Any, recipe: Any, name: str, kind: str, seed: int):
    case, mine, impl, batch = beside(problem, recipe, kind, seed, SAMPLES, critics=2)
    torch.manual_seed(seed)
    impl.compute_target(batch)
    columns = batch.observations, batch.actions, batch.next_observations, batch.returns_to_go
    cost = impl._compute_conservative_loss(*columns).detach()
    stepping = theirs(kind, alpha_learning_rate=1e-4)
    log_alpha = next(stepping._modules.log_alpha.parameters())
    log_alpha.data.fill_(LOG_MULTIPLIER)
    stepping.update_alpha(cost)
    fidelity.compare(
        name,
        "multiplier",
        reference="d3rlpy 2.8.1",
        ours=case.loss("multiplier", mine),
        theirs=-(math.exp(LOG_MULTIPLIER) * cost).mean(),
        network=case.nets.multiplier,
        gradient={"value": gradient_of(log_alpha).flatten()},
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_cal_qls_actor(problem: Make, fidelity: Any, seed: int):
    case, _, impl, batch = beside(problem, CalQL, "CalQL", seed, SAMPLES)
    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, impl._modules.policy(batch.observations)).actor_loss
    actor = lambda: squashed(impl._modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "cal_ql", "actor", ours, other, case.nets.actor, actor)
