"""Critic heads by hand: errors, values and projections, and what they become at one end of their dials."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from off2on.recipe import losses
from off2on.recipe.critic_heads import C51, HLGauss, Prediction, Quantiles, values_of
from off2on.recipe.discrete import ActionValues, ValuesAndPolicy, value_of_action
from off2on.recipe.networks import Critic
from off2on.recipe.return_distribution import ReturnDistribution

CENTRES = tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
HISTOGRAM, ATOMS = HLGauss(5, -2.5, 2.5), C51(5, -2.0, 2.0)
"""Both with the points -2, -1, 0, 1, 2."""


def coin(*returns: float) -> ReturnDistribution:
    """Returns of equal probability."""
    return ReturnDistribution(tensor(returns), torch.full((len(returns),), 1 / len(returns)))


# HL-Gauss.


def test_a_histogram_holds_the_mass_of_a_gaussian_in_each_bin():
    found = HLGauss(3, 0.0, 3.0).histogram(tensor(1.2))
    # A table of Phi at -1.6, -0.2667, 1.0667 and 2.4, the ends of the bins in standard deviations of 0.75.
    edges = [0.0548, 0.3949, 0.8569, 0.9918]
    mass = [(high - low) / (edges[3] - edges[0]) for low, high in pairwise(edges)]
    assert found.tolist() == pytest.approx(mass, abs=2e-4)


@pytest.mark.parametrize("place", [0.0, -0.5, 0.25])
def test_the_mean_of_a_histogram_is_its_value_far_from_the_ends(place: float):
    """At a centre by symmetry; between centres nearly, as the bell is smooth."""
    head = HLGauss(101, -50.5, 50.5)
    value = tensor([-20.0, 0.0, 7.0, 30.0]) + place
    found = (head.histogram(value) * torch.linspace(-50, 50, 101)).sum(-1)
    torch.testing.assert_close(found, value, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        head.value(head.histogram(value).clamp(min=1e-30).log()), value, rtol=0, atol=1e-4
    )


def test_the_middle_of_a_small_histogram_is_exact():
    assert (HISTOGRAM.histogram(tensor(0.0)) * CENTRES).sum().item() == pytest.approx(0, abs=1e-6)


def test_values_beyond_the_range_are_those_of_its_ends():
    for head in (HISTOGRAM, ATOMS):
        ends = tensor([head.low, head.high])
        logits = torch.randn(1, 2, 5)
        far = head.error(logits, tensor([-100.0, 100.0]))
        torch.testing.assert_close(head.error(logits, ends), far)
        assert far.isfinite().all()


def test_cross_entropy_is_least_at_the_targets_own_histogram():
    target = tensor([0.3, -1.7, 2.2])
    logits = HISTOGRAM.histogram(target).log().unsqueeze(0).requires_grad_()
    error = HISTOGRAM.error(logits, target).sum()
    (slope,) = torch.autograd.grad(error, logits)
    assert slope.abs().max() < 1e-6
    assert HISTOGRAM.error(logits + torch.randn(1, 3, 5), target).sum() > error


def test_cross_entropy_by_hand():
    """Uniform logits: log 5, whatever the target; a certain one: minus the log of its bin's mass."""
    target = tensor([[0.3, 9.0]])
    for head in (HISTOGRAM, ATOMS):
        assert head.error(torch.zeros(1, 2, 5), target).tolist()[0] == pytest.approx([math.log(5)] * 2)
    logits = tensor([[[0.0, 0.0, 0.0, math.log(4), 0.0]]])  # shares 1/8, 1/8, 1/8, 1/2, 1/8
    # A return of 0.5 is half atom 0, half atom 1.
    expected = 0.5 * math.log(8) + 0.5 * math.log(2)
    assert ATOMS.error(logits, tensor([0.5])).item() == pytest.approx(expected)
    assert ATOMS.value(logits).item() == pytest.approx((-2 - 1 + 2) / 8 + 1 / 2)
    assert HISTOGRAM.value(logits).item() == pytest.approx((-2 - 1 + 2) / 8 + 1 / 2)


# C51.


def test_the_projection_of_an_atom_is_that_atom():
    for number, atom in enumerate(CENTRES):
        expected = [float(number == place) for place in range(5)]
        assert ATOMS.project(coin(atom.item())).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_projection_divides_a_return_between_its_neighbours():
    found = ATOMS.project(ReturnDistribution(tensor([-1.75, 0.5, 7.0]), tensor([0.4, 0.2, 0.4])))
    assert found.tolist() == pytest.approx([0.3, 0.1, 0.1, 0.1, 0.4], abs=1e-6)


def test_the_projection_keeps_the_mean_within_the_range():
    shares = torch.rand(64, 7).softmax(-1)
    target = ReturnDistribution(4 * torch.rand(64, 7) - 2, shares)
    found = ATOMS.project(target)
    torch.testing.assert_close(found.sum(-1), torch.ones(64))
    torch.testing.assert_close((found * CENTRES).sum(-1), target.value)


def test_the_projection_of_atoms_without_discount_is_no_change():
    logits = torch.randn(2, 8, 5)
    torch.testing.assert_close(ATOMS.project(ATOMS.future(logits)), logits.softmax(-1))


# Quantiles.


def test_one_quantile_learns_by_half_of_hubers_error():
    quantiles, target = 3 * torch.randn(2, 64, 1), 3 * torch.randn(64)
    q = quantiles.squeeze(-1)
    for weight in (None, torch.rand(64)):
        found = losses.td(Prediction(quantiles, Quantiles(1)), target, weight)
        torch.testing.assert_close(2 * found, losses.huber_td(q, target, weight))


def test_within_one_of_the_target_one_quantile_learns_by_a_quarter_of_the_square():
    q = torch.rand(2, 64) - 0.5
    found = losses.td(Prediction(q.unsqueeze(-1), Quantiles(1)), torch.zeros(64))
    torch.testing.assert_close(4 * found, losses.td(q, torch.zeros(64)))


def test_quantile_huber_by_hand():
    """Levels 1/4 and 3/4; gaps of the target 1 are 0.5 and -2, of the target 3 they are 2.5 and 0."""
    head, quantiles = Quantiles(2), tensor([[[0.5, 3.0]]])
    one = 0.25 * 0.125 + 0.25 * 1.5
    other = 0.25 * 2.0 + 0.0
    assert head.error(quantiles, tensor([1.0])).item() == pytest.approx(one)
    assert head.error(quantiles, tensor([3.0])).item() == pytest.approx(other)
    both = ReturnDistribution(tensor([[1.0, 3.0]]), tensor([[0.25, 0.75]]))
    assert head.error(quantiles, both).item() == pytest.approx(0.25 * one + 0.75 * other)
    assert head.value(quantiles).item() == 1.75


def test_quantiles_learn_the_quantiles_of_a_die():
    """Far from Huber's bound, the loss is that of quantile regression: levels 1/6, 1/2, 5/6 of 10 … 60."""
    quantiles = torch.zeros(1, 1, 3, requires_grad=True)
    die = ReturnDistribution(10.0 * torch.arange(1, 7).view(1, 6), torch.full((1, 6), 1 / 6))
    optimizer = torch.optim.Adam([quantiles], lr=0.5)
    for _ in range(1500):
        optimizer.zero_grad()
        Quantiles(3).error(quantiles, die).sum().backward()
        optimizer.step()
    low, middle, high = quantiles.flatten().tolist()
    assert 9 < low < 21  # anything between the two is a quantile of the level 1/6
    assert 29 < middle < 41
    assert 49 < high < 61


@pytest.mark.parametrize("head", [Quantiles(4), ATOMS])
def test_a_number_is_the_distribution_with_that_return_alone(head: Any):
    outputs, value = torch.randn(2, 6, head.outputs), torch.randn(6)
    target = ReturnDistribution(value.unsqueeze(-1).expand(6, 3), torch.full((6, 3), 1 / 3))
    torch.testing.assert_close(head.error(outputs, value), head.error(outputs, target))
    each = torch.randn(2, 6)
    alone = torch.stack([head.error(outputs[member : member + 1], each[member])[0] for member in range(2)])
    torch.testing.assert_close(head.error(outputs, each), alone)


# Distributions of the return.


def random_returns(*shape: int) -> ReturnDistribution:
    return ReturnDistribution(torch.randn(*shape), torch.randn(*shape).softmax(-1))


def test_shifts_and_discounts_of_returns_are_those_of_their_means():
    future, reward, mask, cost = random_returns(3, 8, 5), torch.randn(8), torch.rand(8), torch.randn(8)
    target = reward + 0.9 * mask * (future.amin(0) - cost)
    torch.testing.assert_close(target.value, reward + 0.9 * mask * (future.value.amin(0) - cost))
    torch.testing.assert_close((future * mask + reward).value, future.value * mask + reward)


@pytest.mark.parametrize("combine", ["amin", "amax"])
@pytest.mark.parametrize("dim", [0, 1])
def test_the_minimum_is_the_member_of_the_smallest_mean(combine: str, dim: int):
    many = random_returns(3, 4, 8, 5)
    found = getattr(many, combine)(dim)
    torch.testing.assert_close(found.value, getattr(many.value, combine)(dim))
    members = [many[number] if dim == 0 else many[:, number] for number in range(3 if dim == 0 else 4)]
    for row in range(8):
        candidates = [each.returns[..., row, :] for each in members]
        assert all(
            any(torch.equal(chosen, each[place]) for each in candidates)
            for place, chosen in enumerate(found.returns[..., row, :])
        )


def test_the_mean_of_members_is_their_mixture():
    many = random_returns(3, 8, 5)
    found = many.mean(0)
    assert found.returns.shape == (8, 15)
    torch.testing.assert_close(found.probabilities.sum(-1), torch.ones(8))
    torch.testing.assert_close(found.value, many.value.mean(0))
    second = (many.probabilities * many.returns.square()).sum(-1).mean(0)
    torch.testing.assert_close((found.probabilities * found.returns.square()).sum(-1), second)


@pytest.mark.parametrize("name", losses.AGGREGATES)
def test_combinations_of_critics_have_the_values_of_combined_values(name: str):
    many = random_returns(4, 8, 5)
    found: Any = losses.aggregate(many, name, 0.7)  # type: ignore[arg-type]
    torch.testing.assert_close(found.value, losses.aggregate(many.value, name, 0.7))
    torch.testing.assert_close(losses.weighted_pair(many).value, losses.weighted_pair(many.value))


def test_values_of_all_three():
    logits = torch.randn(2, 3, 5)
    value = ATOMS.value(logits)
    assert values_of(value) is value
    torch.testing.assert_close(values_of(Prediction(logits, ATOMS)), value)
    torch.testing.assert_close(values_of(ATOMS.future(logits)), value)


# Critics with a head.

HEADS = [HLGauss(7, -3.0, 3.0), Quantiles(7), C51(7, -3.0, 3.0)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layer_norm", [None, "before", "after"])
def test_all_ways_to_evaluate_a_critic_agree(head: Any, layer_norm: Any):
    critic = Critic(5, 3, (16, 8), 4, layer_norm, head=head)
    obs, actions = torch.randn(6, 5), torch.rand(2, 6, 3)
    many = critic(obs, actions)
    assert many.shape == (4, 2, 6)
    for number, action in enumerate(actions):
        q = critic(obs, action)
        torch.testing.assert_close(many[:, number], q)
        prediction, future = critic.predict(obs, action), critic.future(obs, action)
        assert prediction.outputs.shape == (4, 6, 7)
        torch.testing.assert_close(prediction.value, q)
        torch.testing.assert_close(prediction.detach(), q.detach())
        torch.testing.assert_close(values_of(future), q)
        torch.testing.assert_close(critic.first(obs, action), q[0])
        chosen = tensor([2, 0])
        torch.testing.assert_close(values_of(critic.subset(obs, action, chosen)), q[chosen])
        again, slope = critic.with_action_gradient(obs, action)
        moved = action.clone().requires_grad_()
        torch.testing.assert_close(values_of(again), q)
        torch.testing.assert_close(slope.sum(0), torch.autograd.grad(critic(obs, moved).sum(), moved)[0])


@pytest.mark.parametrize("head", HEADS)
def test_discrete_critics_select_the_outputs_of_an_action(head: Any):
    obs, action = torch.randn(6, 5), torch.randint(4, (6,)).float()
    critic = ValuesAndPolicy(5, 4, (8,), 3, head=head)
    q = critic(obs)
    assert q.shape == (3, 6, 4)
    expected = value_of_action(q, action)
    prediction, future = critic.predict(obs), critic.future(obs)
    assert isinstance(prediction, Prediction)
    assert prediction.shape == q.shape
    torch.testing.assert_close(value_of_action(prediction, action).value, expected)
    torch.testing.assert_close(values_of(value_of_action(future, action)), expected)
    torch.testing.assert_close(critic.values_and_logits(obs)[0], q)


def test_without_a_head_nothing_is_wrapped():
    critic, values = Critic(5, 3, (8,)), ActionValues(5, 4, (8,))
    obs, action = torch.randn(6, 5), torch.rand(6, 3)
    q = critic(obs, action)
    assert torch.equal(critic.predict(obs, action), q)  # type: ignore[arg-type]
    assert torch.equal(critic.future(obs, action), q)  # type: ignore[arg-type]
    assert torch.equal(values.predict(obs), values(obs))  # type: ignore[arg-type]
    assert critic.layers[-1].bias.shape == (2, 1, 1)


def narrow(q: Tensor) -> Tensor:
    """Logits of a histogram with the mean q."""
    return HLGauss(101, -50.5, 50.5).histogram(q).clamp(min=1e-30).log()


def test_the_error_of_a_head_counts_by_its_weight_and_sums_over_members():
    q, target = 3 * torch.randn(2, 4), torch.randn(4)
    prediction = Prediction(narrow(q), HLGauss(101, -50.5, 50.5))
    each = prediction.error(target)
    weight = torch.rand(4)
    torch.testing.assert_close(losses.td(prediction, target, weight), (weight * each).sum() / 4)
    torch.testing.assert_close(losses.huber_td(prediction, target), each.sum() / 4)
    torch.testing.assert_close(prediction.value, q, rtol=0, atol=1e-4)
