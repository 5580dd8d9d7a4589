"""FAN at the ends of its dials, and where a Gaussian policy must fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor
from toy_bandit import FLOW, seeds, shares, trained

from off2on.algorithms.fan import FAN
from off2on.recipe.flows import anchor, euler
from off2on.recipe.networks import Critic

Make = Callable[..., Any]


def constant(value: Tensor) -> Callable[..., Tensor]:
    """A field with the same velocity everywhere."""
    return lambda obs, point, time: value.expand_as(point)


def silence(network: torch.nn.Module) -> None:
    """Make a network return 0."""
    for parameter in network.parameters():
        parameter.data.zero_()


# The anchor.


def test_the_end_of_a_straight_flow_has_no_anchor_at_any_time():
    obs, noise, velocity = torch.zeros(8, 2), 0.1 * torch.randn(8, 3), torch.tensor([0.2, -0.3, 0.4])
    action = euler(constant(velocity), obs, noise, 10)
    for time in (torch.zeros(8, 1), torch.rand(8, 1), torch.ones(8, 1)):
        apart = anchor(constant(velocity), obs, action, noise, time)
        torch.testing.assert_close(apart, torch.zeros(8, 3), atol=1e-6, rtol=0)
        beside = anchor(constant(velocity), obs, action + 0.5, noise, time)
        torch.testing.assert_close(beside, torch.full((8, 3), 0.5))


def test_the_anchor_sees_the_point_and_the_time_between_noise_and_action():
    seen = []

    def field(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        seen.extend((point, time))
        return torch.zeros_like(point)

    apart = anchor(
        field, torch.zeros(1, 2), torch.tensor([[0.5]]), torch.tensor([[-1.5]]), torch.tensor([[0.25]])
    )
    assert [value.item() for value in (*seen, apart)] == [-1.0, 0.25, 2.0]


# The losses.


def test_without_alpha1_the_policy_follows_values_alone_and_without_values_the_flow_alone(problem: Make):
    case = problem(FAN, alpha1=0.0, normalise_q=False)
    batch = case.prepared()
    action = case.nets.actor(batch.obs, batch.noise).clamp(-1, 1)
    q = case.nets.critic(batch.obs, action, batch.actor_q_noise).mean()
    torch.testing.assert_close(case.loss("actor", batch), -q - case.nets.upper(batch.obs, action).mean())

    case = problem(FAN, alpha1=3.0, normalise_q=False)
    silence(case.nets.critic)
    silence(case.nets.upper)
    batch = case.prepared()
    action = case.nets.actor(batch.obs, batch.noise)
    apart = anchor(case.nets.flow, batch.obs, action, batch.noise, batch.anchor_time)
    torch.testing.assert_close(case.loss("actor", batch), 3 * apart.square().mean())


def test_the_policy_is_moved_through_the_flow_but_the_flow_is_not(problem: Make):
    """The flow's velocity depends on the action that it is anchored to."""
    case = problem(FAN, alpha1=1.0, normalise_q=False)
    silence(case.nets.critic)
    silence(case.nets.upper)
    batch = case.prepared()
    action = case.nets.actor(batch.obs, batch.noise)
    with torch.no_grad():
        point = torch.lerp(batch.noise, action, batch.anchor_time)
        velocity = case.nets.flow(batch.obs, point, batch.anchor_time)
    held = (action - batch.noise - velocity).square().mean()
    whole = gradient(case.loss("actor", batch), case.nets.actor)
    assert not torch.allclose(whole, gradient(held, case.nets.actor), rtol=1e-3)


def test_without_alpha2_the_target_is_the_upper_value_and_the_penalty_is_taken_from_it(problem: Make):
    free, bound = problem(FAN, alpha2=0.0), problem(FAN, alpha2=2.0)
    batch, penalised = free.prepared(), bound.prepared()
    action = free.nets.actor(batch.next_obs, batch.next_noise).clamp(-1, 1)
    value = free.nets.upper(batch.next_obs, action).mean(0)
    torch.testing.assert_close(batch.target, batch.reward + free.hp.discount * batch.mask * value)
    assert (penalised.penalty > 0).all()
    taken = free.hp.discount * batch.mask * penalised.penalty
    torch.testing.assert_close(penalised.target, batch.target - taken)
    assert bound.recipe.scale_regularisation(bound.hp, 0.0).alpha2 == 0


def test_at_half_the_expectile_critics_that_ignore_noise_are_regressed_as_without_it(problem: Make):
    case = problem(FAN, expectile=0.5, alpha2=0.0)
    nets, batch, hp = case.nets, case.batch, case.hp
    for critic in (nets.critic, nets.target.critic):
        critic.layers[0].weight.data[..., -batch.action.shape[-1] :] = 0
    batch = case.prepared()
    goal, upper = nets.target.critic(batch.obs, batch.action).mean(0), nets.upper(batch.obs, batch.action)
    torch.testing.assert_close(case.loss("upper", batch), 0.5 * (goal - upper).square().mean())
    q = nets.critic(batch.obs, batch.action)
    action = nets.actor(batch.next_obs, batch.next_noise).clamp(-1, 1)
    future = nets.upper(batch.next_obs, action).mean(0).detach()
    target = batch.reward + hp.discount * batch.mask * future
    torch.testing.assert_close(case.loss("critic", batch), (q - target).square().mean() * len(q))


def test_critics_that_ignore_noise_are_plain_critics(problem: Make):
    case = problem(FAN)
    obs, action, width = case.batch.obs, case.batch.action, case.batch.action.shape[-1]
    noisy = case.nets.critic
    plain = Critic(obs.shape[-1], width, (32, 32), layer_norm="after", activation="gelu")
    weights = dict(noisy.state_dict())
    weights["layers.0.weight"] = weights["layers.0.weight"][..., :-width]
    plain.load_state_dict(weights)
    assert not torch.allclose(noisy(obs, action, torch.randn_like(action)), plain(obs, action), atol=1e-3)
    torch.testing.assert_close(noisy(obs, action), plain(obs, action))
    several = torch.stack((action, -action))
    torch.testing.assert_close(noisy(obs, several), plain(obs, several))


# Two equally good actions and a bad mean.


@pytest.mark.slow
@seeds(3)
def test_fan_avoids_the_bad_mean_of_good_actions(seed: int):
    low, high = shares(trained(FAN, seed, 800, upper_lr=1e-3, flow_lr=FLOW["flow_lr"]))
    assert low + high > 0.8
