"""SPOT: TD3+BC's loss without its term, and an order of updates in two parts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient

from off2on.algorithms.spot import SPOT
from off2on.algorithms.td3 import TD3
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe.hooks import Objective

Build = Callable[..., Any]
SMALL = {"vae_hidden": (32, 32), "dropout": 0.0}


def test_without_its_term_the_policy_maximises_q_scaled_to_one(problem: Build):
    spot = problem(SPOT, support_weight=0.0, **SMALL)
    q = spot.nets.critic.first(spot.batch.obs, spot.nets.actor(spot.batch.obs))
    torch.testing.assert_close(spot.loss("actor"), -q.mean() / q.abs().mean())
    assert q.abs().mean() != 1


def test_without_dropout_the_critics_learn_what_td3s_do(problem: Build):
    spot, td3 = problem(SPOT, **SMALL), problem(TD3)
    td3.nets.load_state_dict(spot.nets.state_dict(), strict=False)
    td3.batch = spot.batch
    assert torch.equal(spot.loss("critic"), td3.loss("critic"))


@pytest.mark.parametrize("name", ["critic", "actor", "vae"])
def test_the_autoencoder_is_trained_first_and_alone(name: str):
    hp = SPOT.Hyperparameters(vae_share=0.25)
    found = [
        SPOT.is_due(Objective(name, 2 if name == "actor" else 1), hp, 2, progress)
        for progress in (0.0, 0.2499, 0.25, 0.9, 1.0, 1.9)
    ]
    assert found == ([True] * 2 + [False] * 4 if name == "vae" else [False] * 2 + [True] * 4)
    assert not SPOT.is_due(Objective("actor", 2), hp, 3, 0.5)


def test_a_learner_changes_the_autoencoder_in_the_first_part_and_nothing_else(build_learner: Build):
    learner = build_learner(SPOT, updates=40, vae_share=0.5, **SMALL)
    start = {name: flat.vector.clone() for name, flat in learner.flat.items()}
    learner.advance(20)
    middle = {name: flat.vector.clone() for name, flat in learner.flat.items()}
    assert {name for name in start if not torch.equal(start[name], middle[name])} == {"vae"}
    learner.advance(20)
    changed = {name for name, flat in learner.flat.items() if not torch.equal(flat.vector, middle[name])}
    assert "vae" not in changed
    assert {"critic", "actor"} <= changed


def test_the_penalty_does_not_train_the_autoencoder_but_reaches_the_action(problem: Build):
    """The gradient goes through encoder and decoder to the policy: with Q constant, it is not 0."""
    case = problem(SPOT, support_weight=1.0, **SMALL)
    for parameter in case.nets.critic.parameters():
        parameter.data.zero_()
    case.nets.critic.layers[-1].bias.data.fill_(1.0)
    assert gradient(case.loss("actor"), case.nets.actor).abs().max() > 0


@pytest.mark.parametrize(("progress", "share"), [(0.5, 1.0), (1.0, 1.0), (1.5, 0.5), (1.8, 0.2), (2.0, 0.2)])
def test_the_penalty_fades_online_to_a_fifth(problem: Build, progress: float, share: float):
    case = problem(SPOT, support_weight=1.0, **SMALL)
    without = problem(SPOT, support_weight=0.0, **SMALL)
    whole = case.loss("actor") - without.loss("actor")
    case.batch.progress = without.batch.progress = progress
    torch.testing.assert_close(case.loss("actor") - without.loss("actor"), share * whole)


def test_more_of_the_penalty_is_closer_to_the_data_as_td3_bc_has_it(problem: Build):
    assert SPOT.scale_regularisation(SPOT.Hyperparameters(), 0.5).support_weight == 0.05
    assert TD3BC.scale_regularisation(TD3BC.Hyperparameters(), 0.5).alpha == 5.0  # there it weighs Q


def test_a_small_start_has_actions_and_values_near_0(problem: Build):
    plain, small = problem(SPOT, **SMALL), problem(SPOT, small_start=True, **SMALL)
    for case, near in ((plain, False), (small, True)):
        action = case.nets.actor(case.batch.obs)
        assert (action.abs().max() < 0.01).item() is near
        assert (case.nets.critic(case.batch.obs, action).abs().max() < 0.05).item() is near
