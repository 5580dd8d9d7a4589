"""The algorithms for discrete actions beside d3rlpy 2.8.1, and beside plain loops where the two differ."""

import math
from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from d3rlpy_reference import (
    Take,
    Tensors,
    critics,
    flatten,
    gradient_of,
    linears,
    perceptron,
    same,
    shake,
    their_batch,
    theirs,
    value_of,
)
from torch import Tensor

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.algorithms.nfq import NFQ

SEEDS = range(3)
Problem = Callable[..., Any]

LOOPS = "plain loops from the paper and its authors' code"


def imitated(modules: Any, take: Take, shared: bool) -> Tensors:
    """d3rlpy's values and imitator are one network of ours."""
    named = critics(modules.q_funcs, take)
    layers = linears(modules.imitator)
    for number, layer in enumerate(layers[-1:] if shared else layers):
        named[f"imitator.{2 * number}.weight"] = take(layer.weight)
        named[f"imitator.{2 * number}.bias"] = take(layer.bias)
    return named


def match(case: Any, modules: Any) -> None:
    """Give our values d3rlpy's weights."""
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("recipe", "name", "algorithm"),
    [(DQN, "DQN", "dqn"), (DoubleDQN, "DoubleDQN", "double_dqn"), (NFQ, "NFQ", "nfq")],
)
def test_dqn_double_dqn_and_nfq(
    problem: Problem, fidelity: Any, recipe: Any, name: str, algorithm: str, seed: int, members: int
):
    case = problem(recipe, seed=seed, critics=members, td_error="huber")
    impl = theirs(name, actions=4, n_critics=members)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match(case, modules)
    other = impl.compute_loss(batch, impl.compute_target(batch)).loss
    relation = "=" if members == 1 else f"=, {members} members"
    relation += ", td_error=huber" if recipe is NFQ else ""
    same(
        fidelity,
        algorithm,
        "critic",
        case.loss("critic"),
        other,
        case.nets.critic,
        lambda: critics(modules.q_funcs, gradient_of),
        relation,
    )


@pytest.mark.parametrize("alpha", [1.0, 4.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_cql(problem: Problem, fidelity: Any, seed: int, alpha: float):
    case = problem(DiscreteCQL, seed=seed, alpha=alpha)
    impl = theirs("DiscreteCQL", actions=4, alpha=alpha)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match(case, modules)
    other = impl.compute_loss(batch, impl.compute_target(batch)).loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, "discrete_cql", "critic", case.loss("critic"), other, case.nets.critic, gradient)


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_bc(problem: Problem, fidelity: Any, seed: int):
    case, impl = problem(DiscreteBC, seed=seed, beta=0.0), theirs("DiscreteBC", actions=4, beta=0.0)
    imitator = impl._modules.imitator
    case.nets.actor.load_state_dict(perceptron(imitator, value_of))
    ours = case.loss("actor")
    other = impl.compute_loss(case.batch.obs, case.batch.action).loss
    gradient = lambda: perceptron(imitator, gradient_of)  # noqa: E731
    same(fidelity, "discrete_bc", "actor", ours, other, case.nets.actor, gradient, "=, beta 0")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_bcq(problem: Problem, fidelity: Any, seed: int, shared: bool):
    tau = 0.8  # random imitations are not far from uniform
    case = problem(DiscreteBCQ, seed=seed, tau=tau, beta=0.0, share_encoder=shared)
    impl = theirs("DiscreteBCQ", actions=4, action_flexibility=tau, beta=0.0, share_encoder=shared)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(imitated(modules, value_of, shared))
    target = critics(modules.targ_q_funcs, value_of)
    case.nets.target.critic.load_state_dict(target, strict=False)  # nobody asks its imitation
    best = impl.inner_predict_best_action(batch.observations)
    assert torch.equal(DiscreteBCQ.act(case.nets, case.batch.obs, case.hp, False), best)
    assert not torch.equal(best, case.nets.critic(case.batch.obs)[0].argmax(-1))
    other = impl.compute_loss(batch, impl.compute_target(batch)).loss
    relation = f"=, beta 0, {'shared' if shared else 'separate'} layers"
    same(
        fidelity,
        "discrete_bcq",
        "critic",
        case.loss("critic"),
        other,
        case.nets.critic,
        lambda: imitated(modules, gradient_of, shared),
        relation,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_sac(problem: Problem, fidelity: Any, seed: int):
    case = problem(DiscreteSAC, seed=seed, td_error="huber", temperature_form="alpha")
    # Without a step size d3rlpy does not step the temperature inside its actor loss.
    impl = theirs("DiscreteSAC", actions=4, temp_learning_rate=0.0)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match(case, modules)
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    with torch.no_grad():
        next(modules.log_temp.parameters()).fill_(-0.7)
    case.nets.temperature.value.data.fill_(-0.7)

    other = impl.compute_critic_loss(batch, impl.compute_target(batch))
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    ours = case.loss("critic")
    same(fidelity, "discrete_sac", "critic", ours, other, case.nets.critic, gradient, "=, td_error=huber")

    other = impl.compute_actor_loss(batch)["loss"]
    gradient = lambda: perceptron(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, "discrete_sac", "actor", case.loss("actor"), other, case.nets.actor, gradient)


@pytest.mark.parametrize("seed", SEEDS)
def test_discrete_sacs_temperature(problem: Problem, fidelity: Any, seed: int):
    case = problem(DiscreteSAC, seed=seed, temperature_form="alpha")
    impl = theirs("DiscreteSAC", actions=4)
    modules = impl._modules
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    slope = next(modules.log_temp.parameters())
    with torch.no_grad():
        slope.fill_(-0.7)
    case.nets.temperature.value.data.fill_(-0.7)
    other = impl.update_temp(modules.policy(case.batch.obs))["temp_loss"].detach()
    fidelity.compare(
        "discrete_sac",
        "temperature",
        reference="d3rlpy 2.8.1",
        relation="=, temperature_form=alpha",
        ours=case.loss("temperature"),
        theirs=other,
        network=case.nets.temperature,
        gradient={"value": gradient_of(slope).flatten()},
        tolerance=1e-4,  # the two terms nearly cancel: a random policy is close to the wanted entropy
    )


@pytest.mark.parametrize(
    ("recipe", "name", "algorithm"),
    [
        (DQN, "DQN", "dqn"),
        (DoubleDQN, "DoubleDQN", "double_dqn"),
        (DiscreteCQL, "DiscreteCQL", "discrete_cql"),
        (NFQ, "NFQ", "nfq"),
    ],
)
def test_fifty_five_updates(
    build_learner: Callable[..., Any], fidelity: Any, recipe: Any, name: str, algorithm: str
):
    """The machine, too: Adam, and a target that is renewed every tenth update, or at every one (NFQ)."""
    seen = []

    class Watched(recipe):
        @classmethod
        def prepare(cls, nets: Any, batch: Any, hp: Any) -> Any:
            seen.append(their_batch(batch))
            return super().prepare(nets, batch, hp)

    settings: dict[str, Any] = {} if recipe is NFQ else {"target_update_interval": 10}
    ours = {"td_error": "huber"} if recipe is NFQ else {"target_every": 10}
    learner = build_learner(Watched, "toy-cartpole", **ours)
    options = {"obs": 4, "actions": 2, "learning_rate": 3e-4, **settings}
    impl = theirs(name, **options)
    learner.nets.critic.load_state_dict(critics(impl._modules.q_funcs, value_of))
    learner.nets.target.critic.load_state_dict(critics(impl._modules.targ_q_funcs, value_of))
    learner.advance(55)
    for number, batch in enumerate(seen):
        impl.inner_update(batch, number + 1)
    for part, mine, other in (
        ("critic", learner.nets.critic, impl._modules.q_funcs),
        ("target critic", learner.nets.target.critic, impl._modules.targ_q_funcs),
    ):
        fidelity.compare(
            algorithm,
            f"55 updates, {part}",
            reference="d3rlpy 2.8.1",
            ours=flatten(dict(mine.named_parameters())),
            theirs=flatten(critics(other, value_of)),
        )


# Plain loops, for what d3rlpy does otherwise.


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
