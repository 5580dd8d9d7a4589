"""FQL, IFQL and BFN at the ends of their dials, and where a Gaussian policy must fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor
from toy_bandit import FLOW, seeds, shares, trained

from off2on.algorithms.bfn import BFN
from off2on.algorithms.fql import FQL
from off2on.algorithms.ifql import IFQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe.flows import euler, flow_matching

Make = Callable[..., Any]


# The parts, by hand.


def test_a_constant_velocity_arrives_after_one_unit_of_time():
    obs, noise = torch.zeros(4, 2), torch.tensor([[0.1], [-0.3], [0.9], [-2.0]])
    found = euler(lambda obs, point, time: torch.full_like(point, 0.2), obs, noise, 7)
    torch.testing.assert_close(found, torch.tensor([[0.3], [-0.1], [1.0], [-1.0]]))


def test_each_step_is_taken_at_its_time():
    times = []

    def field(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        times.append(time.unique().item())
        return -point

    found = euler(field, torch.zeros(3, 2), torch.full((5, 3, 1), 0.8), 4)
    assert times == [0.0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(found, torch.full((5, 3, 1), 0.8 * 0.75**4))


def test_the_velocity_towards_one_action_has_no_error():
    goal = torch.full((8, 3), 0.4)
    noise, time = torch.randn(8, 3), 0.9 * torch.rand(8, 1)

    def exact(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        return (goal - point) / (1 - time)

    assert flow_matching(exact, torch.zeros(8, 2), goal, noise, time) < 1e-10
    torch.testing.assert_close(euler(exact, torch.zeros(8, 2), noise, 10), goal)


@pytest.mark.parametrize("recipe", [BFN, IFQL])
def test_the_deterministic_action_of_one_sample_starts_from_noise_0(problem: Make, recipe: Any):
    case = problem(recipe, samples=1)
    middle = euler(case.nets.flow, case.batch.obs, torch.zeros_like(case.batch.action), case.hp.flow_steps)
    torch.testing.assert_close(recipe.act(case.nets, case.batch.obs, case.hp, False), middle)
    four = problem(recipe, samples=4).nets.flow.draws.flatten(1)
    assert (four == 0).all(1).tolist() == [True, False, False, False]


# FQL.


def test_fql_without_alpha_follows_q_alone_and_without_q_the_flow_alone(problem: Make):
    case = problem(FQL, alpha=0.0, normalise_q=False)
    batch = case.prepared()
    action = case.nets.actor(batch.obs, batch.noise).clamp(-1, 1)
    q = case.nets.critic(batch.obs, action).mean()
    torch.testing.assert_close(case.loss("actor", batch), -q)

    case = problem(FQL, alpha=3.0, normalise_q=False, flow_steps=1)
    for parameter in case.nets.critic.parameters():
        parameter.data.zero_()
    batch = case.prepared()
    goal = euler(case.nets.flow, batch.obs, batch.noise, 1).detach()
    distance = (case.nets.actor(batch.obs, batch.noise) - goal).square().mean()
    torch.testing.assert_close(case.loss("actor", batch), 3 * distance)


def test_fqls_policy_sends_no_gradient_into_its_flow(problem: Make):
    case = problem(FQL)
    loss = case.loss("actor")
    assert gradient(loss, case.nets.actor).any()
    inside = torch.autograd.grad(case.loss("actor"), list(case.nets.flow.parameters()), allow_unused=True)
    assert all(part is None for part in inside)


# IFQL and BFN.


@pytest.mark.parametrize("recipe", [IFQL, BFN])
def test_the_best_of_one_action_is_the_flow(problem: Make, recipe: Any):
    case = problem(recipe, samples=1)
    noise = case.nets.flow.draws[0].expand(64, -1)
    expected = euler(case.nets.flow, case.batch.obs, noise, case.hp.flow_steps)
    torch.testing.assert_close(recipe.act(case.nets, case.batch.obs, case.hp, False), expected)


@pytest.mark.parametrize("recipe", [IFQL, BFN])
def test_more_proposals_are_never_worse(problem: Make, recipe: Any):
    few, many = problem(recipe, samples=1), problem(recipe, samples=16)
    few.nets.flow.draws = many.nets.flow.draws[:1]
    few.nets.load_state_dict(many.nets.state_dict() | {"flow.draws": few.nets.flow.draws})
    obs = few.batch.obs
    values = [case.nets.critic(obs, recipe.act(case.nets, obs, case.hp, False)) for case in (few, many)]
    combine = (lambda q: q.amin(0)) if recipe is IFQL else (lambda q: q.mean(0))
    worse, better = map(combine, values)
    assert (better >= worse - 1e-6).all()
    assert (better > worse + 1e-6).any()


# Two equally good actions, -0.7 and 0.7, and a bad mean: a Gaussian policy must fail, a flow must not.


@pytest.mark.slow
@seeds(3)
@pytest.mark.parametrize(
    ("recipe", "more"),
    [(FQL, {"alpha": 1.0}), (IFQL, {"value_lr": 1e-3}), (BFN, {})],
    ids=["fql", "ifql", "bfn"],
)
def test_a_flow_policy_avoids_the_bad_mean_of_good_actions(recipe: Any, more: Any, seed: int):
    low, high = shares(trained(recipe, seed, 800, **FLOW, **more))
    assert low + high > 0.8  # which of the two is better by a hair, the critics may choose


@pytest.mark.slow
@seeds(3)
def test_a_flow_alone_plays_both_good_actions(seed: int):
    low, high = shares(trained(BFN, seed, 800, samples=1, **FLOW))
    assert min(low, high) > 0.25


@pytest.mark.slow
@seeds(3)
def test_a_gaussian_policy_plays_the_bad_mean_of_good_actions(seed: int):
    low, high = shares(trained(TD3BC, seed, 800, alpha=0.1))
    assert low + high < 0.1
