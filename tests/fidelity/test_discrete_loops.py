"""The algorithms for discrete actions beside plain loops, for what d3rlpy does otherwise."""

import math
from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from torch import Tensor

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.nfq import NFQ

SEEDS = range(3)
Problem = Callable[..., Any]

LOOPS = "plain loops from the paper and its authors' code"


@pytest.mark.parametrize("seed", SEEDS)
def test_nfq(problem: Problem, fidelity: Any, seed: int):
    """The paper's squared error against max_a Q_k(s', a), row by row."""
    case = problem(NFQ, seed=seed)
    batch, errors = case.batch, []
    for k in plain.rows_of(batch):
        (following,) = action_values(case.nets.target.critic, batch.next_obs[k])
        target = batch.reward[k].double() + case.hp.discount * batch.mask[k].double() * max(
            following.detach()
        )
        (own,) = action_values(case.nets.critic, batch.obs[k])
        errors.append((target - own[int(batch.action[k])]) ** 2)
    fidelity.compare(
        "nfq",
        "critic",
        reference="plain loops from the paper",
        ours=case.loss("critic"),
        theirs=plain.average(errors),
        network=case.nets.critic,
    )


def log_softmax(logits: Tensor) -> Tensor:
    """Of one row."""
    return logits - logits.exp().sum().log()


def action_values(critic: Any, obs: Tensor) -> list[Tensor]:
    """Each member's Q_i(s, ·) of one row."""
    return [plain.perceptron(layers, obs) for layers in plain.members_of(critic)]


def imitation(critic: Any, obs: Tensor) -> Tensor:
    """What goes into G's softmax, of one row."""
    below = next(plain.members_of(critic))[:-1] if critic.shared else []
    return plain.perceptron(below + plain.layers_of(critic.imitator), obs)


def best(values: list[Tensor], allowed: list[int]) -> int:
    """The allowed action of highest mean value."""
    return max(allowed, key=lambda action: sum(member[action].item() for member in values))


def huber(error: Tensor) -> Tensor:
    return 0.5 * error**2 if abs(error.item()) < 1 else abs(error) - 0.5


def double_error(case: Any, row: int, allowed: list[int]) -> Tensor:
    """Double DQN's error of one row, summed over members, where a' is one of the allowed actions."""
    batch, nets = case.batch, case.nets
    action = int(batch.action[row])
    chosen = best(action_values(nets.critic, batch.next_obs[row]), allowed)
    future = min(member[chosen].item() for member in action_values(nets.target.critic, batch.next_obs[row]))
    target = batch.reward[row].item() + case.hp.discount * batch.mask[row].item() * future
    members = action_values(nets.critic, batch.obs[row])
    return sum((huber(member[action] - target) for member in members), torch.zeros(()))


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_bc_with_its_regulariser(problem: Problem, fidelity: Any, seed: int):
    case = problem(DiscreteBC, seed=seed, beta=0.3)
    terms = []
    for row in range(64):
        logits = plain.perceptron(plain.layers_of(case.nets.actor), case.batch.obs[row])
        terms.append(-log_softmax(logits)[int(case.batch.action[row])] + 0.3 * (logits**2).sum() / 4)
    fidelity.compare(
        "discrete_bc",
        "actor",
        reference=LOOPS,
        ours=case.loss("actor"),
        theirs=plain.average(terms),
        network=case.nets.actor,
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_bcq_with_its_regulariser_and_members(
    problem: Problem, fidelity: Any, seed: int, shared: bool
):
    tau, beta = 0.8, 0.3
    case = problem(DiscreteBCQ, seed=seed, tau=tau, beta=beta, share_encoder=shared, critics=2)
    terms = []
    for row in range(64):
        logits = imitation(case.nets.critic, case.batch.next_obs[row])
        probabilities = log_softmax(logits).exp()
        allowed = [action for action in range(4) if probabilities[action] >= tau * max(probabilities)]
        logits = imitation(case.nets.critic, case.batch.obs[row])
        clone = -log_softmax(logits)[int(case.batch.action[row])] + beta * (logits**2).sum() / 4
        terms.append(double_error(case, row, allowed) + clone)
    fidelity.compare(
        "discrete_bcq",
        "critic",
        reference=LOOPS,
        relation="=" if shared else "=, separate layers",
        ours=case.loss("critic"),
        theirs=plain.average(terms),
        network=case.nets.critic,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_cql_with_members(problem: Problem, fidelity: Any, seed: int):
    case = problem(DiscreteCQL, seed=seed, alpha=2.0, critics=3)
    terms = []
    for row in range(64):
        action = int(case.batch.action[row])
        members = action_values(case.nets.critic, case.batch.obs[row])
        gap = sum((member.exp().sum().log() - member[action] for member in members), torch.zeros(()))
        terms.append(double_error(case, row, [0, 1, 2, 3]) + 2.0 * gap)
    fidelity.compare(
        "discrete_cql",
        "critic",
        reference="plain loops from the paper, equation 4",
        relation="=, 3 members",
        ours=case.loss("critic"),
        theirs=plain.average(terms),
        network=case.nets.critic,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_sac_as_its_author_has_it(problem: Problem, fidelity: Any, seed: int):
    case = problem(DiscreteSAC, seed=seed, initial_temperature=0.3)
    batch, nets = case.batch, case.nets
    alpha = nets.temperature.value.double().exp().squeeze()
    policy = plain.layers_of(nets.actor)
    critic, actor, temperature = [], [], []
    for row in range(64):
        log_probs = log_softmax(plain.perceptron(policy, batch.next_obs[row])).detach()
        members = action_values(nets.target.critic, batch.next_obs[row])
        future = sum(
            (log_probs[a].exp() * (plain.least([m[a] for m in members]) - alpha * log_probs[a])).item()
            for a in range(4)
        )
        target = batch.reward[row].item() + case.hp.discount * batch.mask[row].item() * future
        members = action_values(nets.critic, batch.obs[row])
        action = int(batch.action[row])
        critic.append(sum(((member[action] - target) ** 2 for member in members), torch.zeros(())))

        log_probs = log_softmax(plain.perceptron(policy, batch.obs[row]))
        least = [min(member[a].item() for member in members) for a in range(4)]
        entropy_less_value = [
            log_probs[a].exp() * (alpha.detach() * log_probs[a] - least[a]) for a in range(4)
        ]
        actor.append(sum(entropy_less_value, torch.zeros(())))

        entropy = -sum((log_probs[a].exp() * log_probs[a]).item() for a in range(4))
        temperature.append(alpha.log() * (entropy - 0.98 * math.log(4)))
    for loss, terms in (("critic", critic), ("actor", actor), ("temperature", temperature)):
        fidelity.compare(
            "discrete_sac",
            loss,
            reference=LOOPS,
            ours=case.loss(loss),
            theirs=plain.average(terms),
            network=getattr(nets, loss),
            tolerance=1e-4 if loss == "temperature" else 2e-5,
        )
