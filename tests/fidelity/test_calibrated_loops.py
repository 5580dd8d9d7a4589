"""CQL with its options and BRED, beside plain loops."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plain
import pytest
import torch
from torch import Tensor

from off2on.algorithms.bred import BRED
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL

Make = Callable[..., Any]
SEEDS = range(3)
ROWS = range(64)
LOOPS = "plain loops from the paper, float64"
LOG_TEMPERATURE, LOG_MULTIPLIER = -0.7, 0.4
WEIGHT, THRESHOLD = 3.0, 0.8


# Beside plain loops: one agent, one critic, one transition, one action at a time.


@dataclass
class Agent:
    """A policy, its critics and their targets as layers, and the noise that it draws."""

    policy: plain.Layers
    critics: list[plain.Layers]
    targets: list[plain.Layers]
    log_alpha: Tensor
    own: Tensor
    next_own: Tensor
    uniform: Tensor
    here: Tensor
    there: Tensor

    def value(self, critic: plain.Layers, obs: Tensor, action: Tensor) -> Tensor:
        return plain.perceptron(critic, torch.cat((obs.double(), action.double()))).squeeze()

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = plain.perceptron(self.policy, obs).chunk(2)
        return mean, log_std.clamp(-20, 2).exp()

    def draw(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return squash(*self.gaussian(obs), noise)

    def least(self, critics: list[plain.Layers], obs: Tensor, action: Tensor) -> Tensor:
        return plain.least([self.value(critic, obs, action) for critic in critics])


def squash(mean: Tensor, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(u), u = mean + sigma noise, and its log density."""
    u = mean + sigma * noise.double()
    return u.tanh(), plain.log_normal(u, mean, sigma) - (1 - u.tanh() ** 2).log().sum()


def agents_of(case: Any, seed: int) -> list[Agent]:
    """The agents of CQL (one) or BRED, with the noise of `prepare` after a seed."""
    nets, hp = case.nets, case.hp
    count = getattr(hp, "agents", 1)
    shape = (count, 64, 3)
    torch.manual_seed(seed)
    own = torch.randn(shape)
    next_own = torch.randn(hp.backup_actions, *shape)
    uniform = torch.empty(hp.samples, *shape).uniform_(-1, 1)
    here, there = (torch.randn(hp.samples, *shape) for _ in range(2))
    members, targets = (list(plain.members_of(critic)) for critic in (nets.critic, nets.target.critic))
    single = not hasattr(nets.actor, "members")
    policies = [plain.layers_of(nets.actor)] if single else list(plain.members_of(nets.actor))
    return [
        Agent(
            policies[e],
            members[e::count],
            targets[e::count],
            nets.temperature.value[e].double(),
            own[e],
            next_own[:, e],
            uniform[:, e],
            here[:, e],
            there[:, e],
        )
        for e in range(count)
    ]


def lively(case: Any) -> Any:
    """Networks away from where they started, and other temperatures than 1."""
    with torch.no_grad():
        case.nets.multiplier.value.fill_(LOG_MULTIPLIER)
        if hasattr(case.nets, "merged_temperature"):
            case.nets.merged_temperature.value.fill_(0.3)
        count = len(case.nets.temperature.value)
        case.nets.temperature.value.copy_(LOG_TEMPERATURE + 0.5 * torch.arange(count))
        for network in (case.nets.actor, case.nets.critic, case.nets.target.critic):
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return case


def conservative(agent: Agent, critic: plain.Layers, case: Any) -> Tensor:
    """E[G_i]: the mean over transitions of log sum exp (Q - log density) - Q(s, a), bounded from below."""
    batch, floor = case.batch, case.hp.gap_floor
    found = []
    for k in ROWS:
        scores = []
        for n in range(case.hp.samples):
            u = agent.uniform[n, k]
            scores.append(agent.value(critic, batch.obs[k], u) - 3 * math.log(0.5))
            for obs, noise in ((batch.obs[k], agent.here[n, k]), (batch.next_obs[k], agent.there[n, k])):
                action, log_prob = (each.detach() for each in agent.draw(obs, noise))
                scores.append(agent.value(critic, batch.obs[k], action) - log_prob)
        total = sum((score.exp() for score in scores), torch.zeros((), dtype=torch.float64))
        gap = total.log() - agent.value(critic, batch.obs[k], batch.action[k])
        found.append(gap if floor is None or gap > floor else torch.tensor(floor, dtype=torch.float64))
    return plain.average(found)


def bellman(agent: Agent, case: Any) -> Tensor:
    """The squared errors of an agent's critics against the best of its own several next actions."""
    batch, hp, errors = case.batch, case.hp, []
    for k in ROWS:
        futures = []
        for noise in agent.next_own[:, k]:
            action, log_prob = agent.draw(batch.next_obs[k], noise)
            future = agent.least(agent.targets, batch.next_obs[k], action)
            futures.append(future - agent.log_alpha.exp() * log_prob if hp.entropy_backup else future)
        best = max(futures, key=lambda one: one.item())
        target = (batch.reward[k] + hp.discount * batch.mask[k] * best).detach()
        q = [agent.value(critic, batch.obs[k], batch.action[k]) for critic in agent.critics]
        errors.append(sum(((target - one) ** 2 for one in q), torch.zeros(())))
    return plain.average(errors)


def costs(agents: list[Agent], case: Any) -> list[Tensor]:
    """m w (E[G_i] - tau) of every critic of every agent."""
    hp, multiplier = case.hp, case.nets.multiplier.value[0].double().exp()
    gaps = [conservative(agent, critic, case) for agent in agents for critic in agent.critics]
    return [multiplier * hp.conservative_weight * (gap - (hp.threshold or 0.0)) for gap in gaps]


def entropies(agent: Agent, case: Any) -> list[tuple[Tensor, Tensor]]:
    """An agent's own action at every state and its log density."""
    return [agent.draw(case.batch.obs[k], agent.own[k]) for k in ROWS]


CASES = {
    "floor of the gap and entropy in the target": {"gap_floor": 3.8, "entropy_backup": True},
    "best soft value of several actions": {"backup_actions": 3, "entropy_backup": True},
}


@pytest.mark.parametrize("words", CASES)
@pytest.mark.parametrize("seed", SEEDS)
def test_cqls_critic_with_its_options(problem: Make, fidelity: Any, words: str, seed: int):
    options = {"samples": 2, "threshold": THRESHOLD, "conservative_weight": WEIGHT, **CASES[words]}
    case = lively(problem(CQL, seed=seed, **options))
    (agent,) = agents = agents_of(case, seed)
    if case.hp.gap_floor is not None:  # it must matter, and not for all
        _, gap, _ = CQL.conservatism(case.nets, case.prepared(seed), case.hp)
        assert 0.1 < (gap < case.hp.gap_floor).float().mean() < 0.9
    fidelity.compare(
        "cql",
        f"critic, {words}",
        reference=LOOPS,
        ours=case.loss("critic", case.prepared(seed)),
        theirs=bellman(agent, case) + sum(costs(agents, case)),
        network=case.nets.critic,
    )


@pytest.mark.parametrize(("recipe", "name"), [(CQL, "cql"), (CalQL, "cal_ql")])
@pytest.mark.parametrize("seed", SEEDS)
def test_temperatures(problem: Make, fidelity: Any, recipe: Any, name: str, seed: int):
    case = lively(problem(recipe, seed=seed))
    (agent,) = agents_of(case, seed)
    log_prob = [each.detach() for _, each in entropies(agent, case)]
    fidelity.compare(
        name,
        "temperature",
        reference=LOOPS,
        ours=case.loss("temperature", seed=seed),
        theirs=plain.average(-agent.log_alpha * (one - 3) for one in log_prob),
        network=case.nets.temperature,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_cql_that_clones_at_first(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(CQL, seed=seed, cloning_share=0.6))
    (agent,) = agents_of(case, seed)
    terms = []
    for k, (_, log_prob) in zip(ROWS, entropies(agent, case), strict=True):
        mean, sigma = agent.gaussian(case.batch.obs[k])
        action = case.batch.action[k].double()
        recorded = plain.log_normal(action.atanh(), mean, sigma) - (1 - action**2).log().sum()
        terms.append(agent.log_alpha.exp().detach() * log_prob - recorded)
    fidelity.compare(
        "cql",
        "actor, cloning",
        reference="plain loops from the authors' definition, float64",
        ours=case.loss("actor", seed=seed),
        theirs=plain.average(terms),
        network=case.nets.actor,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_bred_offline(problem: Make, fidelity: Any, seed: int):
    options = {"agents": 3, "samples": 2, "backup_actions": 2, "conservative_weight": WEIGHT}
    case = lively(problem(BRED, seed=seed, threshold=THRESHOLD, **options))
    agents, batch = agents_of(case, seed), case.prepared(seed)

    def compare(loss: str, other: Tensor) -> None:
        name = f"{loss}, offline" if loss in ("actor", "critic") else loss
        fidelity.compare(
            "bred",
            name,
            reference=LOOPS,
            ours=case.loss(loss, batch),
            theirs=other,
            network=getattr(case.nets, loss),
        )

    each = costs(agents, case)
    compare("critic", sum((bellman(agent, case) for agent in agents), sum(each)))
    compare("multiplier", -plain.average(each))
    drawn = [entropies(agent, case) for agent in agents]
    compare(
        "temperature",
        sum(
            plain.average(-agent.log_alpha * (log_prob.detach() - 3) for _, log_prob in own)
            for agent, own in zip(agents, drawn, strict=True)
        ),
    )
    terms = [
        agent.log_alpha.exp().detach() * log_prob - agent.least(agent.critics, case.batch.obs[k], action)
        for agent, own in zip(agents, drawn, strict=True)
        for k, (action, log_prob) in zip(ROWS, own, strict=True)
    ]
    compare("actor", plain.average(terms) * len(agents))


def mixture(agents: list[Agent], obs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sigma of a Gaussian with the moments of the agents' mixture."""
    means, sigmas = zip(*(agent.gaussian(obs) for agent in agents), strict=True)
    count = len(agents)
    mean = sum(means) / count
    second = sum(sigma**2 + own**2 for sigma, own in zip(sigmas, means, strict=True)) / count
    return mean, (second - mean**2).sqrt()


@pytest.mark.parametrize("seed", SEEDS)
def test_bred_online(problem: Make, fidelity: Any, seed: int):
    case = lively(problem(BRED, seed=seed, agents=3))
    agents, data, hp = agents_of(case, seed), case.batch, case.hp
    data.progress = 1.4
    batch = case.prepared(seed)
    log_alpha = case.nets.merged_temperature.value[0].double()
    alpha = log_alpha.exp().detach()
    noises = []
    for start in (seed, seed + 1):
        torch.manual_seed(start)
        noises.append(torch.randn(64, 3))
    own = [squash(*mixture(agents, data.obs[k]), noises[0][k]) for k in ROWS]
    terms, errors = [], []
    for k, (action, log_prob) in zip(ROWS, own, strict=True):
        q = plain.average(agent.least(agent.critics, data.obs[k], action) for agent in agents)
        terms.append(alpha * log_prob - q)
        following, next_log_prob = squash(*mixture(agents, data.next_obs[k]), noises[1][k])
        error = torch.zeros((), dtype=torch.float64)
        for agent in agents:
            future = agent.least(agent.targets, data.next_obs[k], following) - alpha * next_log_prob
            target = (data.reward[k] + hp.discount * data.mask[k] * future).detach()
            for critic in agent.critics:
                error = error + (target - agent.value(critic, data.obs[k], data.action[k])) ** 2
        errors.append(error)
    found = {
        "actor": plain.average(terms),
        "critic": plain.average(errors),
        "merged_temperature": plain.average(-log_alpha * (one.detach() - 3) for _, one in own),
    }
    for loss, other in found.items():
        fidelity.compare(
            "bred",
            loss,
            reference=LOOPS,
            ours=case.loss(loss, batch, seed),
            theirs=other,
            network=getattr(case.nets, loss),
        )
