"""SAC-N, EDAC, REDQ and E2O beside d3rlpy where it has them, else beside plain loops from the papers."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import plain
import pytest
import torch
from d3rlpy_reference import critics, gradient_of, same, shake, squashed, their_batch, theirs, value_of
from torch import Tensor

from off2on.algorithms.e2o import E2O
from off2on.algorithms.edac import EDAC
from off2on.algorithms.redq import REDQ
from off2on.algorithms.rlpd import RLPD
from off2on.algorithms.sac_n import SACN

Make = Callable[..., Any]
SEEDS = range(3)
ROWS = range(64)
LOOPS = "plain loops from the paper, float64"
LOG_TEMPERATURE = -0.7


def lively(case: Any) -> Any:
    """Networks away from where they started, and another alpha than 1."""
    with torch.no_grad():
        case.nets.temperature.value.fill_(LOG_TEMPERATURE)
        for network in (case.nets.actor, case.nets.critic, case.nets.target.critic):
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return case


def match(case: Any, modules: Any) -> None:
    """Give our networks the weights of d3rlpy's."""
    shake(modules)
    with torch.no_grad():
        next(modules.log_temp.parameters()).fill_(LOG_TEMPERATURE)
    case.nets.temperature.value.data.fill_(LOG_TEMPERATURE)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(squashed(modules.policy, value_of))


def noise_of(seed: int, draws: int = 1) -> Tensor:
    """The numbers of the last of several draws of actions after a seed."""
    torch.manual_seed(seed)
    return [torch.randn(64, 3) for _ in range(draws)][-1]


def alpha_of(case: Any) -> Tensor:
    return case.nets.temperature.value.detach()[0].double().exp()


def soft_target(case: Any, batch: Any, noise: Tensor, say: Callable[[list[Tensor]], Tensor]) -> list[Tensor]:
    """Each row's r + gamma (what `say` makes of the targets' values - alpha log pi)."""
    found = []
    for k in ROWS:
        action, log_prob = plain.squashed(case.nets.actor, batch.next_obs[k], noise[k])
        q = plain.values(case.nets.target.critic, batch.next_obs[k], action)
        future = say(q) - alpha_of(case) * log_prob
        found.append((batch.reward[k] + case.hp.discount * batch.mask[k] * future).detach())
    return found


def squares(case: Any, batch: Any, target: list[Tensor], weight: list[Tensor] | None = None) -> Tensor:
    """sum_i E[ w (y - Q_i(s, a))^2 ]."""
    errors = []
    for k in ROWS:
        q = plain.values(case.nets.critic, batch.obs[k], batch.action[k])
        error = sum(((target[k] - one) ** 2 for one in q), torch.zeros(()))
        errors.append(error if weight is None else weight[k] * error)
    return plain.average(errors)


def check_actor(
    fidelity: Any, name: str, case: Any, seed: int, say: Callable[[list[Tensor]], Tensor]
) -> None:
    """E[ alpha log pi - what `say` makes of the critics ]."""
    batch, noise, terms = case.prepared(seed), noise_of(seed), []
    for k in ROWS:
        action, log_prob = plain.squashed(case.nets.actor, batch.obs[k], noise[k])
        terms.append(alpha_of(case) * log_prob - say(plain.values(case.nets.critic, batch.obs[k], action)))
    fidelity.compare(
        name,
        "actor",
        reference=LOOPS,
        ours=case.loss("actor", batch),
        theirs=plain.average(terms),
        network=case.nets.actor,
    )


def check_temperature(fidelity: Any, name: str, case: Any, seed: int, wanted: float = -3.0) -> None:
    """-E[ log alpha (log pi + H) ]."""
    batch, noise = case.prepared(seed), noise_of(seed)
    log_prob = [plain.squashed(case.nets.actor, batch.obs[k], noise[k])[1].detach() for k in ROWS]
    log_alpha = case.nets.temperature.value[0].double()
    fidelity.compare(
        name,
        "temperature",
        reference=LOOPS,
        ours=case.loss("temperature", batch),
        theirs=plain.average(-log_alpha * (one + wanted) for one in log_prob),
        network=case.nets.temperature,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_sac_n(problem: Make, fidelity: Any, seed: int):
    case = problem(SACN, seed=seed, critics=10)
    impl = theirs("SAC", n_critics=10, temp_learning_rate=0.0)
    modules, batch = impl._modules, their_batch(case.batch)
    match(case, modules)

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    both = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, "sac_n", "critic", ours, other, case.nets.critic, both)

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    actor = lambda: squashed(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "sac_n", "actor", ours, other, case.nets.actor, actor)

    check_temperature(fidelity, "sac_n", case, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_sac_n_with_several_backup_actions(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(SACN, seed=seed, critics=4, backup_actions=5))
    batch = case.prepared(seed)
    torch.manual_seed(seed + 1)
    torch.randn(64, 3)  # the action of a target with one
    noise = torch.randn(5, 64, 3)
    target = []
    for k in ROWS:
        drawn = [plain.squashed(case.nets.actor, batch.next_obs[k], noise[n, k])[0] for n in range(5)]
        q = [plain.values(case.nets.target.critic, batch.next_obs[k], action) for action in drawn]
        best = [max((one[member] for one in q), key=lambda value: value.item()) for member in range(4)]
        target.append((batch.reward[k] + case.hp.discount * batch.mask[k] * plain.least(best)).detach())
    fidelity.compare(
        "sac_n",
        "critic, best of five backup actions",
        reference=LOOPS,
        ours=case.loss("critic", batch, seed),
        theirs=squares(case, batch, target),
        network=case.nets.critic,
    )


def slopes(case: Any, batch: Any) -> list[list[Tensor]]:
    """Each member's and row's gradient of Q with respect to the action, by the chain rule."""
    found = []
    for layers in plain.members_of(case.nets.critic):
        rows = []
        for obs, action in zip(batch.obs, batch.action, strict=True):
            x, inner = torch.cat((obs, action)).double(), []
            for weight, bias in layers[:-1]:
                x = weight @ x + bias
                inner.append((x > 0).double().detach())
                x = inner[-1] * x
            back = layers[-1][0][0]
            for (weight, _), on in zip(reversed(layers[:-1]), reversed(inner), strict=True):
                back = (back * on) @ weight
            rows.append(back[len(obs) :])
        found.append(rows)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_edac(problem: Make, fidelity: Any, seed: int):
    members, eta = 5, 3.0
    case = lively(problem(EDAC, seed=seed, critics=members, eta=eta))
    batch = case.prepared(seed)
    slope = slopes(case, batch)
    alike = []
    for k in ROWS:
        unit = [slope[i][k] / (slope[i][k].square().sum().sqrt() + 1e-10) for i in range(members)]
        pairs = [unit[i] @ unit[j] for i in range(members) for j in range(members) if i != j]
        alike.append(sum(pairs, torch.zeros(())) / (members - 1))
    similarity = plain.average(alike)
    other = squares(case, batch, soft_target(case, batch, noise_of(seed + 1), plain.least)) + eta * similarity
    fidelity.compare(
        "edac",
        "critic",
        reference=LOOPS,
        ours=case.loss("critic", batch, seed),
        theirs=other,
        network=case.nets.critic,
    )
    without = problem(EDAC, critics=members, eta=0.0)
    without.nets, without.batch = case.nets, case.batch
    fidelity.compare(
        "edac",
        "similarity alone",
        reference=LOOPS,
        ours=(case.loss("critic", batch, seed) - without.loss("critic", batch, seed)) / eta,
        theirs=similarity,
        network=case.nets.critic,
        tolerance=1e-4,
    )
    check_actor(fidelity, "edac", case, seed, plain.least)
    check_temperature(fidelity, "edac", case, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_redq(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(REDQ, seed=seed, critics=6, subset=3))
    batch = case.prepared(seed)
    noise = noise_of(seed + 1)
    chosen = torch.randperm(6)[:3].tolist()
    assert len(set(chosen)) == 3
    target = soft_target(case, batch, noise, lambda q: plain.least([q[member] for member in chosen]))
    fidelity.compare(
        "redq",
        "critic",
        reference=LOOPS,
        ours=case.loss("critic", batch, seed),
        theirs=squares(case, batch, target),
        network=case.nets.critic,
    )
    check_actor(fidelity, "redq", case, seed, plain.average)
    check_temperature(fidelity, "redq", case, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_rlpd(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(RLPD, seed=seed, critics=6))
    batch = case.prepared(seed)
    noise = noise_of(seed + 1)
    chosen = torch.randperm(6)[:2].tolist()
    target = soft_target(case, batch, noise, lambda q: plain.least([q[member] for member in chosen]))
    fidelity.compare(
        "rlpd",
        "critic",
        reference=LOOPS,
        ours=case.loss("critic", batch, seed),
        theirs=squares(case, batch, target),
        network=case.nets.critic,
    )
    check_actor(fidelity, "rlpd", case, seed, plain.average)
    check_temperature(fidelity, "rlpd", case, seed, wanted=-1.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_e2o_offline(problem: Make, fidelity: Any, seed: int):
    weight, threshold, samples = 5.0, 10.0, 10
    case = problem(E2O, seed=seed, conservative_weight=weight, samples=samples)
    impl = theirs(
        "CQL",
        n_critics=10,
        conservative_weight=weight,
        alpha_threshold=threshold,
        n_action_samples=samples,
        temp_learning_rate=0.0,
        alpha_learning_rate=0.0,
    )
    modules, batch = impl._modules, their_batch(case.batch)
    match(case, modules)

    torch.manual_seed(seed)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    # The same draws, in d3rlpy's order: its target's action is the mean, then pi(s), pi(s'), uniform.
    mine = case.prepared(seed)
    here, there = case.nets.actor(mine.obs), case.nets.actor(mine.next_obs)
    with torch.no_grad():
        torch.manual_seed(seed)
        mine.next_sample = there.mean, torch.zeros(64)
        own, next_own = here.sample(samples), there.sample(samples)
        uniform = torch.empty(64, samples, 3).uniform_(-1, 1).transpose(0, 1)
        density = torch.full((samples, 64), 0.5**3).log()
        mine.proposals = tuple(
            torch.cat(parts) for parts in zip((uniform, density), own, next_own, strict=True)
        )
    same(
        fidelity,
        "e2o",
        "critic, offline",
        case.loss("critic", mine),
        other + 10 * weight * threshold,  # subtracted for every critic, Lagrange multiplier or not
        case.nets.critic,
        lambda: critics(modules.q_funcs, gradient_of),
        relation="theirs + 10 w tau",
    )

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    actor = lambda: squashed(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "e2o", "actor", ours, other, case.nets.actor, actor)
    check_temperature(fidelity, "e2o", case, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_e2o_online(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(E2O, seed=seed, critics=5, weighted_backup=10.0))
    case.batch.progress = 1.3
    batch = case.prepared(seed)

    def pairs(q: list[Tensor]) -> Tensor:
        return plain.average(plain.least([q[j], q[k]]) for j, k in combinations(range(5), 2))

    noise, weight = noise_of(seed, draws=2), []
    for k in ROWS:
        action, _ = plain.squashed(case.nets.actor, batch.next_obs[k], noise[k])
        q = [one.detach() for one in plain.values(case.nets.target.critic, batch.next_obs[k], action)]
        middle = plain.average(q)
        spread = plain.average((one - middle) ** 2 for one in q).sqrt()
        weight.append(1 / (1 + (10 * spread).exp()) + 0.5)
    target = soft_target(case, batch, noise_of(seed + 1), pairs)
    fidelity.compare(
        "e2o",
        "critic, online",
        reference=LOOPS,
        ours=case.loss("critic", batch, seed),
        theirs=squares(case, batch, target, weight),
        network=case.nets.critic,
    )
    check_actor(fidelity, "e2o", case, seed, plain.least)
