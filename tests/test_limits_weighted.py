"""At one end of a hyperparameter's range, weighted cloning is cloning, and PEX is IQL; filters by hand."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gradients import gradient
from torch import Tensor, nn

from datasets_io import Shards
from datasets_io.shards.returns import returns_to_go
from off2on.algorithms.awac import AWAC
from off2on.algorithms.awr import AWR
from off2on.algorithms.bc import BC
from off2on.algorithms.crr import CRR
from off2on.algorithms.filtered_bc import FilteredBC
from off2on.algorithms.iql import IQL
from off2on.algorithms.pex import PEX
from off2on.policy import Policy
from off2on.recipe.actors import DeterministicActor, GaussianActor
from off2on.recipe.networks import Nets
from off2on.replay.transforms import Transforms

Build = Callable[..., Any]
GAUSSIAN = BC.Hyperparameters(policy="gaussian")


def vector(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def is_cloning(case: Any) -> None:
    """That the actor's loss is Gaussian BC's, with the same gradient."""
    cloning, _ = BC.compute_actor_loss(Nets(actor=case.nets.actor), case.batch, GAUSSIAN)
    ours = case.loss("actor")
    assert torch.equal(ours, cloning)
    assert torch.equal(gradient(ours, case.nets.actor), gradient(cloning, case.nets.actor))


# Cloning.


def test_gaussian_bc_with_sigma_one_is_regression_in_another_unit(problem: Build):
    case = problem(BC)
    gaussian, plain = GaussianActor(5, 3, (32, 32)), DeterministicActor(5, 3, (32, 32))
    gaussian.mlp.load_state_dict(plain.mlp.state_dict())
    likelihood, _ = BC.compute_actor_loss(Nets(actor=gaussian), case.batch, GAUSSIAN)
    squares, _ = BC.compute_actor_loss(Nets(actor=plain), case.batch, case.hp)
    # log density of 3 dimensions: half the sum of squares, and a constant
    torch.testing.assert_close(likelihood, 1.5 * squares + 1.5 * math.log(2 * math.pi))
    torch.testing.assert_close(gradient(likelihood, gaussian.mlp), 1.5 * gradient(squares, plain.mlp))


def test_filtered_bc_of_all_episodes_is_bc(build_learner: Build):
    all_of_it, plain = build_learner(FilteredBC, augment="top:1"), build_learner(BC)
    assert all_of_it.advance(20) == plain.advance(20)
    assert torch.equal(vector(all_of_it.nets), vector(plain.nets))


def test_filtered_bc_learns_from_the_best_tenth_of_the_episodes(build_learner: Build, toy: Shards):
    learner = build_learner(FilteredBC)
    rows = toy.read_all(["obs", "rewards"])
    returns = np.array([sum(episode) for episode in rows["rewards"].reshape(20, 200).tolist()])
    best = sorted(np.argsort(returns)[-2:])
    expected = torch.from_numpy(rows["obs"].reshape(20, 200, 3)[best].reshape(400, 3))
    held = learner.rows.layout.split(learner.rows.data[: learner.rows.offline]).obs
    assert torch.equal(held, expected)


def test_awac_with_clipped_weights_at_a_huge_temperature_is_cloning(problem: Build):
    is_cloning(problem(AWAC, weight="exp_clip", temperature=math.inf))


def test_awac_over_the_batch_at_a_huge_temperature_is_cloning(problem: Build):
    case = problem(AWAC, temperature=1e12)
    cloning, _ = BC.compute_actor_loss(Nets(actor=case.nets.actor), case.batch, GAUSSIAN)
    torch.testing.assert_close(case.loss("actor"), cloning)


def test_awac_at_a_tiny_temperature_copies_the_best_action_of_the_batch_alone(problem: Build):
    case = problem(AWAC, temperature=1e-9)
    batch = case.prepared()
    q = case.nets.critic(batch.obs, batch.action).amin(0) - case.nets.critic(
        batch.obs, batch.own_action
    ).amin(0)
    best = case.nets.actor(batch.obs).log_prob(batch.action)[q.argmax()]
    assert torch.equal(case.loss("actor", batch), -best)


def test_awac_decays_the_policys_weights_alone():
    settings = AWAC.Hyperparameters()
    weights = [AWAC.optimizer(name, settings, torch.zeros(1)) for name in ("actor", "critic")]
    assert [optimizer.param_groups[0]["weight_decay"] for optimizer in weights] == [1e-4, 0.0]


class Preference(nn.Module):
    """A critic that has one opinion of the data's actions and another of all others."""

    def __init__(self, of_data: float, of_others: float) -> None:
        super().__init__()
        self.opinions = torch.tensor([of_data, of_others])

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        count, rows, _ = action.shape
        return self.opinions[(torch.arange(count) > 0).long()].expand(1, rows, count).transpose(1, 2)


def test_crr_at_a_huge_beta_is_cloning(problem: Build):
    is_cloning(problem(CRR, beta=math.inf))


@pytest.mark.parametrize("baseline", ["mean", "max"])
def test_crr_whose_filter_lets_all_pass_is_cloning(problem: Build, baseline: str):
    case = problem(CRR, weight="binary", baseline=baseline)
    case.nets.critic = Preference(of_data=1.0, of_others=0.5)
    is_cloning(case)


@pytest.mark.parametrize("of_data", [0.25, 0.5])
def test_crr_whose_filter_lets_none_pass_learns_nothing(problem: Build, of_data: float):
    """An action that is only as good as the policy's own does not pass either."""
    case = problem(CRR, weight="binary")
    case.nets.critic = Preference(of_data=of_data, of_others=0.5)
    assert not gradient(case.loss("actor"), case.nets.actor).any()


def test_crr_with_the_best_sample_as_baseline_lets_fewer_pass(problem: Build):
    share = {}
    for baseline in ("mean", "max"):
        case = problem(CRR, weight="binary", baseline=baseline)
        torch.manual_seed(1)
        share[baseline] = CRR.compute_actor_loss(case.nets, case.batch, case.hp)[1]["actor/passes"]
    assert 0 < share["max"] < share["mean"] < 1


def acting(values: list[float], beta: float, rows: int) -> Tensor:
    """CRR's choices among as many actions as there are values, each of which is its own number."""
    actions = torch.arange(len(values)).float().view(-1, 1, 1).expand(-1, rows, 1) / len(values)
    policy = SimpleNamespace(mean=actions[0], sample=lambda count: actions)
    q = torch.tensor(values).view(1, -1, 1).expand(1, -1, rows)
    nets: Any = SimpleNamespace(actor=lambda obs: policy, critic=lambda obs, action: q)
    settings = CRR.Hyperparameters(beta=beta, acting_samples=len(values))
    return (
        (CRR.act(nets, torch.zeros(rows, 1), settings, explore=True).flatten() * len(values)).round().long()
    )


def test_crr_explores_in_proportion_to_exponentiated_values():
    values, rows = [0.0, 1.0, -1.0, 2.0], 20_000
    found = acting(values, 0.7, rows).bincount(minlength=4) / rows
    expected = (torch.tensor(values) / 0.7).softmax(0)
    assert ((found - expected).abs() < 5 * (expected * (1 - expected) / rows).sqrt()).all()
    assert (acting(values, 1e-3, rows) == 3).all()


def test_crr_without_samples_to_choose_from_acts_by_its_mean(problem: Build):
    case = problem(CRR, acting_samples=1)
    mean = case.nets.actor(case.batch.obs).mean
    assert torch.equal(CRR.act(case.nets, case.batch.obs, case.hp, False), mean)


def test_crr_takes_what_the_critic_finds_best(problem: Build):
    case = problem(CRR, acting_samples=8)
    obs, nets = case.batch.obs, case.nets
    policy, chosen = nets.actor(obs), CRR.act(nets, obs, case.hp, False)
    value = nets.critic(obs, chosen).mean(0)
    better = 0
    for noise in nets.actor.noise:
        other = nets.critic(obs, (policy.mean + policy.std * noise).clamp(-1, 1)).mean(0)
        assert (value >= other - 1e-6).all()
        better += (value > other + 1e-6).sum().item()
    assert better > 0


def test_crrs_targets_are_replaced_every_hundred_updates_or_follow():
    hard, soft = CRR.Hyperparameters(), CRR.Hyperparameters(target_every=1, polyak=0.005)
    due = [
        [u for u in range(1, 301) if CRR.is_target_update_due(settings, u, 0.0)] for settings in (hard, soft)
    ]
    assert due == [[100, 200, 300], list(range(1, 301))]


# AWR.


def test_awr_at_a_huge_beta_is_cloning(problem: Build):
    case = problem(AWR, beta=math.inf, sigma=0.3)
    case.batch.labelled = torch.ones(64)
    log_prob = AWR.distribution(case.nets, case.batch.obs, case.hp).log_prob(case.batch.action)
    # No mean of the untrained policy lies outside of the box, where it would cost.
    assert torch.equal(case.loss("actor"), -log_prob.mean())
    case.batch.advantage = 1e3 * torch.randn(64)
    assert torch.equal(case.loss("actor"), -log_prob.mean())


def test_awrs_returns_at_lambda_one_are_the_rewards_to_go(problem: Build):
    case = problem(AWR, trace=1.0)
    rows = case.batch
    rows.last = (torch.rand(64) > 0.9).float()
    rows.last[-1] = 1.0
    rows.mask = 1 - rows.last
    with torch.no_grad():
        labels = AWR.relabel(case.nets, rows, case.hp, 1)
    expected = returns_to_go(rows.reward.numpy(), rows.last.numpy() > 0, 0.99)
    torch.testing.assert_close(labels["lambda_return"], torch.from_numpy(expected))


def test_awr_prefers_the_better_action_and_the_box(problem: Build):
    case = problem(AWR)
    mean = nn.Parameter(torch.tensor([[0.0], [0.0], [3.0]]))
    nets: Any = SimpleNamespace(actor=lambda obs: mean)
    batch = SimpleNamespace(
        obs=torch.zeros(3, 1),
        action=torch.tensor([[0.5], [0.5], [3.0]]),
        advantage=torch.tensor([1.0, -1.0, 0.0]),
        labelled=torch.ones(3),
    )
    loss, _ = AWR.compute_actor_loss(nets, batch, case.hp)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(loss, mean)
    assert slope[0] < slope[1] < 0  # towards 0.5, the better one harder
    # the mean at its action is held by nothing but the penalty 10 (3 - 1)^2 / 2 / 3
    assert slope[2].item() == pytest.approx(10 * 2 / 3)


def test_awr_leaves_out_rows_that_have_no_return_yet(problem: Build):
    case = problem(AWR)
    case.batch.labelled = torch.zeros(64)
    assert case.loss("value") == 0
    case.batch.labelled[:7] = 1.0
    found = case.loss("value")
    case.batch.lambda_return[7:] += 9.0
    assert torch.equal(case.loss("value"), found)


def test_awr_takes_turns(build_learner: Build):
    learner = build_learner(AWR, "wide", value_updates=2, actor_updates=3)
    nets, done = learner.nets, []
    for update in range(1, 8):
        before = {name: vector(getattr(nets, name)) for name in ("value", "actor")}
        learner.advance(1)
        moved = [name for name in before if not torch.equal(before[name], vector(getattr(nets, name)))]
        done += moved
        held = learner.rows.layout.split(learner.rows.data)
        assert (held.labelled == 1).all()
        if update in (1, 3, 6):  # labels by the networks as they were before this update
            assert held.advantage.mean().item() == pytest.approx(0, abs=1e-4)
            assert held.advantage.std().item() == pytest.approx(1, abs=1e-2)
    assert done == ["value", "value", "actor", "actor", "actor", "value", "value"]


def test_awrs_value_learns_the_return(build_learner: Build):
    learner = build_learner(AWR, batch_size=256, hidden="128,64")
    explained = []
    for updates in (1, 199):
        learner.advance(updates)
        held = learner.rows.layout.split(learner.rows.data)
        with torch.no_grad():
            rest = held.lambda_return - 100 * learner.nets.value(held.obs)
        explained.append(1 - (rest.var() / held.lambda_return.var()).item())
    assert explained[0] < 0.2 < 0.4 < explained[1]


# PEX.


def test_pex_offline_learns_what_iql_learns_and_acts_as_iql_does(build_learner: Build):
    pex, iql = build_learner(PEX), build_learner(IQL)
    assert pex.advance(30) == iql.advance(30)
    for name in ("value", "actor", "critic"):
        assert torch.equal(vector(getattr(pex.nets, name)), vector(getattr(iql.nets, name)))
    assert torch.equal(vector(pex.nets.target.critic), vector(iql.nets.target.critic))
    obs = torch.randn(50, 3)
    ours, theirs = (it.recipe.act(it.nets, obs, it.hp, False) for it in (pex, iql))
    assert torch.equal(ours, theirs)


def test_pex_online_keeps_its_policy_and_trains_the_other(build_learner: Build):
    learner = build_learner(PEX, updates=5)
    for update in range(1, 9):
        before = {name: vector(getattr(learner.nets, name)) for name in learner.nets.names()}
        learner.advance(1)
        still = {name for name in before if torch.equal(before[name], vector(getattr(learner.nets, name)))}
        assert still == {"expansion" if update <= 5 else "actor"}


def test_pexs_expansion_on_the_batchs_actions_has_iqls_loss(problem: Build):
    case = problem(PEX, online_actions="data")
    case.nets.expansion.load_state_dict(case.nets.actor.state_dict())
    ours, theirs = case.loss("expansion"), case.loss("actor")
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, case.nets.expansion), gradient(theirs, case.nets.actor))


def test_pex_takes_the_expansion_where_the_critics_prefer_it_once_it_is_trained(problem: Build):
    case = problem(PEX, inverse_temperature=1e9)
    nets, obs = case.nets, case.batch.obs
    old, new = nets.actor(obs).mean, nets.expansion(obs).mean
    assert torch.equal(PEX.act(nets, obs, case.hp, False), old)
    with torch.no_grad():
        nets.expansion.log_std -= 1e-3
    gain = nets.critic(obs, torch.stack((old, new))).amin(0)
    expected = torch.where((gain[1] > gain[0]).unsqueeze(1), new, old)
    assert torch.equal(PEX.act(nets, obs, case.hp, False), expected)
    assert 0 < (expected == new).all(1).sum() < 64


def test_pex_explores_with_either_policy_by_a_coin_when_the_critics_do_not_count(problem: Build):
    case = problem(PEX, inverse_temperature=0.0)
    obs = case.batch.obs.repeat(100, 1)
    kept = (PEX.act(case.nets, obs, case.hp, True) == case.nets.actor(obs).mean).all(1).float().mean()
    assert kept.item() == pytest.approx(0.5, abs=0.03)


# Files.


@pytest.mark.parametrize("recipe", [BC, CRR, PEX, AWR])
def test_what_they_do_can_be_exported(recipe: Any, problem: Build, wide: Shards):
    case = problem(recipe, **({"policy": "gaussian"} if recipe is BC else {}))
    policy = Policy(recipe, case.nets, case.hp, Transforms.of(wide, case.hp))
    assert len(policy.export()) > 0
