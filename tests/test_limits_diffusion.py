"""Diffusion policies at the ends of their dials, and their parts by hand."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor, nn
from toy_bandit import seeds, shares, trained

from off2on.algorithms.diffusion_ql import DiffusionQL
from off2on.algorithms.idql import IDQL
from off2on.recipe.action_choice import draw_proposal
from off2on.recipe.diffusion import denoise, noise_error, schedule, sinusoids

Make = Callable[..., Any]


# The parts, by hand.


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_the_schedule_leaves_the_same_share_of_the_action_for_every_number_of_steps(steps: int):
    found = schedule(steps)
    assert len(found) == steps
    assert found[-1].kept == pytest.approx(math.exp(-5.05))
    assert found[0].kept_before == 1
    for one, other in pairwise(found):
        assert other.kept_before == one.kept
        assert other.kept == pytest.approx(one.kept * (1 - other.beta))
        assert other.beta > one.beta
    assert found[0].beta == pytest.approx(1 - math.exp(-0.1 / steps - 4.95 / steps**2))


def test_sines_and_cosines_of_the_step():
    found = sinusoids(torch.tensor([[0.0], [3.0]]), 4)
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]]
    torch.testing.assert_close(found, torch.tensor(expected))


class Exact(nn.Module):
    """The noise in points around one action."""

    def __init__(self, goal: float, steps: int) -> None:
        super().__init__()
        self.goal = goal
        self.kept = torch.tensor([step.kept for step in schedule(steps)])

    def forward(self, obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Return the noise for which the action is the goal."""
        kept = self.kept[time.long()]
        return (point - kept.sqrt() * self.goal) / (1 - kept).sqrt()


@pytest.mark.parametrize("clip_start", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_exact_noise_leads_to_the_action_from_everywhere(steps: int, clip_start: bool):
    noise = torch.randn(steps, 4, 8, 3)
    found = denoise(Exact(0.4, steps), torch.zeros(8, 2), noise, clip_start)
    torch.testing.assert_close(found, torch.full((4, 8, 3), 0.4))


def test_the_exact_noise_has_no_error_and_another_one_has():
    noise, number = torch.randn(64, 3), torch.arange(64) % 5
    action = torch.full((64, 3), 0.4)
    kept = torch.tensor([step.kept for step in schedule(5)])
    assert noise_error(Exact(0.4, 5), kept, torch.zeros(64, 2), action, noise, number).max() < 1e-8
    off = noise_error(Exact(0.5, 5), kept, torch.zeros(64, 2), action, noise, number)
    share = kept[number].unsqueeze(-1)
    torch.testing.assert_close(off, (0.01 * share / (1 - share)).expand(64, 3), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("steps", "share"), [(5, 0.34), (20, 0.44)])
@pytest.mark.parametrize("clip_start", [True, False])
def test_the_exact_noise_of_two_actions_leads_to_both(steps: int, share: float, clip_start: bool):
    """The more steps, the fewer actions end between the two."""

    def exact(obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        kept = schedule(steps)[int(time)].kept
        mean = 0.7 * torch.tanh(0.7 * math.sqrt(kept) * point / (1 - kept))  # of the action, given the point
        return (point - math.sqrt(kept) * mean) / math.sqrt(1 - kept)

    found = denoise(exact, torch.zeros(4000, 1), torch.randn(steps, 4000, 1), clip_start)
    assert min(shares(found.squeeze(1))) > share


def test_actions_stay_in_the_box_however_wrong_the_prediction_is():
    for clip_start in (True, False):
        found = denoise(
            lambda obs, point, time: -9 * point, torch.zeros(8, 2), torch.randn(5, 8, 3), clip_start
        )
        assert found.abs().max() <= 1


def test_proposals_are_drawn_in_proportion_to_their_exponential():
    value = torch.tensor([0.0, 1.0, 2.0]).unsqueeze(1).expand(3, 20_000)
    actions = torch.arange(3.0).view(3, 1, 1).expand(3, 20_000, 1)
    drawn = torch.bincount(draw_proposal(value, actions).long().squeeze(), minlength=3) / 20_000
    torch.testing.assert_close(drawn, torch.tensor([0.0, 1.0, 2.0]).softmax(0), rtol=0, atol=0.015)


# Diffusion-QL.


def test_without_eta_the_policy_imitates_and_without_alpha_it_follows_q_alone(problem: Make):
    case = problem(DiffusionQL, eta=0.0, alpha=2.0)
    batch = case.prepared()
    error = noise_error(
        case.nets.actor, case.nets.actor.kept, batch.obs, batch.action, batch.start, batch.number
    ).mean()
    torch.testing.assert_close(case.loss("actor", batch), 2 * error)

    case = problem(DiffusionQL, eta=0.5, alpha=0.0)
    batch = case.prepared()
    action = denoise(case.nets.actor, batch.obs, batch.noise)
    one, other = case.nets.critic(batch.obs, action)
    for coin, best, scale in ((0.0, one, other), (0.9, other, one)):
        batch.coin = torch.tensor([coin])
        loss = case.loss("actor", batch)
        torch.testing.assert_close(loss, -0.5 * best.mean() / scale.abs().mean())
        assert gradient(loss, case.nets.actor).any()


def test_targets_of_more_samples_are_never_lower(problem: Make, monkeypatch: pytest.MonkeyPatch):
    draw = torch.randn
    many = draw(5, 6, 64, 3)
    found = []
    for samples in (1, 6):
        case = problem(DiffusionQL, backup_samples=samples)

        def fixed(*shape: int, count: int = samples, **_: Any) -> Tensor:
            return many[:, :count] if len(shape) == 4 else draw(*shape)

        monkeypatch.setattr(torch, "randn", fixed)
        found.append(case.prepared().target)
        monkeypatch.setattr(torch, "randn", draw)
    assert (found[1] >= found[0]).all()
    assert (found[1] > found[0] + 1e-4).any()


@pytest.mark.parametrize("recipe", [DiffusionQL, IDQL])
def test_the_best_of_one_action_is_the_end_of_its_chain(problem: Make, recipe: Any):
    case = problem(recipe, samples=1)
    actor = case.nets.actor if recipe is DiffusionQL else case.nets.target.actor
    noise = actor.draws[:, 0].expand(-1, 64, -1)
    expected = denoise(actor, case.batch.obs, noise, clip_start=recipe is DiffusionQL)
    torch.testing.assert_close(recipe.act(case.nets, case.batch.obs, case.hp, False), expected)


@pytest.mark.parametrize("recipe", [DiffusionQL, IDQL])
def test_more_proposals_are_never_worse(problem: Make, recipe: Any):
    few, many = problem(recipe, samples=1), problem(recipe, samples=16)
    many.nets.target.actor.load_state_dict(
        many.nets.actor.state_dict()
    )  # others end in one corner of the box
    state = many.nets.state_dict()
    for name in ("actor.draws", "target.actor.draws"):
        state[name] = state[name][:, :1]
    few.nets.load_state_dict(state)
    obs = few.batch.obs
    worse, better = (
        case.nets.target.critic(obs, recipe.act(case.nets, obs, case.hp, False)).amin(0)
        for case in (few, many)
    )
    assert (better >= worse - 1e-6).all()
    assert (better > worse + 1e-6).any()


def test_the_target_policy_waits_and_then_moves_in_every_fifth_update():
    hp = DiffusionQL.Hyperparameters(polyak=0.25)
    moved = [u for u in range(1, 1022) if DiffusionQL.target_rate("actor", hp, u, 0.0)]
    assert moved == [1001, 1006, 1011, 1016, 1021]
    assert DiffusionQL.target_rate("actor", hp, 1001, 0.0) == 0.25
    assert all(DiffusionQL.target_rate("critic", hp, u, 0.0) == 0.25 for u in (1, 2, 1001))


def test_the_limit_of_the_gradient_is_a_hyperparameter_and_0_is_none(build_learner: Make):
    assert DiffusionQL.max_gradient_norm("actor", DiffusionQL.Hyperparameters(gradient_norm=7.0)) == 7.0
    learner, free = (
        build_learner(DiffusionQL, gradient_norm=norm, diffusion_steps=2, samples=2) for norm in (0.03, 0.0)
    )
    for one in (learner, free):
        one.advance(1)
    for name in ("actor", "critic"):
        assert learner.flat[name].vector.grad.norm() < 0.03 + 1e-6
        assert free.flat[name].vector.grad.norm() > 0.1


# IDQL.


def test_the_acting_policy_of_idql_follows_with_its_own_rate_and_the_learned_one_decays(build_learner: Make):
    learner = build_learner(IDQL, ema_rate=0.25, polyak=0.5, width=8, blocks=1, samples=2, weight_decay=0.1)
    actor, target = (
        learner.flat["actor"].vector,
        dict(zip(learner.nets.targets, learner.target_pairs, strict=True)),
    )
    for _ in range(2):
        before = {name: pair[0].vector.clone() for name, pair in target.items()}
        learner.advance(1)
        assert torch.equal(target["actor"][0].vector, torch.lerp(before["actor"], actor, 0.25))
        critic = learner.flat["critic"].vector
        assert torch.equal(target["critic"][0].vector, torch.lerp(before["critic"], critic, 0.5))
    hp = learner.hp
    assert IDQL.lr("actor", hp, 0.5) == pytest.approx(0.5 * hp.actor_lr)
    assert IDQL.lr("actor", hp, 1.0) == hp.actor_lr
    assert IDQL.lr("critic", hp, 0.5) == hp.critic_lr
    assert IDQL.optimizer("actor", hp, torch.zeros(1)).defaults["weight_decay"] == 0.1
    assert IDQL.optimizer("critic", hp, torch.zeros(1)).defaults["weight_decay"] == 0


# Two equally good actions with a bad mean.


@pytest.mark.slow
@seeds(2)
@pytest.mark.parametrize(
    ("recipe", "more"),
    [(DiffusionQL, {"eta": 0.3}), (IDQL, {"width": 64, "blocks": 1, "ema_rate": 0.05, "value_lr": 1e-3})],
    ids=["diffusion_ql", "idql"],
)
def test_a_diffusion_policy_avoids_the_bad_mean_of_good_actions(recipe: Any, more: Any, seed: int):
    low, high = shares(trained(recipe, seed, 800, **more))
    assert low + high > 0.8


@pytest.mark.slow
@seeds(2)
def test_a_diffusion_model_alone_plays_both_good_actions(seed: int):
    low, high = shares(trained(DiffusionQL, seed, 800, eta=0.0, samples=1))
    assert min(low, high) > 0.12  # a Gaussian policy plays less than 0.1 on both sides together
