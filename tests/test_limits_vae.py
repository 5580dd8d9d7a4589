"""BCQ, BEAR, PLAS and UWAC at the ends of their dials."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor

from off2on.algorithms.bcq import BCQ
from off2on.algorithms.bear import BEAR
from off2on.algorithms.plas import PLAS
from off2on.algorithms.td3 import TD3
from off2on.algorithms.uwac import UWAC
from off2on.recipe import losses
from off2on.recipe.vae import best_action

Make = Callable[..., Any]
VAE = {"vae_hidden": (32, 32)}


# BCQ.


def test_bcq_without_perturbation_says_what_its_model_says(problem: Make):
    case = problem(BCQ, perturbation=0.0, **VAE)
    nets, obs = case.nets, case.batch.obs
    proposals = nets.vae(obs, nets.vae.draws.expand(-1, 64, -1))
    assert torch.equal(BCQ.act(nets, obs, case.hp, False), best_action(nets.critic, obs, proposals))
    assert not gradient(case.loss("actor"), nets.actor).any()


def test_bcqs_perturbation_moves_no_action_further_than_its_reach(problem: Make):
    without, with_reach = (problem(BCQ, perturbation=reach, act_samples=1, **VAE) for reach in (0.0, 0.1))
    with_reach.nets.load_state_dict(without.nets.state_dict())
    for parameter in with_reach.nets.actor.parameters():
        parameter.data *= 30
    actions = [BCQ.act(case.nets, without.batch.obs, case.hp, False) for case in (without, with_reach)]
    assert 0.09 < (actions[0] - actions[1]).abs().max() <= 0.1 + 1e-6


def test_bcq_with_one_proposal_has_the_target_of_clipped_double_q_learning(problem: Make):
    bcq = problem(BCQ, target_samples=1, smallest=1.0, **VAE)
    td3 = problem(TD3, target_noise=0.0)
    td3.nets.critic.load_state_dict(bcq.nets.critic.state_dict())
    td3.nets.target.critic.load_state_dict(bcq.nets.target.critic.state_dict())
    ours = bcq.loss("critic", seed=5)
    torch.manual_seed(6)
    latent = bcq.nets.vae.latents(1, 64)
    proposal = bcq.nets.target.actor(bcq.batch.next_obs, bcq.nets.vae(bcq.batch.next_obs, latent))[0]
    td3.nets.target.actor.forward = lambda obs: proposal
    td3.batch = bcq.batch
    torch.testing.assert_close(ours, td3.loss("critic"))


def test_a_target_of_more_proposals_is_no_smaller(problem: Make):
    found = []
    for count in (1, 10):
        case = problem(BCQ, target_samples=count, **VAE)
        for parameter in case.nets.critic.parameters():
            parameter.data.zero_()
        case.batch.reward = torch.full((64,), 100.0)
        case.batch.mask = torch.ones(64)
        found.append(case.loss("critic").item())
    assert found[1] > found[0]  # 2 E[y^2], and y > 0


# PLAS.


def test_a_correction_of_zero_is_plas(problem: Make):
    plain, plus = problem(PLAS, **VAE), problem(PLAS, preset="perturbation", **VAE)
    for nets in (plus.nets, plus.nets.target):
        last = nets.actor.correct.mlp[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    assert plus.nets.actor.correct.reach == 0.05
    plain.nets.load_state_dict(plus.nets.state_dict(), strict=False)
    plus.batch = plain.batch
    obs = plain.batch.obs
    actions = [PLAS.act(case.nets, obs, case.hp, False) for case in (plain, plus)]
    assert torch.equal(*actions)
    assert torch.equal(*(case.loss("critic") for case in (plain, plus)))
    assert torch.equal(*(case.loss("actor") for case in (plain, plus)))


def test_plass_actions_are_those_of_latents_within_reach(problem: Make):
    case = problem(PLAS, **VAE)
    for parameter in case.nets.actor.parameters():
        parameter.data *= 100  # every tanh at an end
    latent = 2.0 * case.nets.actor.mlp(case.batch.obs).sign()
    action = PLAS.act(case.nets, case.batch.obs, case.hp, False)
    torch.testing.assert_close(action, case.nets.vae(case.batch.obs, latent))


def test_plas_trains_its_model_first_and_then_never_again(build_learner: Make):
    learner = build_learner(PLAS, "wide", updates=10, vae_share=0.3, **VAE)
    moved = []
    for _ in range(12):  # two more than the offline ones: online
        before = {name: learner.flat[name].vector.clone() for name in learner.nets.names()}
        learner.advance(1)
        moved.append(
            {name for name, value in before.items() if not torch.equal(value, learner.flat[name].vector)}
        )
    assert moved == [{"vae"}] * 3 + [{"critic", "actor"}] * 9


def test_plas_without_a_share_for_its_model_leaves_it_as_it_is(build_learner: Make):
    learner = build_learner(PLAS, "wide", updates=10, vae_share=0.0, **VAE)
    before = learner.flat["vae"].vector.clone()
    learner.advance(3)
    assert torch.equal(before, learner.flat["vae"].vector)


# BEAR.


def with_mmd(case: Any) -> Any:
    """The prepared batch with the MMD and the policy's action, which the policy's loss then reads."""
    batch = case.prepared()
    BEAR.mmd(case.nets, batch, case.hp)
    return batch


def test_bears_warm_up_ignores_the_critics(problem: Make):
    case = problem(BEAR, **VAE)
    seen = []
    for scale in (1.0, 100.0):
        for parameter in case.nets.critic.parameters():
            parameter.data *= scale
        case.batch.progress = 0.01
        batch = with_mmd(case)
        loss = case.loss("actor", batch)
        seen.append((loss, gradient(loss, case.nets.actor)))
        bare = with_mmd(case).mmd - case.hp.threshold  # alpha is 1 at first
        assert torch.equal(loss, bare)
        assert torch.equal(seen[-1][1], gradient(bare, case.nets.actor))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize(
    ("progress", "with_value"), [(0.0399, False), (0.04, True), (1.0, True), (1.5, True)]
)
def test_bears_warm_up_ends_after_its_share(problem: Make, progress: float, with_value: bool):
    case = problem(BEAR, **VAE)
    case.batch.progress = progress
    batch = with_mmd(case)
    value = case.nets.critic(batch.obs, batch.own_action).amin(0).mean()
    bare = batch.mmd - case.hp.threshold
    assert torch.equal(case.loss("actor", batch), bare - value if with_value else bare)


def test_bear_without_a_price_on_leaving_the_support_only_seeks_value(problem: Make):
    case = problem(BEAR, **VAE)
    case.nets.multiplier.value.data.fill_(-100.0)  # as small as it may be: exp(-5)
    batch = with_mmd(case)
    value = case.nets.critic(batch.obs, batch.own_action).amin(0).mean()
    price = torch.tensor(-5.0).exp() * (batch.mmd - case.hp.threshold)
    assert torch.equal(case.loss("actor", batch), price - value)


def test_bears_multiplier_rises_outside_the_threshold_and_falls_inside(problem: Make):
    for threshold, sign in ((1e-4, -1), (10.0, 1)):
        case = problem(BEAR, threshold=threshold, **VAE)
        assert gradient(case.loss("multiplier"), case.nets.multiplier).sign() == sign


def test_the_following_copy_where_it_started_is_the_policy(problem: Make):
    slow, fast = (problem(BEAR, slow_actor=slow, **VAE) for slow in (True, False))
    assert fast.nets.targets == ("critic",)
    slow.nets.target.actor.load_state_dict(slow.nets.actor.state_dict())
    fast.nets.load_state_dict(slow.nets.state_dict(), strict=False)
    fast.batch = slow.batch
    assert torch.equal(slow.loss("critic"), fast.loss("critic"))


@pytest.mark.parametrize("recipe", [BCQ, BEAR, PLAS, UWAC])
def test_weights_of_one_are_no_weights_and_weights_of_zero_are_no_loss(problem: Make, recipe: Any):
    case = problem(recipe, **VAE)
    plain = case.loss("critic")
    for weight in (torch.ones(64), torch.ones(2, 64)):
        case.batch.weight = weight
        assert torch.equal(case.loss("critic"), plain)
    case.batch.weight = torch.zeros(2, 64)
    assert case.loss("critic") == 0


def test_a_bootstrap_mask_keeps_a_member_from_a_row(problem: Make):
    case = problem(BEAR, **VAE)
    case.batch.weight = torch.tensor([[1.0], [0.0]]).expand(2, 64)
    slopes = torch.autograd.grad(case.loss("critic"), list(case.nets.critic.parameters()))
    for slope in slopes:
        assert slope[0].any()
        assert not slope[1].any()


# UWAC.

AS_BEAR = {"dropout": 0.0, "spectral": False, "kernel": "laplacian", "threshold": 0.05, "slow_actor": True}


@pytest.mark.parametrize("weight", ["exponential", "inverse"])
def test_uwac_without_dropout_is_bear(problem: Make, weight: str):
    bear, uwac = problem(BEAR, **VAE), problem(UWAC, weight=weight, passes=3, **AS_BEAR, **VAE)
    uwac.nets.load_state_dict(bear.nets.state_dict())
    uwac.batch = bear.batch
    assert torch.equal(bear.loss("vae"), uwac.loss("vae"))
    assert torch.equal(bear.loss("multiplier"), uwac.loss("multiplier"))
    for name in ("critic", "actor"):
        # UWAC draws the target's actions when it prepares, BEAR when it computes the loss.
        ours, theirs = uwac.loss(name, uwac.prepared(1)), bear.loss(name)
        torch.testing.assert_close(ours, theirs)
        network = getattr(bear.nets, name)
        slopes = gradient(ours, getattr(uwac.nets, name)), gradient(theirs, network)
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_uwac_at_beta_zero_weighs_all_the_same(problem: Make):
    case = problem(UWAC, beta=0.0, dropout=0.5, **VAE)
    batch = case.prepared()
    _, metrics = UWAC.compute_critic_loss(case.nets, batch, case.hp)
    assert metrics["critic/trust"] == 1
    assert UWAC.certainty(torch.tensor([0.0, 1e6]), case.hp).tolist() == [1, 1]


def test_uwac_at_a_huge_beta_learns_from_the_ends_of_episodes_alone(problem: Make):
    case = problem(UWAC, beta=1e12, dropout=0.5, **VAE)
    ends = case.batch.mask == 0
    assert 0 < ends.sum() < 64
    ours = case.loss("critic", seed=3)
    torch.manual_seed(4)
    case.nets.target.critic.passes(case.batch.next_obs, torch.zeros(10, 64, 3), case.hp.passes)
    q = case.nets.critic(case.batch.obs, case.batch.action)
    assert torch.equal(ours, losses.td(q, case.batch.reward, ends.float()))


def test_uwacs_weights_by_hand(problem: Make):
    variance = torch.tensor([0.0, 1.0, 4.0])
    exponential = problem(UWAC, beta=0.5, **VAE)
    expected = torch.tensor([0.0, -0.5, -2.0]).exp()
    torch.testing.assert_close(UWAC.certainty(variance, exponential.hp), expected)
    inverse = problem(UWAC, beta=2.0, weight="inverse", **VAE)
    torch.testing.assert_close(UWAC.certainty(variance, inverse.hp), torch.tensor([1.0, 1.0, 0.5]))


def test_uwac_squares_its_weight(problem: Make):
    class Halved(UWAC):
        """Every certainty is one half."""

        @classmethod
        def certainty(cls, variance: Tensor, hp: Any) -> Tensor:
            return torch.full_like(variance, 0.5)

    plain, halved = problem(UWAC, beta=0.0, **VAE), problem(Halved, beta=0.0, **VAE)
    torch.testing.assert_close(halved.loss("critic"), 0.25 * plain.loss("critic"))
    # its own action's value by a half, not by a quarter
    batch = with_mmd(plain)
    torch.manual_seed(1)
    whole = UWAC.own_value(plain.nets, batch, plain.hp)
    torch.manual_seed(1)
    torch.testing.assert_close(Halved.own_value(plain.nets, batch, plain.hp), 0.5 * whole)


def test_a_less_certain_target_counts_less(problem: Make):
    case = problem(UWAC, dropout=0.5, beta=5.0, **VAE)
    _, sure = UWAC.compute_critic_loss(case.nets, case.prepared(), case.hp)
    with torch.no_grad():
        for layer in case.nets.target.critic.layers:
            layer.bias += 1.0  # larger hidden units: larger spread by dropping them
    _, unsure = UWAC.compute_critic_loss(case.nets, case.prepared(), case.hp)
    assert unsure["critic/trust"] < sure["critic/trust"]
