"""Cal-QL and CQL's options: at one end of a dial each is the plain algorithm, exactly."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor, nn, tensor

from datasets_io import Shards
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL
from off2on.algorithms.e2o import as_sac
from off2on.algorithms.iql import IQL
from off2on.errors import HyperparameterError
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Objective
from off2on.recipe.networks import Critic, Nets, Scalar

Make = Callable[..., Any]

PLAIN = {"backup_actions": 1}
"""Settings with which Cal-QL's defaults are CQL's, except for the widths of the networks."""
ONLY_ONLINE = {"conservative_weight": 0.0, "online_weight": 0.5}


def same(one: Any, other: Any, objectives: tuple[str, ...], batches: tuple[Any, Any]) -> None:
    """Equal losses and equal gradients, to the last bit."""
    for name in objectives:
        losses = [case.loss(name, batch) for case, batch in zip((one, other), batches, strict=True)]
        assert torch.equal(*losses), name
        gradients = [
            gradient(loss, getattr(case.nets, name)) for case, loss in zip((one, other), losses, strict=True)
        ]
        assert torch.equal(*gradients), name
        assert gradients[0].abs().max() > 0, name


def prepared(*cases: Any) -> tuple[Any, ...]:
    return tuple(case.prepared() for case in cases)


# Cal-QL.


@pytest.mark.parametrize("options", [{}, {"threshold": 1.0, "backup_actions": 4}])
def test_cal_ql_without_returns_is_cql(problem: Make, options: dict[str, Any]):
    cal, cql = problem(CalQL, **PLAIN | options), problem(CQL, **options)
    cal.batch.ret = torch.full((64,), -math.inf)
    same(cal, cql, ("temperature", "actor", "multiplier", "critic"), prepared(cal, cql))


def test_cal_ql_learns_what_cql_learns_from_returns_that_are_never_reached(build_learner: Make):
    options = {"conservative_weight": 3.0, "samples": 2}
    cal, cql = build_learner(CalQL, "wide", **PLAIN | options), build_learner(CQL, "wide", **options)
    cal.rows.data[:, -1] = -1e30  # ret, the last column
    assert cal.advance(20) == cql.advance(20)
    assert torch.equal(cal.flat["critic"].vector, cql.flat["critic"].vector)
    bounded = build_learner(CalQL, "wide", **PLAIN | options)
    bounded.rows.data[:, -1] = 1e3
    bounded.advance(20)
    assert not torch.equal(bounded.flat["critic"].vector, cql.flat["critic"].vector)


def test_cal_ql_with_returns_beyond_reach_pushes_down_uniform_actions_alone(problem: Make):
    case = problem(CalQL, samples=3)
    q = torch.randn(2, 9, 64, requires_grad=True)
    case.batch.ret = torch.full((64,), 1e6)
    bounded = CalQL.proposal_values(q, case.batch, case.hp)
    assert torch.equal(bounded[:, :3], q[:, :3])
    assert (bounded[:, 3:] == 1e6).all()
    (slope,) = torch.autograd.grad(bounded.sum(), q)
    assert (slope[:, :3] == 1).all()
    assert (slope[:, 3:] == 0).all()


def test_cal_ql_by_hand():
    # Two uniform actions, then two of pi(s), then two of pi(s'); returns 1 and -1.
    q = tensor([[[0.0, 0.0], [2.0, -3.0], [0.5, -2.0], [1.5, 0.0], [-9.0, -1.0], [4.0, 4.0]]])
    batch = Batch(ret=tensor([1.0, -1.0]))
    bounded = CalQL.proposal_values(q, batch, CalQL.Hyperparameters(samples=2))
    expected = [[0.0, 0.0], [2.0, -3.0], [1.0, -1.0], [1.5, 0.0], [1.0, -1.0], [4.0, 4.0]]
    assert bounded.tolist() == [expected]


def test_cal_ql_goes_on_being_calibrated_online_with_its_own_weight(problem: Make):
    offline, online = problem(CalQL), problem(CalQL)
    online.batch.progress = 1.5
    same(offline, online, ("temperature", "actor", "critic"), prepared(offline, online))
    lighter, light = problem(CalQL, online_weight=0.5), problem(CalQL, conservative_weight=0.5)
    same(lighter, offline, ("critic",), prepared(lighter, offline))
    only, free = problem(CalQL, **ONLY_ONLINE), problem(CalQL, conservative_weight=0.0)
    same(only, free, ("critic",), prepared(only, free))
    for case in (lighter, only):
        case.batch.progress = 1.5
        same(case, light, ("critic",), prepared(case, light))


def test_a_multiplier_is_trained_in_the_phases_that_have_a_conservative_term():
    hp, multiplier = CalQL.Hyperparameters(threshold=1.0, **ONLY_ONLINE), Objective("multiplier")
    assert [CalQL.is_due(multiplier, hp, 1, progress) for progress in (0.5, 1.5)] == [False, True]


# CQL's options.


def test_a_multiplier_without_a_threshold_stays_one(build_learner: Make):
    free, bound = build_learner(CQL, "wide", samples=2), build_learner(CQL, "wide", samples=2, threshold=1.0)
    assert "multiplier/loss" not in free.advance(5)
    assert "multiplier/loss" in bound.advance(5)
    assert free.nets.multiplier() == 0
    assert bound.nets.multiplier() != 0


@pytest.mark.parametrize(("threshold", "sign"), [(-100.0, -1), (100.0, 1)])
def test_the_multiplier_grows_while_the_gap_is_above_its_threshold(
    problem: Make, threshold: float, sign: int
):
    case = problem(CQL, threshold=threshold)
    slope = gradient(case.loss("multiplier"), case.nets.multiplier)
    assert slope.sign().item() == sign


def test_the_threshold_and_the_multiplier_by_hand(problem: Make):
    case = problem(CQL, threshold=2.0, conservative_weight=3.0)
    case.nets.multiplier.value.data.fill_(math.log(0.5))
    batch = case.prepared()
    _, gap, cost = CQL.conservatism(case.nets, batch, case.hp)
    torch.testing.assert_close(cost, 0.5 * 3 * (gap.mean(1) - 2))
    torch.testing.assert_close(case.loss("multiplier", batch), -cost.mean())
    case.nets.multiplier.value.data.fill_(50.0)
    *_, cost = CQL.conservatism(case.nets, batch, case.hp)
    torch.testing.assert_close(cost, 1e6 * 3 * (gap.mean(1) - 2))


def test_cql_with_a_multiplier_of_one_and_threshold_zero_is_cql(problem: Make):
    with_it, without = problem(CQL, threshold=0.0), problem(CQL)
    same(with_it, without, ("temperature", "actor", "critic"), prepared(with_it, without))


def test_the_gaps_floor_is_per_transition_and_stops_the_gradient(problem: Make):
    free, low = problem(CQL), problem(CQL, gap_floor=-1e6)
    same(free, low, ("critic",), prepared(free, low))
    # q stands 0, 5 and 9 above the proposals' log-sum-exp, and gaps below -4 count as -4
    nets = Nets(multiplier=Scalar(0.0), critic=LookUp(tensor([0.0, 5.0, 9.0])))
    batch = Batch(obs=torch.zeros(3, 1), action=torch.ones(3, 1))
    batch.proposals = torch.zeros(1, 3, 1), torch.zeros(1, 3)
    _, gap, cost = CQL.conservatism(nets, batch, CQL.Hyperparameters(gap_floor=-4.0, conservative_weight=1.0))
    assert gap.tolist() == [[0.0, -5.0, -9.0]]
    assert cost.item() == pytest.approx((0 - 4 - 4) / 3)
    (slope,) = torch.autograd.grad(cost.sum(), nets.critic.height)
    assert slope.tolist() == pytest.approx([-1 / 3, 0.0, 0.0])


class LookUp(nn.Module):
    """One critic: a height [B] for the action 1, and 0 for the action 0."""

    def __init__(self, height: Tensor) -> None:
        super().__init__()
        self.height = nn.Parameter(height)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return (self.height * action.squeeze(-1)).unsqueeze(0)

    def predict(self, obs: Tensor, action: Tensor) -> Tensor:
        return self(obs, action)  # type: ignore[no-any-return]


def test_the_best_of_one_is_the_plain_target(problem: Make):
    for options in ({}, {"entropy_backup": True}):
        case = problem(CQL, **options)
        action, log_prob = case.nets.actor(case.batch.next_obs).sample()
        plain = CQL.soft_target(case.nets, case.batch, case.hp, action, log_prob)
        one = CQL.soft_target(case.nets, case.batch, case.hp, action.unsqueeze(0), log_prob.unsqueeze(0))
        torch.testing.assert_close(one.amax(0), plain, rtol=1e-6, atol=1e-6)
    several, plain = problem(CQL, backup_actions=7), problem(CQL)
    batch = several.prepared()
    batch.next_sample = tuple(each[:1].expand(7, *each.shape[1:]) for each in batch.next_sample)
    alike = Batch(**vars(batch) | {"next_sample": tuple(each[0] for each in batch.next_sample)})
    torch.testing.assert_close(several.loss("critic", batch), plain.loss("critic", alike), rtol=1e-6, atol=0)


def test_the_target_takes_the_best_of_the_pessimistic_values():
    # Q_1 = 2a + 1 and Q_2 = 4a - 0.5: the smaller is Q_2 up to a = 0.75. r = 1, gamma = 0.5, not the end
    critic = Critic(1, 1, ())
    with torch.no_grad():
        critic.layers[0].weight.copy_(tensor([[[0.0, 2.0]], [[0.0, 4.0]]]))
        critic.layers[0].bias.copy_(tensor([[[1.0]], [[-0.5]]]))
    nets = Nets(critic=critic, temperature=Scalar(0.0), targets=("critic",))
    one = tensor([1.0])
    batch = Batch(reward=one, mask=one, next_obs=torch.zeros(1, 1))
    actions, log_probs = tensor([[[-1.0]], [[0.5]], [[0.25]]]), tensor([[0.0], [9.0], [0.0]])
    hp = CQL.Hyperparameters(discount=0.5, backup_actions=3)
    assert CQL.soft_target(nets, batch, hp, actions, log_probs).amax(0).item() == pytest.approx(1 + 0.5 * 1.5)
    soft = CQL.Hyperparameters(discount=0.5, backup_actions=3, entropy_backup=True)
    assert CQL.soft_target(nets, batch, soft, actions, log_probs).amax(0).item() == pytest.approx(1.25)


def test_without_the_conservative_term_the_target_is_still_the_best_of_several_actions(problem: Make):
    without, nearly = (problem(CQL, conservative_weight=weight, backup_actions=4) for weight in (0.0, 1e-12))
    batch = nearly.prepared()
    torch.manual_seed(1)
    batch.next_sample = nearly.nets.actor(batch.next_obs).sample(4)
    torch.testing.assert_close(without.loss("critic"), nearly.loss("critic", batch), rtol=1e-6, atol=0)
    assert as_sac(without.hp).backup_actions == 1


def test_at_first_the_policy_clones_if_wanted(problem: Make):
    never, early = problem(CQL), problem(CQL, cloning_share=0.25)
    assert early.batch.progress == 0.5
    same(never, early, ("temperature", "actor", "critic"), prepared(never, early))
    early.batch.progress = 0.2
    batch = early.prepared()
    alpha = early.nets.temperature().exp().detach()
    log_prob = early.nets.actor(batch.obs).log_prob(batch.action)
    assert torch.equal(early.loss("actor", batch), (alpha * batch.own_log_prob - log_prob).mean())
    always = problem(CQL, cloning_share=1.0)
    for progress, clones in ((0.999, True), (1.0, False), (1.5, False)):
        always.batch.progress = progress
        _, metrics = CQL.compute_actor_loss(always.nets, always.prepared(), always.hp)
        assert ("actor/log_prob" in metrics) is clones


def test_without_its_term_cql_is_sac_and_measures_its_threads(build_learner: Make):
    learner = build_learner(CQL, "wide", conservative_weight=0.0, threshold=1.0)
    learner.threads = None
    assert "multiplier/loss" not in learner.advance(2)


# IQL's dropout.


def test_without_dropout_the_policy_is_itself(problem: Make):
    case = problem(IQL)
    policy, same_policy = case.nets.actor(case.batch.obs), case.nets.actor(case.batch.obs, 0.0)
    assert torch.equal(policy.mean, same_policy.mean)


def test_dropout_leaves_out_a_share_of_the_hidden_units_and_scales_the_rest():
    torch.manual_seed(0)
    actor = GaussianActor(1, 1, (10_000,))
    with torch.no_grad():
        actor.mlp[0].weight.zero_()
        actor.mlp[0].bias.fill_(1.0)
        actor.mlp[2].weight.fill_(1e-4)
        actor.mlp[2].bias.zero_()
    mean = actor(torch.zeros(500, 1), 0.25).mean.atanh()
    # each is a mean of 10,000 numbers that are 0, or 4/3 three times out of four
    assert mean.mean().item() == pytest.approx(1, abs=3e-3)
    assert mean.std().item() == pytest.approx(math.sqrt(1 / 3) / 100, rel=0.15)


def test_iql_drops_out_in_the_actors_loss_alone(problem: Make):
    some, none = problem(IQL, dropout=0.5), problem(IQL)
    for name, alike in (("value", True), ("critic", True), ("actor", False)):
        assert torch.equal(some.loss(name), none.loss(name)) is alike
    assert torch.equal(*(IQL.act(case.nets, case.batch.obs, case.hp, False) for case in (some, none)))


def test_another_discount_online_is_refused_because_returns_to_go_are_stored(toy: Shards):
    config = CalQL.configure("toy-pendulum").training(discount=0.99).online(10, discount=0.9)
    with pytest.raises(HyperparameterError, match=r"both phases for CalQL: got 0\.99 offline, 0\.9 online"):
        config.validate()
    config.online(10, discount=0.99).validate()
    CQL.configure("toy-pendulum").training(discount=0.99).online(10, discount=0.9).validate()
