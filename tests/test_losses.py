"""Golden numbers made by hand, and the direction in which each loss pushes.

The networks of the second half have weights simple enough for paper and pencil (the critics have one
hidden unit, a + 1, which is never negative):

    Q_1(s, a) = 2a + 1,  Q_2(s, a) = 4a - 0.5,  pi(s) = 0.5,  V(s) = 0.5
    data: a = 0.5 and -0.5, so Q_1 = 2, 0 and Q_2 = 1.5, -2.5; r = 1, 0; the second transition is terminal
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor

from off2on.algorithms.bc import BC
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe import losses
from off2on.recipe.actors import DeterministicActor, GaussianActor, SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.networks import Critic, Nets, Scalar, Value

HALF_LOG_2PI = 0.9189385332


def test_td_sums_over_members_and_averages_over_the_batch():
    q = tensor([[1.0, 2.0], [3.0, 5.0]])  # errors -1, 0, 1, 3: 11 over a batch of 2
    assert losses.td(q, tensor([2.0, 2.0])) == 5.5
    assert losses.td(q, tensor([[1.0, 2.0], [3.0, 4.0]])) == 0.5  # a target for each member


def test_critics_are_combined_by_mean_minimum_or_mean_minus_deviations():
    q = tensor([[1.0, 2.0], [4.0, 2.0], [1.0, 2.0]])  # means 2 and 2, deviations sqrt(6 / 3) and 0
    assert losses.aggregate(q, "mean", 0.5).tolist() == [2.0, 2.0]
    assert losses.aggregate(q, "min", 0.5).tolist() == [1.0, 2.0]
    assert losses.aggregate(q, "pessimistic", 0.5).tolist() == pytest.approx([2 - 0.5 * math.sqrt(2), 2.0])
    assert torch.equal(losses.aggregate(q, "pessimistic", 0.0), losses.aggregate(q, "mean", 0.5))
    # one deviation below the mean of two critics is the smaller one
    pair = torch.randn(2, 5, 8)
    torch.testing.assert_close(losses.aggregate(pair, "pessimistic", 1.0), losses.aggregate(pair, "min", 1.0))


def test_expectile_weighs_a_prediction_below_its_target_more():
    low, high = tensor([2.0]), tensor([-2.0])  # target minus prediction
    assert losses.expectile(low, 0.9).item() == pytest.approx(3.6)
    assert losses.expectile(high, 0.9).item() == pytest.approx(0.4)
    assert losses.expectile(torch.cat((low, high)), 0.9).item() == pytest.approx(2.0)


def test_the_expectile_of_a_coin_is_tau():
    # d/dv [ tau (1 - v)^2 + (1 - tau) v^2 ] = 0 at v = tau
    value = tensor(0.9, requires_grad=True)
    losses.expectile(tensor([0.0, 1.0]) - value, 0.9).backward()
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(0, abs=1e-7)


def test_advantage_weights_are_exponential_and_bounded():
    log_prob, advantage = tensor([-1.0, -2.0]), tensor([0.0, math.log(2)])
    assert losses.advantage_weighted(log_prob, advantage, 1.0, 100.0).item() == pytest.approx(2.5)
    assert losses.advantage_weighted(log_prob, advantage, 2.0, 100.0).item() == pytest.approx(4.5)
    assert losses.advantage_weighted(log_prob, advantage, 1.0, 1.5).item() == pytest.approx(2.0)
    assert losses.advantage_weighted(log_prob, advantage, 0.0, 100.0).item() == pytest.approx(1.5)


def test_advantage_weighting_raises_the_likelihood_of_the_better_action_and_leaves_the_advantage_alone():
    log_prob = tensor([-1.0, -1.0], requires_grad=True)
    advantage = tensor([1.0, -1.0], requires_grad=True)
    losses.advantage_weighted(log_prob, advantage, 3.0, 100.0).backward()
    assert log_prob.grad is not None
    assert log_prob.grad[0] < log_prob.grad[1] < 0
    assert advantage.grad is None


def test_temperature_in_both_forms():
    # E[log pi] = 0 and H = -2: the entropy 0 is above its target, so alpha must fall
    log_alpha, log_prob = tensor(math.log(3)), tensor([-1.0, 1.0])
    assert losses.temperature(log_alpha, log_prob, -2.0, "log").item() == pytest.approx(2 * math.log(3))
    assert losses.temperature(log_alpha, log_prob, -2.0, "alpha").item() == pytest.approx(6.0)


@pytest.mark.parametrize("form", ["log", "alpha"])
@pytest.mark.parametrize(("entropy", "sign"), [(-3.0, -1), (1.0, 1)])
def test_alpha_grows_while_the_entropy_is_below_its_target(form: str, entropy: float, sign: int):
    log_alpha = tensor(math.log(3), requires_grad=True)
    log_prob = tensor([-entropy], requires_grad=True)
    losses.temperature(log_alpha, log_prob, -1.0, form).backward()
    assert log_alpha.grad is not None
    # H = -1, so the distance is 2 either way; the forms differ by the factor alpha = 3
    assert log_alpha.grad.item() == pytest.approx(sign * 2 * (3 if form == "alpha" else 1))
    assert log_prob.grad is None


def test_density_ratio_by_hand():
    # -log(2/4) = log 2 decreased, log(6/4) increased
    assert losses.density_ratio(tensor([3.0]), tensor([3.0])).item() == pytest.approx(
        math.log(2) - math.log(1.5)
    )
    assert losses.density_ratio(tensor([1.0]), tensor([1.0])).item() == pytest.approx(0, abs=1e-6)
    assert math.isfinite(losses.density_ratio(tensor([0.0]), tensor([0.0])))


def test_the_density_ratio_is_lowest_at_online_over_offline():
    # p_offline = (3/4, 1/4), p_online = (1/4, 3/4): w = (1/3, 3)
    ratio = tensor([1 / 3, 3.0], requires_grad=True)
    losses.density_ratio(ratio[tensor([0, 0, 0, 1])], ratio[tensor([0, 1, 1, 1])]).backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == pytest.approx([0, 0], abs=1e-6)
    # and elsewhere it pushes offline down, online up
    ratio = tensor([1.0, 1.0], requires_grad=True)
    losses.density_ratio(ratio[:1], ratio[1:]).backward()
    assert ratio.grad is not None
    assert ratio.grad[0] > 0 > ratio.grad[1]


# The recipes' losses, with linear networks.


def affine(layer: nn.Module, weight: list[list[float]], bias: list[float]) -> None:
    """Set a layer's weights: Linear takes [out, in], an ensemble's [E, 1, in]."""
    with torch.no_grad():
        layer.weight.copy_(tensor(weight).reshape(layer.weight.shape))
        layer.bias.copy_(tensor(bias).reshape(layer.bias.shape))


def linear_critic() -> Critic:
    critic = Critic(1, 1, (1,))
    affine(critic.layers[0], [[0.0, 1.0], [0.0, 1.0]], [1.0, 1.0])
    affine(critic.layers[1], [[2.0], [4.0]], [-1.0, -4.5])
    return critic


def constant(network: Any, *values: float) -> Any:
    affine(network.mlp[0], [[0.0]] * len(values), list(values))
    return network


def hp(recipe: Any, **values: Any) -> Any:
    return recipe.Hyperparameters(discount=0.5, **values)


@pytest.fixture
def batch() -> Batch:
    return Batch(
        obs=tensor([[0.3], [-0.7]]),
        action=tensor([[0.5], [-0.5]]),
        reward=tensor([1.0, 0.0]),
        next_obs=tensor([[0.1], [0.2]]),
        mask=tensor([1.0, 0.0]),
    )


def close(loss: tuple[Tensor, Any], expected: float) -> None:
    assert loss[0].item() == pytest.approx(expected, rel=1e-5)


def test_bc(batch: Batch):
    nets = Nets(actor=constant(DeterministicActor(1, 1, ()), math.atanh(0.5)))
    close(BC.compute_actor_loss(nets, batch, hp(BC)), 0.5)  # (0 + 1) / 2


def test_td3_bc(batch: Batch):
    actor = constant(DeterministicActor(1, 1, ()), math.atanh(0.5))
    nets = Nets(critic=linear_critic(), actor=actor, targets=("critic", "actor"))
    # cloning 0.5; Q_1(pi) = 2 everywhere, so lambda = 2.5 / 2 and the first term is -2.5
    close(TD3BC.compute_actor_loss(nets, batch, hp(TD3BC)), 0.5 - 2.5)
    # target: 1 + 0.5 min(2, 1.5) = 1.75 and 0; errors 0.25, 0 and -0.25, -2.5
    close(TD3BC.compute_critic_loss(nets, batch, hp(TD3BC, target_noise=0.0)), 6.375 / 2)


def test_td3_bc_uses_the_size_of_q_not_its_sign(batch: Batch):
    # pi = -1: Q_1 = -1, lambda = 2.5, cloning (2.25 + 0.25) / 2
    actor = constant(DeterministicActor(1, 1, ()), -20.0)
    nets = Nets(critic=linear_critic(), actor=actor, targets=("critic", "actor"))
    close(TD3BC.compute_actor_loss(nets, batch, hp(TD3BC)), 1.25 + 2.5)


def test_td3_bc_bounds_the_targets_noise_and_its_action(batch: Batch):
    # Noise of a huge sigma is always clipped: a' = 0.5 ± 0.25 without the box, then the box at 1.
    actor = constant(DeterministicActor(1, 1, ()), math.atanh(0.5))
    nets = Nets(critic=linear_critic(), actor=actor, targets=("critic", "actor"))
    targets = set()
    for seed in range(8):
        torch.manual_seed(seed)
        loss, _ = TD3BC.compute_critic_loss(nets, batch, hp(TD3BC, target_noise=1e6, noise_clip=0.25))
        targets.add(round(loss.item(), 4))
    # a' = 0.75 → min(2.5, 2.5), target 2.25;  a' = 0.25 → min(1.5, 0.5), target 1.25
    up, down = (0.0625 + 0.5625 + 6.25) / 2, (0.5625 + 0.0625 + 6.25) / 2
    assert targets == {round(up, 4), round(down, 4)}
    torch.manual_seed(0)
    loss, _ = TD3BC.compute_critic_loss(nets, batch, hp(TD3BC, target_noise=1e6, noise_clip=1e6))
    up, down = (1.5 + 0.5) ** 2, (4.25) ** 2  # a' = 1: 1 + 0.5 · 3 = 2.5;  a' = -1: 1 - 0.5 · 4.5 = -1.25
    at_one, at_minus_one = (0.25 + 1 + 6.25) / 2, (3.25**2 + 2.75**2 + 6.25) / 2
    assert round(loss.item(), 4) in {round(at_one, 4), round(at_minus_one, 4)}


def iql_nets() -> Nets:
    return Nets(
        value=constant(Value(1, ()), 0.5),
        actor=constant(GaussianActor(1, 1, ()), math.atanh(0.5)),
        critic=linear_critic(),
        targets=("critic",),
    )


def test_iql(batch: Batch):
    nets = iql_nets()
    batch = IQL.prepare(nets, batch, hp(IQL))
    assert batch.target_q.tolist() == pytest.approx([1.5, -2.5])
    # u = 1, -3 with tau = 0.7
    close(IQL.compute_value_loss(nets, batch, hp(IQL)), (0.7 * 1 + 0.3 * 9) / 2)
    # log pi = -0.919 and -0.5 - 0.919 under N(0.5, 1)
    weights, surprise = (math.e, math.exp(-3)), (HALF_LOG_2PI, HALF_LOG_2PI + 0.5)
    expected = (weights[0] * surprise[0] + weights[1] * surprise[1]) / 2
    close(IQL.compute_actor_loss(nets, batch, hp(IQL, beta=1.0)), expected)
    bounded = (2 * surprise[0] + weights[1] * surprise[1]) / 2
    close(IQL.compute_actor_loss(nets, batch, hp(IQL, beta=1.0, weight_clip=2.0)), bounded)
    # target: 1 + 0.5 · 0.5 = 1.25 and 0; errors -0.75, 0 and -0.25, 2.5
    close(IQL.compute_critic_loss(nets, batch, hp(IQL)), 6.875 / 2)


def test_iql_takes_the_value_from_the_targets_and_not_from_the_critics(batch: Batch):
    nets = iql_nets()
    affine(nets.critic.layers[1], [[9.0], [9.0]], [9.0, 9.0])
    assert IQL.prepare(nets, batch, hp(IQL)).target_q.tolist() == pytest.approx([1.5, -2.5])


def test_iqls_actor_sees_the_value_that_was_just_updated(batch: Batch):
    nets = iql_nets()
    batch = IQL.prepare(nets, batch, hp(IQL))
    affine(nets.value.mlp[0], [[0.0]], [1.5])  # now u = 0, -4
    expected = (HALF_LOG_2PI + math.exp(-4) * (HALF_LOG_2PI + 0.5)) / 2
    close(IQL.compute_actor_loss(nets, batch, hp(IQL, beta=1.0)), expected)


def test_iqls_actor_step_falls_along_half_a_cosine():
    steps = [IQL.lr("actor", IQL.Hyperparameters(), progress) for progress in (0.0, 0.5, 1 - 1e-9)]
    assert steps == pytest.approx([3e-4, 1.5e-4, 0.0])
    assert IQL.lr("actor", IQL.Hyperparameters(), 1.0) == 3e-4  # online
    assert IQL.lr("actor", IQL.Hyperparameters(actor_decay=False), 0.5) == 3e-4
    assert IQL.lr("critic", IQL.Hyperparameters(), 1.0) == 3e-4


def soft_nets(alpha: float) -> Nets:
    return Nets(
        temperature=Scalar(math.log(alpha)),
        multiplier=Scalar(0.0),
        actor=constant(SquashedGaussianActor(1, 1, ()), 0.0, 0.0),
        critic=linear_critic(),
        targets=("critic",),
    )


def test_sac(batch: Batch):
    nets = soft_nets(alpha=2.0)
    batch.own_action, batch.own_log_prob = tensor([[0.5], [-0.5]]), tensor([1.0, 3.0])
    # min Q = 1.5, -2.5
    close(SAC.compute_actor_loss(nets, batch, hp(SAC)), ((2 * 1 - 1.5) + (2 * 3 + 2.5)) / 2)
    close(SAC.compute_temperature_loss(nets, batch, hp(SAC)), -math.log(2) * (2.0 - 1.0))
    close(SAC.compute_temperature_loss(nets, batch, hp(SAC, temperature_form="alpha")), -2 * (2.0 - 1.0))
    close(SAC.compute_temperature_loss(nets, batch, hp(SAC, target_entropy=-5.0)), -math.log(2) * (2.0 - 5.0))
    drawn = tensor([[0.5], [0.5]]), tensor([1.0, 1.0])
    # 1 + 0.5 (1.5 - 2 · 1), and nothing after the end
    assert SAC.soft_target(nets, batch, hp(SAC), *drawn).tolist() == pytest.approx([0.75, 0.0])
    without = SAC.soft_target(nets, batch, hp(SAC, entropy_backup=False), *drawn)
    assert without.tolist() == pytest.approx([1.75, 0.0])


def test_sacs_critic_uses_the_soft_target_of_a_fresh_next_action(batch: Batch):
    nets = soft_nets(alpha=2.0)
    torch.manual_seed(3)
    action, log_prob = nets.actor(batch.next_obs).sample()
    errors = nets.critic(batch.obs, batch.action) - SAC.soft_target(nets, batch, hp(SAC), action, log_prob)
    torch.manual_seed(3)
    close(SAC.compute_critic_loss(nets, batch, hp(SAC)), errors.square().sum().item() / 2)


def test_cql():
    nets = soft_nets(alpha=2.0)
    batch = Batch(
        obs=tensor([[0.3]]),
        action=tensor([[0.5]]),
        reward=tensor([1.0]),
        next_obs=tensor([[0.1]]),
        mask=tensor([1.0]),
    )
    batch.next_sample = tensor([[0.5]]), tensor([1.0])
    # one action of each proposal: 0 with density 1/2, 0.5 and -0.5 with density 1
    batch.proposals = tensor([[[0.0]], [[0.5]], [[-0.5]]]), tensor([[math.log(0.5)], [0.0], [0.0]])
    gap_1 = math.log(2 * math.e**1 + math.e**2 + math.e**0) - 2
    gap_2 = math.log(2 * math.e**-0.5 + math.e**1.5 + math.e**-2.5) - 1.5
    soft = hp(CQL, conservative_weight=3.0, samples=1)
    # target 1 + 0.5 · 1.5 = 1.75 (no entropy term): errors 0.25 and -0.25
    close(CQL.compute_critic_loss(nets, batch, soft), 0.125 + 3 * (gap_1 + gap_2))
    with_entropy = hp(CQL, conservative_weight=3.0, samples=1, entropy_backup=True)
    # target 0.75: errors 1.25 and 0.75
    close(CQL.compute_critic_loss(nets, batch, with_entropy), 2.125 + 3 * (gap_1 + gap_2))


def test_cql_lowers_what_it_proposes_and_raises_the_datas_action():
    nets = soft_nets(alpha=1.0)
    affine(nets.critic.layers[1], [[0.0], [0.0]], [0.0, 0.0])
    batch = Batch(
        obs=tensor([[0.0]]),
        action=tensor([[1.0]]),
        reward=tensor([0.0]),
        next_obs=tensor([[0.0]]),
        mask=tensor([0.0]),
    )
    batch.next_sample = tensor([[0.0]]), tensor([0.0])
    batch.proposals = tensor([[[-1.0]], [[-1.0]], [[-1.0]]]), tensor([[0.0], [0.0], [0.0]])
    loss, _ = CQL.compute_critic_loss(nets, batch, hp(CQL))
    loss.backward()
    # Q grows with the action once this gradient is followed
    assert (nets.critic.layers[1].weight.grad < 0).all()


def test_cqls_proposals_carry_the_densities_they_were_drawn_with():
    torch.manual_seed(0)
    settings = CQL.Hyperparameters(samples=4)
    nets = Nets(temperature=Scalar(0.0), actor=SquashedGaussianActor(5, 3, (16,)), critic=Critic(5, 3, (16,)))
    obs, next_obs = torch.randn(2, 8, 5)
    batch = CQL.prepare(nets, Batch(obs=obs, next_obs=next_obs, action=torch.zeros(8, 3)), settings)
    actions, log_probs = batch.proposals
    assert actions.shape == (12, 8, 3)
    assert log_probs[:4].flatten().tolist() == pytest.approx([3 * math.log(0.5)] * 32)
    assert actions[:4].abs().max() <= 1
    for rows, where in ((slice(4, 8), obs), (slice(8, 12), next_obs)):
        for action, log_prob in zip(actions[rows], log_probs[rows], strict=True):
            torch.testing.assert_close(nets.actor(where).log_prob(action), log_prob, rtol=1e-3, atol=1e-3)
    action, log_prob = batch.next_sample
    torch.testing.assert_close(nets.actor(next_obs).log_prob(action), log_prob, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        nets.actor(obs).log_prob(batch.own_action), batch.own_log_prob, rtol=1e-3, atol=1e-3
    )
    assert not actions.requires_grad
    assert not log_probs.requires_grad
    assert batch.own_action.requires_grad
