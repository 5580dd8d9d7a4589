"""MOPO and COMBO: what they are without their model, what their model makes up, and what they refuse."""

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor

from datasets_io import Shards
from off2on.algorithms.combo import COMBO
from off2on.algorithms.cql import CQL
from off2on.algorithms.mopo import MOPO
from off2on.algorithms.sac import SAC
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import RolloutSchedule
from off2on.recipe.networks import Critic, Nets, Scalar
from off2on.replay.model_buffer import ModelBuffer

Build = Callable[..., Any]
SMALL = {"dynamics_hidden": (16,), "dynamics_decay": (0.0, 0.0), "dynamics_members": 3, "dynamics_elites": 2}
MODEL = SMALL | {"termination": "never", "rollout_starts": 40, "rollout_every": 4, "horizon": 2}
AS_SAC = {"conservative_weight": 0.0, "actor_lr": 3e-4, "entropy_backup": True}


def have_the_same_losses(parent: Any, child: Any, real: int) -> None:
    """On the parent's networks and batch, with the same random numbers drawn."""
    child.nets.load_state_dict(parent.nets.state_dict(), strict=False)
    child.batch = Batch(**vars(parent.batch) | {"real": real})
    seen = []
    for case in (parent, child):
        torch.manual_seed(7)
        batch = case.recipe.prepare(case.nets, Batch(**vars(case.batch)), case.hp)
        found = [
            getattr(case.recipe, f"compute_{objective.name}_loss")(case.nets, batch, case.hp)[0]
            for objective in parent.recipe.objectives_in_order()
        ]
        seen.append((torch.stack(found), torch.get_rng_state()))
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def learns_the_same(one: Any, other: Any, updates: int = 12) -> None:
    assert one.advance(updates) == other.advance(updates)
    for name in set(one.nets.names()) & set(other.nets.names()):
        assert torch.equal(one.flat[name].vector, other.flat[name].vector), name


# Without a model.


@pytest.mark.parametrize("given", [{}, {"threshold": 1.0}, {"gap_floor": 0.5}, {"backup_actions": 2}])
@pytest.mark.parametrize("rho", ["mixed", "model"])
def test_combo_without_imagined_rows_has_cqls_losses(problem: Build, rho: str, given: Any):
    have_the_same_losses(problem(CQL, **given), problem(COMBO, **MODEL, rho=rho, **given), real=64)


@pytest.mark.parametrize("rho", ["mixed", "model"])
def test_combo_without_imagined_rows_learns_what_cql_learns(build_learner: Build, rho: str):
    learns_the_same(build_learner(CQL, "wide"), build_learner(COMBO, "wide", real_ratio=1.0, rho=rho))


def test_combo_with_imagined_rows_learns_something_else(build_learner: Build):
    cql, combo = build_learner(CQL, "wide"), build_learner(COMBO, "wide", **MODEL)
    for learner in (cql, combo):
        learner.advance(3)
    assert not torch.equal(cql.flat["critic"].vector, combo.flat["critic"].vector)


def test_combo_without_its_term_has_sacs_losses_on_the_mixture(problem: Build):
    have_the_same_losses(problem(SAC), problem(COMBO, **MODEL, **AS_SAC), real=32)


def test_mopo_without_imagined_rows_learns_what_sac_learns(build_learner: Build):
    sac = build_learner(SAC, "wide", target_entropy=-3.0)
    learns_the_same(sac, build_learner(MOPO, "wide", real_ratio=1.0))


@pytest.mark.parametrize("recipe", [MOPO, COMBO])
def test_without_a_model_none_is_fitted_and_nothing_is_asked_of_the_data(recipe: Any, wide: Shards):
    hp = recipe.Hyperparameters(real_ratio=1.0, normalise_obs=True)
    assert recipe.resolve(hp, wide) == hp
    assert recipe.rollout_schedule(hp) is None
    assert recipe.fit(None, None, hp, None) == {}


# Model rollouts.


def rollouts(case: Any, starts: int = 50, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    recorded = Batch(obs=torch.randn(starts, 5))
    torch.manual_seed(seed)
    made: Batch = case.recipe.generate_rollouts(case.nets, recorded, case.hp)
    return made


def test_mopo_without_a_penalty_believes_the_model(problem: Build):
    unpenalised, penalised = (problem(MOPO, **MODEL, penalty=penalty) for penalty in (0.0, 2.0))
    one, other, model = rollouts(unpenalised), rollouts(penalised), rollouts(problem(COMBO, **MODEL))
    assert torch.equal(one.obs, other.obs)
    assert model.reward.shape == one.reward.shape
    _, std = unpenalised.nets.dynamics.predict(one.obs, one.action)
    doubt = std.square().sum(-1).sqrt().max(0).values  # of all members, elites or not, the reward included
    torch.testing.assert_close(other.reward, one.reward - 2 * doubt)
    assert (doubt > 0).all()


def test_mopos_price_is_that_of_the_least_sure_member_elite_or_not():
    std = torch.zeros(3, 1, 3)
    std[0, 0], std[2, 0] = tensor([3.0, 0.0, 4.0]), tensor([1.0, 0.0, 0.0])
    reward = MOPO.rollout_reward(tensor([7.0]), std, MOPO.Hyperparameters(penalty=0.5))
    assert reward.tolist() == [7 - 0.5 * 5]


def test_a_rollout_goes_on_from_what_it_has_made_up_until_the_horizon(problem: Build):
    case = problem(MOPO, **MODEL | {"horizon": 3})
    made = rollouts(case, starts=50)
    assert len(made.obs) == 150
    assert torch.equal(made.obs[50:], made.next_obs[:100])
    assert (made.mask == 1).all()
    assert {name: tuple(value.shape[1:]) for name, value in vars(made).items()} == {
        "obs": (5,),
        "action": (3,),
        "reward": (),
        "next_obs": (5,),
        "mask": (),
    }
    assert not any(value.requires_grad for value in vars(made).values())


def half(obs: Tensor) -> Tensor:
    """A rule for tests: the end is where the first number is negative."""
    return obs[..., 0] < 0


def test_what_has_ended_is_not_continued_and_has_no_future(problem: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.recipe.terminations.never", half)
    made = rollouts(problem(MOPO, **MODEL | {"horizon": 3}), starts=50)
    ended = made.next_obs[:, 0] < 0
    assert torch.equal(made.mask, 1 - ended.float())
    going = made.next_obs[:50][~ended[:50]]
    assert 0 < len(going) < 50
    assert torch.equal(made.obs[50 : 50 + len(going)], going)
    assert len(made.obs) < 150


def test_nothing_is_made_up_after_all_have_ended(problem: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.recipe.terminations.never", lambda obs: obs[..., 0] < math.inf)
    made = rollouts(problem(MOPO, **MODEL | {"horizon": 5}), starts=50)
    assert len(made.obs) == 50
    assert (made.mask == 0).all()


def test_many_starts_make_as_many_rollouts(problem: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.recipe.model_based.CHUNK", 7)
    case = problem(MOPO, **MODEL)
    made = rollouts(case, starts=50)
    assert len(made.obs) == 100
    torch.manual_seed(0)
    starts = torch.randn(50, 5)
    assert {tuple(row) for row in starts.tolist()} <= {tuple(row) for row in made.obs.tolist()}


def test_rounds_are_as_large_as_the_hyperparameters_say():
    plan = MOPO.rollout_schedule(MOPO.Hyperparameters())
    assert plan is not None
    assert (plan.every, plan.starts, plan.kept, plan.real_share) == (1000, 50_000, 50_000 * 5 * 5, 0.05)


@pytest.mark.parametrize(("share", "rows"), [(0.01, 1), (0.0, 0), (0.5, 16), (1.0, 32)])
def test_a_batch_has_a_recorded_row_unless_their_share_is_0(share: float, rows: int):
    """COMBO's gap is a mean over the recorded rows of a batch."""
    buffer = SimpleNamespace(schedule=RolloutSchedule(1, 1, 1, share), rows=SimpleNamespace(online=5))
    assert ModelBuffer.real_size(buffer, 32) == rows  # type: ignore[arg-type]


# COMBO by hand: Q_1 = 2a + 1 and Q_2 = 4a - 0.5 as in test_losses.


def affine(layer: nn.Module, weight: list[list[float]], bias: list[float]) -> None:
    with torch.no_grad():
        layer.weight.copy_(tensor(weight).reshape(layer.weight.shape))
        layer.bias.copy_(tensor(bias).reshape(layer.bias.shape))


@pytest.mark.parametrize("rho", ["mixed", "model"])
def test_combo_by_hand(rho: str):
    critic = Critic(1, 1, (1,))
    affine(critic.layers[0], [[0.0, 1.0], [0.0, 1.0]], [1.0, 1.0])
    affine(critic.layers[1], [[2.0], [4.0]], [-1.0, -4.5])
    nets = Nets(
        temperature=Scalar(0.0),
        actor=SquashedGaussianActor(1, 1, ()),
        critic=critic,
        multiplier=Scalar(0.0),
        targets=("critic",),
    )
    # a recorded row with a = 0.5, and two synthetic ones with actions 0.25, which only decrease
    batch = Batch(
        obs=torch.zeros(3, 1),
        action=tensor([[0.5], [0.25], [0.25]]),
        reward=tensor([2.0, 1.5, 1.5]),
        next_obs=torch.zeros(3, 1),
        mask=torch.zeros(3),
        real=1,
    )
    batch.next_sample = torch.zeros(3, 1), torch.zeros(3)
    # at the recorded state the one proposal is -1, at the synthetic ones 0 and 1, of density 1
    batch.proposals = tensor([[[-1.0], [0.0], [1.0]]]), torch.zeros(1, 3)
    # so LSE_1 = -1, 1, 3 and LSE_2 = -4.5, -0.5, 3.5
    down = {"mixed": (1.0, -0.5), "model": (2.0, 1.5)}[rho]
    gaps = down[0] - 2.0, down[1] - 1.5
    # errors: Q_1 = 2, 1.5, 1.5 are right; Q_2 = 1.5, 0.5, 0.5 miss by 0.5, 1, 1
    hp = COMBO.Hyperparameters(conservative_weight=3.0, rho=rho)
    loss, metrics = COMBO.compute_critic_loss(nets, batch, hp)
    assert loss.item() == pytest.approx(2.25 / 3 + 3 * sum(gaps), rel=1e-5)
    assert metrics["critic/gap"].item() == pytest.approx(sum(gaps) / 2, rel=1e-5)
    bounded = dataclasses.replace(hp, gap_floor=-0.4)
    loss, _ = COMBO.compute_critic_loss(nets, batch, bounded)
    assert loss.item() == pytest.approx(2.25 / 3 + 3 * sum(max(gap, -0.4) for gap in gaps), rel=1e-5)


def test_combo_lowers_the_models_states_and_raises_the_datas_actions(problem: Build):
    case = problem(COMBO, **MODEL, rho="model", conservative_weight=100.0)
    batch, before = case.prepared(), case.nets.critic(case.batch.obs, case.batch.action).detach()
    parameters = list(case.nets.critic.parameters())
    for parameter, g in zip(
        parameters, torch.autograd.grad(case.loss("critic", batch), parameters), strict=True
    ):
        parameter.data -= 1e-5 * g
    after = case.nets.critic(case.batch.obs, case.batch.action)
    change = (after - before).mean(0)
    assert change[: case.batch.real].mean() > change[case.batch.real :].mean()
    assert change[: case.batch.real].mean() > 0
