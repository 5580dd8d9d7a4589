"""SAC-N and EDAC: what they become at one end of their dials, and golden numbers by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from limits import assert_same, with_weights_of
from torch import tensor

from off2on.algorithms.edac import EDAC, ensemble_similarity
from off2on.algorithms.sac import SAC
from off2on.algorithms.sac_n import SACN

Make = Callable[..., Any]


# SAC-N.


@pytest.mark.parametrize("members", [2, 10])
def test_sac_n_with_as_many_critics_is_sac(problem: Make, members: int):
    ours = problem(SACN, critics=members)
    assert_same(ours, with_weights_of(problem(SAC, critics=members), ours))


def test_sac_n_learns_what_sac_learns_from_the_same_start(build_learner: Make):
    sac, ours = build_learner(SAC), build_learner(SACN, critics=2)
    for name in ("actor", "critic"):
        sac.flat[name].vector.copy_(ours.flat[name].vector)
        sac.nets.target.critic.load_state_dict(ours.nets.target.critic.state_dict())
    assert sac.advance(20) == ours.advance(20)
    assert torch.equal(sac.flat["critic"].vector, ours.flat["critic"].vector)


def test_sac_n_starts_with_nothing_to_choose(problem: Make):
    nets = problem(SACN).nets
    first = nets.critic.layers[0]
    assert (first.bias == 0.1).all()
    assert first.weight.abs().max() > 0.3  # 1 / sqrt(8) is the bound of a layer of 8
    assert 0 < nets.critic.layers[-1].weight.abs().max() <= 3e-3
    assert (nets.actor.mlp[2].bias == 0.1).all()
    assert 0 < nets.actor.mlp[-1].weight.abs().max() <= 1e-3
    assert nets.actor.mlp[-1].bias.abs().max() <= 1e-3
    assert nets.actor.bounds == (-5.0, 2.0)
    fresh = SACN.new_critic(5, 3, problem(SACN).hp)
    assert not torch.equal(fresh.layers[-1].weight[0], fresh.layers[-1].weight[1])


def test_five_hundred_critics_learn(build_learner: Make):
    for recipe in (SACN, EDAC):
        learner = build_learner(recipe, "wide", critics=500, hidden=(16, 16))
        before = learner.flat["critic"].vector.clone()
        logged = learner.advance(2)
        assert learner.flat["critic"].vector.isfinite().all()
        changed = (learner.flat["critic"].vector != before).view(-1)
        assert changed.float().mean() > 0.5
        assert all(torch.tensor(value).isfinite() for value in logged.values())


def test_more_backup_actions_make_the_target_more_hopeful(problem: Make):
    mean = []
    for count in (2, 5, 30):
        case = problem(SACN, backup_actions=count)
        target = SACN.soft_target(case.nets, case.prepared(), case.hp, torch.empty(0), torch.empty(0))
        mean.append(target.mean().item())
    assert mean == sorted(mean)


# EDAC.


def test_edac_at_eta_zero_is_sac_n(problem: Make):
    assert_same(problem(EDAC, eta=0.0), problem(SACN))


def test_edac_at_eta_zero_learns_what_sac_n_learns(build_learner: Make):
    ours, plain = build_learner(EDAC, eta=0.0), build_learner(SACN)
    assert ours.advance(10) == plain.advance(10)
    assert torch.equal(ours.flat["critic"].vector, plain.flat["critic"].vector)


def test_edac_with_next_to_no_eta_is_next_to_sac_n(problem: Make):
    ours, plain = problem(EDAC, eta=1e-12), problem(SACN)
    losses = [case.loss("critic") for case in (ours, plain)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(
        *(gradient(loss, case.nets.critic) for loss, case in zip(losses, (ours, plain), strict=True))
    )


def test_ensemble_similarity_by_hand():
    # cosines 0, -1, 0 of unit vectors along x, y and -x: twice their sum over N - 1 = 2
    slope = tensor([[[3.0, 0.0]], [[0.0, 0.5]], [[-2.0, 0.0]]])
    assert ensemble_similarity(slope).item() == pytest.approx(-1.0)
    assert ensemble_similarity(slope[:2]).item() == pytest.approx(0.0)
    assert ensemble_similarity(slope[[0, 2]]).item() == pytest.approx(-2.0)
    assert ensemble_similarity(slope[[1, 1, 1, 1]]).item() == pytest.approx(4.0)
    assert ensemble_similarity(torch.zeros(3, 1, 2)).item() == 0.0
    # a mean over the batch
    assert ensemble_similarity(slope[[0, 2]].repeat(1, 5, 1)).item() == pytest.approx(-2.0)


def test_ensemble_similarity_turns_gradients_away_from_each_other_and_leaves_their_length(problem: Make):
    slope = tensor([[[1.0, 0.1]], [[1.0, -0.1]]], requires_grad=True)
    (turn,) = torch.autograd.grad(ensemble_similarity(slope), slope)
    assert turn[0, 0, 1] < 0 < turn[1, 0, 1]
    assert (turn * slope.detach()).sum(-1).abs().max() < 1e-6
    # and through the network: steps on it alone lower it
    case = problem(EDAC)
    seen = []
    for _ in range(20):
        _, slope = case.nets.critic.with_action_gradient(case.batch.obs, case.batch.action)
        seen.append(ensemble_similarity(slope))
        for parameter, step in zip(
            case.nets.critic.parameters(),
            torch.autograd.grad(seen[-1], list(case.nets.critic.parameters()), materialize_grads=True),
            strict=True,
        ):
            parameter.data -= 1e-3 * step
    assert seen[-1] < seen[0] - 0.1


def test_edac_does_not_ask_for_gradients_of_what_comes_after(problem: Make):
    case = problem(EDAC)
    batch = case.prepared()
    case.loss("critic", batch)
    assert not any(getattr(batch, name).requires_grad for name in ("obs", "action", "next_obs", "reward"))


# Presets.


def test_edacs_preset_of_pen_human():
    human = EDAC.Hyperparameters.parse({"preset": "pen-human"}, "edac")
    assert (human.critics, human.eta, human.actor_lr, human.reward) == (20, 1000.0, 3e-5, "standardise")
