"""The algorithms for discrete actions beside d3rlpy 2.8.1."""

from collections.abc import Callable
from typing import Any

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

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.algorithms.nfq import NFQ

SEEDS = range(3)
Problem = Callable[..., Any]


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
