"""The quantile head beside d3rlpy's QR-DQN, whose outputs have the same order."""

from collections.abc import Callable
from typing import Any

import d3rlpy_reference as reference
import pytest
import torch
from d3rlpy_reference import critics, gradient_of, perceptron, same, shake, value_of

from off2on.algorithms.ddpg import DDPG
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.algorithms.td3_bc import TD3BC

SEEDS = range(3)
RELATION = "=, critic_head=quantile"
Make = Callable[..., Any]


def theirs(name: str, **given: Any) -> Any:
    factory = reference.d3rlpy.models.QRQFunctionFactory(n_quantiles=9)
    impl = reference.theirs(name, q_func_factory=factory, **given)
    shake(impl._modules)
    return impl


def match(case: Any, modules: Any) -> None:
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("recipe", "name", "algorithm"),
    [
        (DQN, "DQN", "dqn"),
        (DoubleDQN, "DoubleDQN", "double_dqn"),
        (DiscreteCQL, "DiscreteCQL", "discrete_cql"),
    ],
)
def test_discrete(problem: Make, fidelity: Any, recipe: Any, name: str, algorithm: str, seed: int):
    case, impl = problem(recipe, seed=seed, critic_head="quantile", atoms=9), theirs(name, actions=4)
    modules, batch = impl._modules, reference.their_batch(case.batch)
    match(case, modules)
    other = impl.compute_loss(batch, impl.compute_target(batch)).loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, algorithm, "critic", case.loss("critic"), other, case.nets.critic, gradient, RELATION)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("recipe", "name", "algorithm"), [(DDPG, "DDPG", "ddpg"), (TD3BC, "TD3PlusBC", "td3_bc")]
)
def test_continuous(problem: Make, fidelity: Any, recipe: Any, name: str, algorithm: str, seed: int):
    """Of TD3's two critics, the target takes the quantiles of the smaller mean."""
    case, impl = problem(recipe, seed=seed, critic_head="quantile", atoms=9), theirs(name)
    modules, batch = impl._modules, reference.their_batch(case.batch)
    match(case, modules)
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    case.nets.target.actor.load_state_dict(perceptron(modules.targ_policy, value_of))
    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, algorithm, "critic", ours, other, case.nets.critic, gradient, RELATION)
