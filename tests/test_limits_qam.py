"""Adjoint matching held against finite differences and a known optimum, and QAM at the ends of its dials."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor
from toy_bandit import FLOW, seeds, shares, trained

from off2on.algorithms.qam import QAM
from off2on.algorithms.qam_e import QAME
from off2on.algorithms.qam_f import QAMF
from off2on.recipe.adjoint_matching import adjoint_matching, adjoints, random_path
from off2on.recipe.flows import euler

Make = Callable[..., Any]
VARIANTS = pytest.mark.parametrize("recipe", [QAM, QAME, QAMF])


def curved(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
    """A field whose Jacobian depends on state, point and time, and mixes dimensions."""
    return (2 * point.flip(-1) + time + obs).sin() - point * point


# The parts.


def test_a_random_path_by_hand():
    # h = 0.5, f = 3, v = 1: x_1 = 1 + 0.5 (6 - 1 / 0.5) + sqrt(0.5) sqrt(2 · 1.5 / 0.5) 2, x_2 = x_1 + 0.5
    obs, start = torch.zeros(1, 1), torch.ones(1, 1)
    noise = torch.full((1, 1, 1), 2.0)
    points = random_path(lambda *_: 3 * start, lambda *_: start, obs, start, noise)
    expected = [1.0, 3 + 2 * math.sqrt(3), 3.5 + 2 * math.sqrt(3)]
    assert points.flatten().tolist() == pytest.approx(expected)


def test_adjoints_are_the_gradients_of_the_cost_by_finite_differences():
    torch.manual_seed(3)
    steps, obs = 6, torch.randn(1, 2, dtype=torch.float64)

    def cost(action: Tensor) -> Tensor:
        return (3 * action[..., 0].cos() * action[..., 1].exp()).sum()

    def rest(point: Tensor, first: int) -> list[Tensor]:
        points = [point]
        for number in range(first, steps):
            later = (number + 1) / steps
            velocity = 2 * curved(obs, points[-1], torch.full((1, 1), later)) - points[-1] / later
            points.append(points[-1] + velocity / steps)
        return points

    points = rest(torch.randn(1, 2, dtype=torch.float64), 0)
    found = adjoints(curved, obs, torch.stack(points), cost)
    step = 1e-6
    for number in range(steps):
        for dimension in range(2):
            change = torch.zeros(1, 2, dtype=torch.float64)
            change[0, dimension] = step
            up, down = (cost(rest(points[number] + sign * change, number)[-1]) for sign in (1, -1))
            slope = (up - down) / (2 * step)
            torch.testing.assert_close(found[number, 0, dimension], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weight", [0.0, 5.0, -3.0])
def test_the_optimum_of_a_gaussian_is_the_gaussian_weighted_by_the_exponential_of_q(weight: float):
    """Data N(0, 0.2^2) and Q(a) = a: the weighted density is N(0.04 lambda, 0.2^2)."""
    steps, spread = 1000, 0.2

    def slow(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        variance = (1 - time) ** 2 + (time * spread) ** 2
        return (time * spread**2 - (1 - time)) / variance * point

    obs = torch.zeros(1, 1, dtype=torch.float64)
    points = torch.zeros(steps + 1, 1, 1, dtype=torch.float64)
    adjoint = adjoints(slow, obs, points, lambda action: -weight * action.sum())

    def best(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        number = int((time.flatten()[0] * steps).round())
        variance = 2 * (1 - time + 1 / steps) / (time + 1 / steps)
        return slow(obs, point, time) - variance / 2 * adjoint[number]

    noise = torch.randn(20000, 1, dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    end = euler(best, torch.zeros(20000, 1, dtype=torch.float64), noise, steps)
    assert end.mean().item() == pytest.approx(weight * spread**2, abs=0.002)
    assert end.std().item() == pytest.approx(spread, abs=0.002)
    # and that field is the optimum of the loss, at any points
    points = torch.randn(steps + 1, 1, 1, dtype=torch.float64)

    def whole(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        variance = 2 * (1 - time + 1 / steps) / (time + 1 / steps)
        return slow(obs, point, time) - variance / 2 * adjoint

    assert adjoint_matching(whole, slow, obs, points, adjoint) < 1e-20


# QAM.


@VARIANTS
def test_without_a_weight_of_q_the_loss_is_0_where_the_flows_agree(problem: Make, recipe: Any):
    case = problem(recipe, inv_temp=0.0)
    assert case.loss("fast") > 1e-3
    case.nets.fast.load_state_dict(case.nets.target.flow.state_dict())
    loss = case.loss("fast")
    assert loss == 0
    assert not gradient(loss, case.nets.fast).any()


def test_with_a_weight_of_q_the_flow_is_moved(problem: Make):
    case = problem(QAM, inv_temp=1.0)
    case.nets.fast.load_state_dict(case.nets.target.flow.state_dict())
    assert gradient(case.loss("fast"), case.nets.fast).any()


def test_adjoints_grow_with_the_weight_and_are_0_for_actions_outside_the_box(problem: Make):
    one, three = (problem(QAM, inv_temp=weight, flow_steps=10) for weight in (1.0, 3.0))
    for case in (one, three):
        case.nets.target.flow.mlp[-1].bias += 10  # the last step of the paths adds about 1
    batch = one.prepared()
    torch.testing.assert_close(three.prepared().adjoints, 3 * batch.adjoints)
    inside = (batch.points[-1].abs() < 1).all(1)
    outside = (batch.points[-1].abs() > 1).all(1)
    assert inside.sum() > 3
    assert outside.sum() > 3
    assert (batch.adjoints[:, inside].abs().amax((0, 2)) > 0).all()
    assert not batch.adjoints[:, outside].any()


@VARIANTS
@pytest.mark.parametrize("objective", ["flow", "fast"])
def test_a_flow_sends_no_gradient_into_another_network(problem: Make, recipe: Any, objective: str):
    case = problem(recipe)
    others = [name for name in case.nets.names() if name != objective]
    parameters = [one for name in others for one in getattr(case.nets, name).parameters()]
    inside = torch.autograd.grad(case.loss(objective), parameters, allow_unused=True)
    assert all(part is None for part in inside)


def test_gradients_are_limited_together_unless_that_is_turned_off(problem: Make):
    assert QAM.max_joint_gradient_norm(problem(QAM).hp) == 1.0
    assert QAM.max_joint_gradient_norm(problem(QAM, gradient_norm=None).hp) is None


def test_an_edit_of_length_0_is_qam(problem: Make):
    case, qam = problem(QAME, edit_scale=0.0), problem(QAM)
    qam.nets.fast, qam.batch = case.nets.fast, case.batch
    acts = [one.recipe.act(one.nets, case.batch.obs, one.hp, False) for one in (case, qam)]
    torch.testing.assert_close(*acts)
    due = [one.name for one in QAME.objectives_in_order() if QAME.is_due(one, case.hp, 1, 0.5)]
    assert due == ["flow", "fast", "critic"]  # the edits would take a part of the joint limit of gradients


def test_the_policy_in_one_step_is_pulled_to_the_flow_that_is_moved(problem: Make):
    case = problem(QAMF, fql_alpha=3.0, flow_steps=1)
    for parameter in case.nets.critic.parameters():
        parameter.data.zero_()
    batch = case.prepared()
    goal = euler(case.nets.fast, batch.obs, batch.noise, 1).detach()
    distance = (case.nets.actor(batch.obs, batch.noise) - goal).square().mean()
    torch.testing.assert_close(case.loss("actor", batch), 3 * distance)
    assert QAMF.scale_regularisation(case.hp, 0.0).fql_alpha == 0


# Two equally good actions and a bad mean.


@pytest.mark.slow
@seeds(3)
@pytest.mark.parametrize(
    ("recipe", "more"), [(QAM, {}), (QAME, {}), (QAMF, {"fql_alpha": 1.0})], ids=["qam", "qam_e", "qam_f"]
)
def test_qam_avoids_the_bad_mean_of_good_actions(recipe: Any, more: dict[str, Any], seed: int):
    low, high = shares(trained(recipe, seed, 800, critics=2, fast_lr=2e-3, polyak=0.02, **FLOW, **more))
    assert low + high > 0.8
