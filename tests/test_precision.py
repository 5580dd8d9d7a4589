"""Matrix products in bfloat16: what is rounded, what is not, and that updates are still traced."""

from typing import Any

import pytest
import torch
from real_learners import everything, same

from off2on.algorithms.iql import IQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import HyperparameterError
from off2on.rllib.batched.learners import BatchedLearners
from off2on.rllib.precision import BFLOAT16, FLOAT32, products_in

FINE = 1 + 2.0**-10
"""A number of float32 that bfloat16 rounds to 1."""


def test_factors_and_products_are_rounded_and_biases_are_not():
    one, other = torch.full((2, 3), FINE), torch.ones(3, 2)
    with products_in(BFLOAT16):
        product = one @ other
        biased = torch.addmm(torch.full((2,), FINE), one, other)
        batched = torch.baddbmm(torch.full((1, 2, 2), FINE), one[None], other[None], beta=2)
    assert product.dtype == torch.float32
    assert product.tolist() == [[3.0, 3.0]] * 2
    assert biased.tolist() == [[3.0 + FINE] * 2] * 2
    assert batched.tolist() == [[[3.0 + 2 * FINE] * 2] * 2]


def test_products_of_gradients_are_rounded():
    weight = torch.ones(3, 2, requires_grad=True)
    inputs = torch.full((4, 3), FINE)
    with products_in(BFLOAT16):
        (gradient,) = torch.autograd.grad((inputs @ weight).sum(), weight)
    assert gradient.dtype == torch.float32
    assert gradient.tolist() == [[4.0, 4.0]] * 3


def test_other_operations_and_other_types_are_left_alone():
    fine = torch.full((2, 2), FINE)
    with products_in(BFLOAT16):
        assert torch.equal(fine * 3 + fine, fine.double().mul(3).add(fine.double()).float())
        double = fine.double() @ torch.eye(2, dtype=torch.float64)
    assert torch.equal(double, fine.double())
    with products_in(FLOAT32):
        assert torch.equal(fine @ torch.eye(2), fine)


@pytest.mark.parametrize("recipe", [TD3BC, IQL])
def test_updates_in_bfloat16_are_traced_and_close_to_those_in_float32(build_learner: Any, recipe: Any):
    exact = build_learner(recipe, "wide")
    traced, eager = (build_learner(recipe, "wide", precision=BFLOAT16) for _ in range(2))
    start = {name: value.clone() for name, value in exact.nets.state_dict().items()}
    traced.traced.after, eager.traced.after = 1, 1_000
    for learner in (exact, traced, eager):
        learner.advance(20)
    assert traced.traced.repeated > 10
    assert eager.traced.repeated == 0
    assert same(everything(traced), everything(eager))
    found, expected = (everything(learner)["nets"] for learner in (traced, exact))
    assert not same(found, expected)
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).norm() <= 0.3 * (value - start[name]).norm()


def test_seeds_in_one_program_compute_in_bfloat16_too(build_learner: Any):
    seeds = (3, 4)
    exact, alone, abreast = (
        [build_learner(TD3BC, "wide", seed=seed, **given) for seed in seeds]
        for given in ({}, {"precision": BFLOAT16}, {"precision": BFLOAT16})
    )
    together = BatchedLearners(abreast)
    for one in (*exact, *alone):
        one.advance(5)
    for one in abreast:
        together.advance(one, 5)
    for plain, single, batched in zip(exact, alone, abreast, strict=True):
        for name, value in single.nets.state_dict().items():
            near = (batched.nets.state_dict()[name] - value).norm()
            far = (plain.nets.state_dict()[name] - value).norm()
            assert near <= 0.1 * far, name


def test_another_format_is_refused():
    with pytest.raises(HyperparameterError, match=r"precision must be one of float32, bfloat16: got 'half'"):
        IQL.configure().training(precision="half")
