"""REDQ and E2O: what they become at one end of their dials, and golden numbers by hand."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from gradients import gradient
from limits import SAME, assert_same, with_weights_of
from torch import tensor

from off2on.algorithms.cql import CQL
from off2on.algorithms.e2o import E2O
from off2on.algorithms.redq import REDQ
from off2on.algorithms.sac import SAC
from off2on.errors import HyperparameterError
from off2on.online.settings import online_hyperparameters
from off2on.recipe.hooks import Objective
from off2on.recipe.losses import weighted_pair
from off2on.recipe.networks import Critic

Make = Callable[..., Any]


# REDQ.


def test_redq_on_all_of_two_critics_has_sacs_target_and_the_critics_mean(problem: Make):
    ours = problem(REDQ, critics=2, subset=2, policy_every=1)
    sac = with_weights_of(problem(SAC), ours)
    for name in ("temperature", "critic"):
        batches = [case.prepared(3) for case in (ours, sac)]
        pair = [case.loss(name, batch, 4) for case, batch in zip((ours, sac), batches, strict=True)]
        assert torch.equal(*pair)
        assert torch.equal(
            *(gradient(loss, getattr(case.nets, name)) for loss, case in zip(pair, (ours, sac), strict=True))
        )
    assert all(REDQ.is_due(Objective(name), ours.hp, 1, 0.0) for name in ("temperature", "actor", "critic"))
    batch = ours.prepared(3)
    alpha = ours.nets.temperature().exp()
    mean = (alpha * batch.own_log_prob - ours.nets.critic(batch.obs, batch.own_action).mean(0)).mean()
    assert torch.equal(ours.loss("actor", batch), mean)
    assert ours.loss("actor", batch) < sac.loss("actor", sac.prepared(3))  # the mean is above the minimum


def test_redq_with_one_critic_is_sac_with_one(problem: Make):
    ours = problem(REDQ, critics=1, subset=1)
    assert_same(ours, with_weights_of(problem(SAC, critics=1), ours))


def test_redq_with_all_members_is_sac_ns_target_and_with_fewer_it_hopes_more(problem: Make):
    target = {}
    for subset in (1, 2, 5, 10):
        case = problem(REDQ, subset=subset)
        batch = case.prepared()
        torch.manual_seed(1)
        action, log_prob = case.nets.actor(batch.next_obs).sample()
        target[subset] = REDQ.soft_target(case.nets, batch, case.hp, action, log_prob)
        every = case.nets.target.critic(batch.next_obs, action)
    everyone = SAC.soft_target(case.nets, batch, case.hp, action, log_prob)
    assert torch.equal(target[10], everyone)
    assert (target[5] >= target[10]).all()
    assert target[1].mean() > target[2].mean() > target[10].mean()
    # the value of a subset is the minimum of its members
    pair = problem(REDQ).hp
    torch.manual_seed(5)
    expected = REDQ.target_value(case.nets, batch, pair, action)
    torch.manual_seed(5)
    torch.testing.assert_close(expected, every[torch.randperm(10)[:2]].amin(0))


def test_redq_draws_every_pair_equally_often(problem: Make):
    case = problem(REDQ, critics=5)
    # members that say 1, 2, 4, 8 and 16 everywhere
    last = case.nets.target.critic.layers[-1]
    last.weight.zero_()
    last.bias.copy_(2.0 ** torch.arange(5.0).view(5, 1, 1))
    seen = torch.stack(
        [REDQ.target_value(case.nets, case.batch, case.hp, case.batch.action) for _ in range(1000)]
    )
    assert (seen == seen[:, :1]).all()  # one pair for the whole batch
    counts = torch.stack([(seen[:, 0] == 2.0**k).sum() for k in range(5)]) / 1000
    # the k-th smallest of 5 is the smaller one of 5 - k of the 10 pairs, and the largest of none
    assert counts.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0], abs=0.05)


def test_redq_moves_the_policy_on_every_twentieth_update(problem: Make):
    hp = problem(REDQ).hp
    due = {
        name: [update for update in range(1, 41) if REDQ.is_due(Objective(name), hp, update, 0.0)]
        for name in ("critic", "temperature", "actor")
    }
    assert due == {"critic": list(range(1, 41)), "temperature": [20, 40], "actor": [20, 40]}
    assert REDQ.objectives[0] == "critic"  # algorithm 1: the policy sees the critics as just updated


@pytest.mark.parametrize("layer_norm", [None, "before", "after"])
def test_slopes_and_some_members_are_those_of_each_member(layer_norm: Any):
    critic, obs = Critic(5, 3, (16, 16), members=4, layer_norm=layer_norm), torch.randn(7, 5)
    action = torch.randn(7, 3, requires_grad=True)
    every = critic(obs, action)
    q, slope = critic.with_action_gradient(obs, action.detach())
    torch.testing.assert_close(q, every)
    for member in range(4):
        (own,) = torch.autograd.grad(every[member].sum(), action, retain_graph=True)
        torch.testing.assert_close(slope[member], own)
    torch.testing.assert_close(critic.subset(obs, action, tensor([3, 1])), every[[3, 1]])


@pytest.mark.parametrize("recipe", [REDQ, CQL])
def test_a_subset_of_more_members_than_there_are_is_refused(recipe: Any):
    with pytest.raises(HyperparameterError, match="at most critics, 2: got 3"):
        recipe.Hyperparameters(critics=2, subset=3)


def test_a_subset_is_compared_with_the_critics_of_its_phase_and_not_with_the_default():
    assert CQL.Hyperparameters.convert({"subset": "5"}, "cql") == {"subset": 5}  # alone, as in a search
    offline = CQL.Hyperparameters(critics=10, subset=2)
    assert online_hyperparameters(CQL, offline, {"subset": "4"}, 1.0).subset == 4
    with pytest.raises(HyperparameterError, match="at most critics, 10: got 11"):
        online_hyperparameters(CQL, offline, {"subset": "11"}, 1.0)


# E2O.


@pytest.mark.parametrize("members", [2, 3, 10])
def test_weighted_pair_is_the_mean_over_all_pairs(members: int):
    q = torch.randn(members, 64)
    pairs = torch.stack([torch.minimum(q[j], q[k]) for j, k in combinations(range(members), 2)])
    torch.testing.assert_close(weighted_pair(q), pairs.mean(0))


def test_weighted_pair_by_hand():
    # pairs of 4, 1, 3: min 1, 3, 1
    assert weighted_pair(tensor([[4.0], [1.0], [3.0]])).item() == pytest.approx(5 / 3)
    assert weighted_pair(tensor([[4.0], [1.0]])).item() == pytest.approx(1.0)


def test_e2o_offline_is_cql_with_as_many_critics(problem: Make):
    ours, cql = problem(E2O), problem(CQL, critics=10)
    assert_same(ours, cql, 0.0)
    assert_same(ours, cql, 0.999)
    # and nothing of what is for later matters
    assert_same(problem(E2O, weighted_backup=10.0, online_target="mean"), cql, 0.5)


def test_e2o_online_has_no_multiplier(problem: Make):
    hp = problem(E2O, threshold=5.0).hp
    multiplier = Objective("multiplier")
    assert [E2O.is_due(multiplier, hp, 1, progress) for progress in (0.0, 0.99, 1.0, 2.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert not E2O.is_due(multiplier, problem(E2O).hp, 1, 0.0)


def test_e2o_offline_learns_what_cql_learns(build_learner: Make):
    ours, cql = build_learner(E2O, **SAME), build_learner(CQL, critics=10, **SAME)
    assert ours.advance(5) == cql.advance(5)
    assert torch.equal(ours.flat["critic"].vector, cql.flat["critic"].vector)


@pytest.mark.parametrize("progress", [1.0, 2.0])
def test_e2o_online_on_the_smallest_target_is_sac(problem: Make, progress: float):
    sac = problem(SAC, critics=10)
    assert_same(problem(E2O, online_target="min"), sac, progress)
    # all pairs of two are the one pair
    two = problem(E2O, critics=2)
    assert_same(two, with_weights_of(problem(SAC), two), progress)


def test_e2o_orders_its_targets_from_pessimistic_to_hopeful(problem: Make):
    value = {}
    for kind in ("min", "random_pair", "weighted_pair", "mean", "rem"):
        case = problem(E2O, online_target=kind)
        case.batch.progress = 1.5
        value[kind] = E2O.target_value(case.nets, case.batch, case.hp, case.batch.action)
        every = case.nets.target.critic(case.batch.next_obs, case.batch.action)
    assert (value["min"] <= value["weighted_pair"]).all()
    assert (value["weighted_pair"] <= value["mean"]).all()
    torch.testing.assert_close(value["mean"], every.mean(0))
    for kind in ("random_pair", "rem"):
        assert (value[kind] >= every.amin(0)).all()
        assert (value[kind] <= every.amax(0)).all()
        assert not torch.isclose(value[kind], value["mean"]).all()
    # offline all of them are the smallest
    case.batch.progress = 0.5
    assert torch.equal(E2O.target_value(case.nets, case.batch, case.hp, case.batch.action), every.amin(0))


def test_e2os_weighted_backup_weighs_a_transition_between_one_half_and_one(problem: Make):
    case = problem(E2O, weighted_backup=10.0)
    case.batch.progress = 1.0
    weight = case.prepared().weight
    assert weight.shape == (64,)
    assert weight.min() > 0.5
    assert weight.max() < 1.0
    case.nets.target.critic.layers[-1].weight.zero_()
    case.nets.target.critic.layers[-1].bias.zero_()
    assert (case.prepared().weight == 1.0).all()  # members that agree
    # it multiplies a weight that is there already
    case.batch.weight = torch.full((10, 64), 3.0)
    assert (case.prepared().weight == 3.0).all()


def test_e2o_explores_where_value_and_spread_are_largest(problem: Make):
    obs = torch.randn(6, 5)
    chosen = {}
    for exploration_bonus in (0.0, 1e6):
        case = problem(E2O, exploration_bonus=exploration_bonus)
        torch.manual_seed(4)
        chosen[exploration_bonus] = E2O.act(case.nets, obs, case.hp, True)
        torch.manual_seed(4)
        drawn, _ = case.nets.actor(obs).sample(10)
        for row in range(6):
            score = []
            for action in drawn[:, row]:
                q = case.nets.critic(obs[row : row + 1], action.unsqueeze(0)).flatten()
                spread = ((q - q.mean()) ** 2).mean().sqrt()
                score.append((q.mean() + exploration_bonus * spread).item())
            best = max(range(10), key=score.__getitem__)
            assert torch.equal(chosen[exploration_bonus][row], drawn[best, row])
    assert not torch.equal(chosen[0.0], chosen[1e6])


def test_e2o_with_one_candidate_explores_as_sac_and_evaluates_as_sac(problem: Make):
    ours, obs = problem(E2O, exploration_samples=1), torch.randn(6, 5)
    for explore in (True, False):
        torch.manual_seed(4)
        one = E2O.act(ours.nets, obs, ours.hp, explore)
        torch.manual_seed(4)
        assert torch.equal(one, SAC.act(ours.nets, obs, ours.hp, explore))
    assert torch.equal(one, E2O.act(ours.nets, obs, problem(E2O).hp, False))
