"""MOBILE: SAC without its penalty; a penalty only where the elites of the model disagree."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from off2on.algorithms.mobile import MOBILE
from off2on.algorithms.sac import SAC
from off2on.errors import HyperparameterError
from off2on.recipe.hooks import Objective

Build = Callable[..., Any]
SMALL = {"dynamics_hidden": (16,), "dynamics_decay": (0.0, 0.0), "dynamics_members": 3, "dynamics_elites": 2}
MODEL = SMALL | {"termination": "never", "rollout_starts": 40, "rollout_every": 4, "horizon": 2}
AS_SAC = {"entropy_backup": True, "actor_lr": 3e-4, "temperature_lr": 3e-4, "actor_decay": False}


def disagreement(case: Any, real: int = 32) -> Tensor:
    case.batch.real = real
    torch.manual_seed(0)
    found: Tensor = MOBILE.disagreement(case.nets, case.batch, case.hp)
    return found


def test_without_model_rollouts_it_learns_what_sac_learns(build_learner: Build):
    sac, mobile = build_learner(SAC, "wide"), build_learner(MOBILE, "wide", real_ratio=1.0, **AS_SAC)
    assert sac.advance(12) == mobile.advance(12)
    for name in ("actor", "critic", "temperature"):
        assert torch.equal(sac.flat[name].vector, mobile.flat[name].vector), name


def test_without_its_weight_the_penalty_does_not_count(problem: Build):
    case, sac = problem(MOBILE, **MODEL, penalty=0.0, **AS_SAC), problem(SAC)
    sac.nets.load_state_dict(case.nets.state_dict(), strict=False)
    sac.batch = case.batch
    assert case.batch.real < 64
    assert torch.equal(case.loss("critic"), sac.loss("critic"))


def test_recorded_rows_have_no_penalty_and_synthetic_ones_do(problem: Build):
    found = disagreement(problem(MOBILE, **MODEL))
    assert (found[:32] == 0).all()
    assert (found[32:] > 0).all()


def test_members_that_agree_have_no_penalty(problem: Build):
    """Elites with the same weights and almost no noise see the same next state; others do not count."""
    case = problem(MOBILE, **MODEL)
    dynamics = case.nets.dynamics
    dynamics.elites.copy_(torch.tensor([2, 0]))
    with torch.no_grad():
        for layer in dynamics.layers:
            layer.weight[2], layer.bias[2] = layer.weight[0], layer.bias[0]
        dynamics.max_log_var.fill_(-60.0)
        dynamics.min_log_var.fill_(-61.0)
        case.nets.actor.mlp[-1].weight[3:].zero_()  # no noise on the actions either
        case.nets.actor.mlp[-1].bias[3:].fill_(-20.0)
    assert disagreement(case).max() < 1e-5
    dynamics.elites.copy_(torch.tensor([2, 1]))
    assert disagreement(case)[32:].min() > 1e-5


def test_more_disagreement_lowers_the_targets_of_synthetic_rows_alone(problem: Build):
    targets = []
    for penalty in (0.0, 3.0):
        case = problem(MOBILE, **MODEL, penalty=penalty)
        case.batch.real = 32
        torch.manual_seed(1)
        action, log_prob = case.nets.actor(case.batch.next_obs).sample()
        targets.append(MOBILE.soft_target(case.nets, case.batch, case.hp, action, log_prob))
    assert torch.equal(targets[0][:32], targets[1][:32])
    assert (targets[0][32:] > targets[1][32:]).all()


def test_one_elite_cannot_disagree(problem: Build):
    with pytest.raises(HyperparameterError, match="at least two dynamics_elites"):
        problem(MOBILE, **MODEL | {"dynamics_elites": 1})
    case = problem(MOBILE, **MODEL | {"dynamics_elites": 1, "penalty": 0.0})
    assert case.batch.real < 64
    assert case.loss("critic").isfinite()


@pytest.mark.parametrize(("floor", "least"), [(0.0, 0.0), (-0.25, -0.25), (None, None)])
def test_the_floor_of_the_targets(problem: Build, floor: float | None, least: float | None):
    case = problem(MOBILE, **MODEL, value_floor=floor)
    action, log_prob = case.nets.actor(case.batch.next_obs).sample()
    smallest = MOBILE.soft_target(case.nets, case.batch, case.hp, action, log_prob).min().item()
    assert smallest < -0.3 if least is None else smallest == least


def test_a_fixed_temperature_is_not_trained(build_learner: Build):
    learner = build_learner(MOBILE, "wide", **MODEL, learn_temperature=False, initial_temperature=0.2)
    learner.fit()
    learner.advance(4)
    assert learner.nets.temperature().exp().item() == pytest.approx(0.2)
    hp = MOBILE.Hyperparameters()
    assert MOBILE.is_due(Objective("temperature"), hp, 1, 0.5)


def test_the_policys_learning_rate_falls_offline_and_not_online():
    hp = MOBILE.Hyperparameters(actor_lr=1e-4)
    found = [MOBILE.lr("actor", hp, progress) for progress in (0.0, 0.5, 1.0, 1.5)]
    assert found == pytest.approx([1e-4, 5e-5, 1e-4, 1e-4])
    assert MOBILE.lr("critic", hp, 0.5) == 3e-4
