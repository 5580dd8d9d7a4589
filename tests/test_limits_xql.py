"""XQL's value between the mean and the largest of the data's values, and its loss where exponentials end."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor

from off2on.algorithms.iql import IQL
from off2on.algorithms.xql import XQL, gumbel
from off2on.recipe import losses

Build = Callable[..., Any]


@pytest.mark.parametrize("beta", [0.01, 0.3, 1.0, 1e4])
def test_the_best_constant_is_the_soft_maximum(beta: float):
    """beta log mean exp(q / beta): near the maximum for a small beta, the mean for a large one."""
    q, value = tensor([1.0, 2.0, 4.0, 4.5]).double(), nn.Parameter(tensor(3.0).double())
    optimizer = torch.optim.Adam([value], 0.05)
    for number in range(3000):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - number / 3000)
        optimizer.zero_grad()
        gumbel((q - value) / beta, math.inf).backward()
        optimizer.step()
    soft = beta * (torch.logsumexp(q / beta, 0) - math.log(4))
    assert value.item() == pytest.approx(float(soft), abs=1e-3)
    if beta == 0.01:
        assert value.item() == pytest.approx(4.5, abs=0.02)
    if beta == 1e4:
        assert value.item() == pytest.approx(float(q.mean()), abs=1e-3)


def test_the_loss_by_hand():
    """Errors 1 and -2: M = 1, so that the mean of e^u - u - 1 is divided by e."""
    u = tensor([1.0, -2.0])
    expected = ((math.e - 2) + (math.exp(-2) + 1)) / 2 / math.e
    assert gumbel(u, 7.0).item() == pytest.approx(expected)
    low = tensor([-3.0, -4.0])  # the largest is below -1: M = -1
    expected = ((math.exp(-3) + 2) + (math.exp(-4) + 3)) / 2 * math.e
    assert gumbel(low, 7.0).item() == pytest.approx(expected)


def gradient_of(error: Tensor, largest: float) -> Tensor:
    error = error.clone().requires_grad_()
    return torch.autograd.grad(gumbel(error, largest), error)[0]


def test_huge_errors_keep_the_loss_finite_and_those_beyond_the_clip_do_not_count():
    error = tensor([500.0, 3.0, -500.0])
    assert gumbel(error, math.inf).isfinite()
    found = gradient_of(error, 7.0)
    assert found.isfinite().all()
    assert found[0] == 0
    assert found[1] > 0 > found[2]


def test_a_large_temperature_regresses_on_the_mean():
    """For u near 0 the loss is u^2 / 2: IQL's with tau = 1/2, in another unit."""
    difference, beta = torch.randn(64, dtype=torch.float64), 1e5
    torch.testing.assert_close(
        gumbel(difference / beta, 7.0) * beta**2, losses.expectile(difference, 0.5), rtol=1e-3, atol=0
    )


def test_a_large_huber_bound_is_half_of_iqls_squared_error(problem: Build):
    xql, iql = problem(XQL, huber=1e6), problem(IQL)
    iql.nets.value.mlp = xql.nets.value.mlp
    iql.nets.critic.load_state_dict(xql.nets.critic.state_dict())
    iql.batch = xql.batch
    torch.testing.assert_close(2 * xql.loss("critic"), iql.loss("critic"))


def test_without_uniform_actions_no_random_number_is_drawn(problem: Build):
    case = problem(XQL)
    before = torch.get_rng_state()
    XQL.prepare(case.nets, case.batch, case.hp)
    assert torch.equal(torch.get_rng_state(), before)
    with_them = problem(XQL, uniform_actions=3).prepared()
    assert with_them.uniform_q.shape == (3, 64)
