"""Discrete actions: golden numbers by hand, and the direction in which each loss pushes.

The action values of the second half have weights simple enough for paper and pencil. With one observation
s, never negative, and one hidden unit that passes it on:

    Q(s, ·) = (0, s, 2s)   Q'(s, ·) = (3s, 2s, s)   l(s) = (0, s log 2, -s log 2)
"""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn, tensor

from off2on.algorithms.discrete_bc import DiscreteBC
from off2on.algorithms.discrete_bcq import DiscreteBCQ
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.discrete_sac import DiscreteSAC
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import ActionValues, epsilon_greedy, greedy, greedy_within, value_of_action
from off2on.recipe.distributions import Categorical
from off2on.recipe.networks import Nets

# The pieces.


def test_hubers_error_is_half_the_square_up_to_one_and_linear_beyond():
    q = tensor([[0.5, 3.0], [-2.0, 0.0]], requires_grad=True)  # errors 0.5, 3, -2, 0
    loss = losses.huber_td(q, tensor([0.0, 0.0]))
    assert loss.item() == (0.125 + 2.5 + 1.5) / 2
    (slope,) = torch.autograd.grad(loss, q)
    assert slope.tolist() == [[0.25, 0.5], [-0.5, 0.0]]
    assert losses.huber_td(q, tensor([0.0, 0.0]), tensor([0.0, 2.0])).item() == 2.5
    assert losses.huber_td(q, tensor([0.0, 0.0]), tensor([[1.0, 0.0], [0.0, 1.0]])).item() == 0.0625


def test_an_actions_value_is_picked_from_every_member():
    values = torch.arange(12.0).view(2, 2, 3)
    assert value_of_action(values, tensor([2.0, 0.0])).tolist() == [[2.0, 3.0], [8.0, 9.0]]


def test_the_members_choose_together():
    values = tensor([[[0.0, 3.0, 2.0]], [[0.0, -2.0, 1.0]]])  # means 0, 0.5, 1.5
    assert greedy(values).tolist() == [2]
    assert greedy(values[:1]).tolist() == [1]


def test_an_action_at_the_threshold_is_allowed_and_one_below_is_not():
    # Shares of the most probable action: 1, 0.5, 0.25; the values rise as the probabilities fall.
    logits, values = tensor([[0.0, -math.log(2), -math.log(4)]]), tensor([[[1.0, 2.0, 3.0]]])
    chosen = {tau: greedy_within(values, logits, tau).item() for tau in (0.0, 0.2, 0.3, 0.5, 0.6, 1.0)}
    assert chosen == {0.0: 2, 0.2: 2, 0.3: 1, 0.5: 1, 0.6: 0, 1.0: 0}
    # Only what is allowed counts, however bad it is.
    assert greedy_within(tensor([[[-1e6, 5.0, 9.0]]]), logits, 0.6).item() == 0
    assert greedy_within(values, tensor([[0.0, -1e3, -1e30]]), 0.0).item() == 2


def test_epsilon_is_the_share_of_random_actions():
    best = torch.full((40_000,), 3)
    assert torch.equal(epsilon_greedy(best, 4, 0.0), best)
    counts = torch.bincount(epsilon_greedy(best, 4, 0.2), minlength=4) / 40_000
    # One in four random actions is the best one by chance.
    assert counts.tolist() == pytest.approx([0.05, 0.05, 0.05, 0.85], abs=0.01)
    assert torch.bincount(epsilon_greedy(best, 4, 1.0)).min() > 9_000


def test_a_categorical_distribution():
    policy = Categorical(tensor([[0.0, math.log(3)], [5.0, 5.0]]))
    assert policy.probs.flatten().tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])
    assert policy.log_prob(tensor([1.0, 0.0])).exp().tolist() == pytest.approx([0.75, 0.5])
    assert policy.mode[0] == 1
    assert policy.expect(tensor([[4.0, 8.0], [1.0, 3.0]])).tolist() == pytest.approx([7.0, 2.0])
    drawn = Categorical(tensor([[0.0, math.log(3)]]).expand(20_000, 2)).draw()
    assert drawn.dtype == torch.int64
    assert drawn.float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_an_ensemble_is_its_members():
    values, obs = ActionValues(5, 4, (8, 8), members=3), torch.randn(7, 5)
    together = values(obs)
    assert together.shape == (3, 7, 4)
    for number in range(3):
        x = obs
        for depth, layer in enumerate(values.layers):
            x = nn.functional.linear(x.relu() if depth else x, layer.weight[number], layer.bias[number, 0])
        torch.testing.assert_close(together[number], x)


# The recipes, with linear networks.


def pass_on(layers: Any, last: list[float]) -> None:
    """One hidden unit with the observation's value, then these weights."""
    with torch.no_grad():
        for layer, weight in zip(layers, ([1.0], last), strict=True):
            layer.weight.copy_(tensor(weight).view(-1, 1))
            layer.bias.zero_()


LOGITS = [0.0, math.log(2), -math.log(2)]


def example(recipe: Any, **given: Any) -> tuple[Nets, Batch, Any]:
    """The table's networks, and one transition: s = 1, a = 2, r = 0.25, s' = 2."""
    hp = recipe.Hyperparameters(hidden=(1,), discount=0.5, **given)
    nets = recipe.build_nets(gym.spaces.Box(0, 9, (1,)), gym.spaces.Discrete(3), hp)
    if "critic" in nets.names():
        pass_on(nets.critic.layers, [0.0, 1.0, 2.0])
        pass_on(nets.target.critic.layers, [3.0, 2.0, 1.0])
    if "actor" in nets.names():
        pass_on(list(nets.actor.mlp)[::2], LOGITS)
    batch = Batch(
        obs=tensor([[1.0]]),
        action=tensor([2.0]),
        reward=tensor([0.25]),
        next_obs=tensor([[2.0]]),
        mask=tensor([1.0]),
    )
    return nets, batch, hp


def loss_of(recipe: Any, objective: str, nets: Nets, batch: Batch, hp: Any) -> Tensor:
    prepared = recipe.prepare(nets, Batch(**vars(batch)), hp)
    return getattr(recipe, f"compute_{objective}_loss")(nets, prepared, hp)[0]


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        (DQN, 1.25),  # a' = 0, which Q' values most: 0.25 + 0.5 * 6 - 2
        (DoubleDQN, -0.75),  # a' = 2, which Q values most: 0.25 + 0.5 * 2 - 2
    ],
)
def test_who_chooses_the_next_action(recipe: Any, error: float):
    huber = abs(error) - 0.5 if abs(error) > 1 else 0.5 * error**2
    assert loss_of(recipe, "critic", *example(recipe)).item() == pytest.approx(huber)
    squared = loss_of(recipe, "critic", *example(recipe, td_error="squared"))
    assert squared.item() == pytest.approx(error**2)


@pytest.mark.parametrize(
    ("tau", "error"),
    [
        (0.3, 0.25),  # G(·|s') is as 1 to 4 to 1/4: action 1 alone, 0.25 + 0.5 * 4 - 2
        (0.2, 0.25),  # actions 0 and 1, of which Q prefers 1
        (0.05, -0.75),  # all, of which Q prefers 2
    ],
)
def test_discrete_bcq_bootstraps_from_actions_that_the_data_might_have_taken(tau: float, error: float):
    nets, batch, hp = example(DiscreteBCQ, tau=tau, td_error="squared")
    pass_on([nets.critic.layers[0], nets.critic.imitator[0]], LOGITS)
    clone = math.log(7)  # G(·|s) is as 1 to 2 to 1/2
    logits = 0.01 * 2 * math.log(2) ** 2 / 3
    assert loss_of(DiscreteBCQ, "critic", nets, batch, hp).item() == pytest.approx(error**2 + clone + logits)
    allowed = {0.3: 1, 0.2: 1, 0.05: 2}[tau]
    assert DiscreteBCQ.act(nets, batch.next_obs, hp, False).tolist() == [allowed]


def test_discrete_bc_by_hand():
    expected = math.log(7) + 0.5 * 2 * math.log(2) ** 2 / 3
    nets, batch, hp = example(DiscreteBC, beta=0.5)
    assert loss_of(DiscreteBC, "actor", nets, batch, hp).item() == pytest.approx(expected)
    assert DiscreteBC.act(nets, batch.obs, hp, False).tolist() == [1]


def test_discrete_cql_pushes_down_what_the_data_does_not_do_and_holds_up_what_it_does():
    nets, batch, hp = example(DiscreteCQL, alpha=2.0, td_error="squared")
    gap = math.log(1 + math.e + math.e**2) - 2
    assert loss_of(DiscreteCQL, "critic", nets, batch, hp).item() == pytest.approx(0.75**2 + 2 * gap)
    batch.weight = tensor([0.0])  # no temporal difference: the term alone
    (slope,) = torch.autograd.grad(
        loss_of(DiscreteCQL, "critic", nets, batch, hp), nets.critic.layers[1].bias
    )
    assert (slope[0, 0, :2] > 0).all()
    assert slope[0, 0, 2] < 0
    assert slope.sum().item() == pytest.approx(0, abs=1e-6)


def test_discrete_sac_by_hand():
    nets, batch, hp = example(DiscreteSAC, critics=1, initial_temperature=0.5)
    p = [share / 5.25 for share in (1, 4, 0.25)]  # pi(·|s')
    value = sum(p[a] * (q - 0.5 * math.log(p[a])) for a, q in enumerate((6, 4, 2)))
    error = 0.25 + 0.5 * value - 2
    assert loss_of(DiscreteSAC, "critic", nets, batch, hp).item() == pytest.approx(error**2)
    p = [share / 3.5 for share in (1, 2, 0.5)]  # pi(·|s)
    actor = sum(p[a] * (0.5 * math.log(p[a]) - q) for a, q in enumerate((0, 1, 2)))
    assert loss_of(DiscreteSAC, "actor", nets, batch, hp).item() == pytest.approx(actor)
    entropy = -sum(share * math.log(share) for share in p)
    temperature = math.log(0.5) * (entropy - 0.98 * math.log(3))
    assert loss_of(DiscreteSAC, "temperature", nets, batch, hp).item() == pytest.approx(temperature, rel=1e-4)


def test_discrete_sac_takes_the_smallest_value_of_every_action_before_it_takes_the_mean():
    nets, batch, hp = example(DiscreteSAC, critics=2, initial_temperature=1e-9)
    with torch.no_grad():
        nets.target.critic.layers[1].weight.copy_(tensor([[[3.0], [0.0], [1.0]], [[0.0], [2.0], [1.0]]]))
    p = [share / 5.25 for share in (1, 4, 0.25)]
    error = 0.25 + 0.5 * p[2] * 2 - 2  # the smallest values at s' are 0, 0 and 2
    expected = 2 * error**2  # of both critics
    assert loss_of(DiscreteSAC, "critic", nets, batch, hp).item() == pytest.approx(expected)


@pytest.mark.parametrize(("scale", "sign"), [(0.0, 1), (5.0, -1)])
@pytest.mark.parametrize("form", ["log", "alpha"])
def test_alpha_falls_while_the_policy_is_more_random_than_wanted(scale: float, sign: int, form: str):
    nets, batch, hp = example(DiscreteSAC, temperature_form=form)
    pass_on(list(nets.actor.mlp)[::2], [scale * logit for logit in LOGITS])
    loss = loss_of(DiscreteSAC, "temperature", nets, batch, hp)
    (slope,) = torch.autograd.grad(loss, nets.temperature.value)
    assert math.copysign(1, slope.item()) == sign


# The machine.


def test_the_target_is_a_copy_made_every_so_many_updates(build_learner: Callable[..., Any]):
    learner = build_learner(DQN, target_every=3)
    old = learner.nets.target.critic.layers[0].weight.clone()
    for update in range(1, 8):
        learner.advance(1)
        target = learner.nets.target.critic.layers[0].weight
        if update % 3:
            assert torch.equal(target, old)
        else:
            assert torch.equal(target, learner.nets.critic.layers[0].weight)
            assert not torch.equal(target, old)
        old = target.clone()


@pytest.mark.parametrize("recipe", [DQN, DoubleDQN, DiscreteBCQ, DiscreteCQL])
def test_ataris_adam_has_a_larger_epsilon(recipe: Any):
    given = recipe.Hyperparameters.parse({"preset": "atari"}, "it")
    (group,) = recipe.optimizer("critic", given, torch.zeros(3)).param_groups
    assert (group["lr"], group["eps"]) == (given.critic_lr, given.adam_epsilon)
    assert group["eps"] >= 1.5e-4
    assert given.batch_size == 32


def test_exploring_tries_every_action():
    for recipe in (DQN, DiscreteBC, DiscreteBCQ, DiscreteSAC):
        nets, _, hp = example(recipe, **({"epsilon": 0.5} if recipe in (DQN, DiscreteBCQ) else {}))
        obs = torch.ones(1000, 1)
        assert len(recipe.act(nets, obs, hp, True).unique()) == 3
        assert len(recipe.act(nets, obs, hp, False).unique()) == 1
