"""DDPG, TD3, TD3+BC, ReBRAC and ISPI: what they become at one end of their dials, and numbers by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import nn, tensor

from off2on.algorithms.ddpg import DDPG
from off2on.algorithms.ispi_c import ISPIC
from off2on.algorithms.ispi_s import ISPIS
from off2on.algorithms.rebrac import ReBRAC
from off2on.algorithms.td3 import TD3
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe.actors import DeterministicActor
from off2on.recipe.batch import Batch
from off2on.recipe.networks import Critic, Nets

Make = Callable[..., Any]

PLAIN = {"critics": 1, "target_noise": 0.0}
AS_TD3 = {"batch_size": 32, "polyak": 0.005, "actor_lr": 3e-4, "critic_lr": 3e-4}


def same_weights(one: Any, other: Any, names: list[str]) -> None:
    """The learners' networks of those names, and their targets, are equal bit by bit."""
    for name in names:
        for side in ("", "target."):
            mine, its = (it.nets.get_submodule(side + name) for it in (one, other))
            assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), its.parameters(), strict=True))


# TD3.


class Undelayed(TD3):
    """TD3 without delayed policy updates."""

    objectives = DDPG.objectives
    target_update_interval = 1


def test_td3_with_one_critic_without_noise_and_delay_is_ddpg(build_learner: Make):
    ddpg, td3 = build_learner(DDPG, **AS_TD3), build_learner(Undelayed, **PLAIN)
    assert ddpg.advance(30) == td3.advance(30)
    same_weights(ddpg, td3, ["critic", "actor"])


@pytest.mark.parametrize("dial", [{"critics": 2}, {"target_noise": 0.2}])
def test_td3_with_either_of_its_changes_is_not_ddpg(build_learner: Make, dial: dict[str, Any]):
    ddpg, td3 = build_learner(DDPG, **AS_TD3), build_learner(Undelayed, **(PLAIN | dial))
    assert ddpg.advance(5)["critic/loss"] != td3.advance(5)["critic/loss"]


def test_td3s_policy_and_targets_wait_for_every_second_update(build_learner: Make):
    learner = build_learner(TD3)
    for update in range(1, 5):
        before = [
            learner.nets.actor.mlp[0].weight.clone(),
            learner.nets.target.critic.layers[0].weight.clone(),
        ]
        learner.advance(1)
        after = [learner.nets.actor.mlp[0].weight, learner.nets.target.critic.layers[0].weight]
        moved = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert moved == [update % 2 == 0] * 2


@pytest.mark.parametrize("recipe", [DDPG, TD3, TD3BC, ReBRAC, ISPIS, ISPIC])
def test_weights_weigh_the_temporal_difference_errors(problem: Make, recipe: Any):
    case = problem(recipe)
    names = ["critic", "rival_critic"] if recipe is ISPIC else ["critic"]
    plain = [case.loss(name) for name in names]
    case.batch.weight = torch.full((64,), 0.5)
    assert [case.loss(name) for name in names] == [0.5 * loss for loss in plain]


# TD3+BC; without Q it is BC, as test_limits has it.


def test_td3_bc_is_td3_with_the_value_scaled_and_cloning_added(problem: Make):
    case, td3 = problem(TD3BC), problem(TD3)
    assert torch.equal(case.loss("critic"), td3.loss("critic"))
    batch = case.prepared()
    action = case.nets.actor(batch.obs)
    q = case.nets.critic.first(batch.obs, action).detach()
    clone = TD3BC.distance(case.nets, batch, case.hp, action, q)
    mine = gradient(case.loss("actor") - clone, case.nets.actor)
    its = gradient(td3.loss("actor"), td3.nets.actor)
    torch.testing.assert_close(mine, 2.5 / q.abs().mean() * its, rtol=1e-4, atol=1e-6)


# ReBRAC.


def without_penalties(problem: Make, **dials: Any) -> tuple[Any, Any]:
    """ReBRAC with TD3's critics, and TD3 on the same weights and batch."""
    td3 = problem(TD3, **dials)
    rebrac = problem(ReBRAC, actor_beta=0.0, critic_beta=0.0, **dials)
    rebrac.nets = td3.nets
    rebrac.batch = Batch(**(vars(rebrac.batch) | vars(td3.batch)))
    return rebrac, td3


def test_rebrac_without_penalties_has_td3s_critic_loss(problem: Make):
    rebrac, td3 = without_penalties(problem)
    ours, theirs = rebrac.loss("critic"), td3.loss("critic")
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, td3.nets.critic), gradient(theirs, td3.nets.critic))


def test_rebrac_without_penalties_and_with_one_critic_has_td3s_actor_loss_scaled(problem: Make):
    rebrac, td3 = without_penalties(problem, critics=1)
    q = td3.nets.critic.first(td3.batch.obs, td3.nets.actor(td3.batch.obs))
    ours, theirs = rebrac.loss("actor"), td3.loss("actor") / q.abs().mean().detach()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, td3.nets.actor), gradient(theirs, td3.nets.actor))


def test_rebracs_penalties_pull_the_policy_to_the_data_and_the_target_down(problem: Make):
    case, free = problem(ReBRAC, actor_beta=1e6, critic_beta=0.0), problem(ReBRAC, critic_beta=0.5)
    batch = case.prepared()
    cloning = (case.nets.actor(batch.obs) - batch.action).square().sum(-1).mean()
    cloning_gradient, clone = (
        gradient(case.loss("actor"), case.nets.actor),
        gradient(cloning, case.nets.actor),
    )
    assert torch.cosine_similarity(cloning_gradient, clone, dim=0) > 0.9999
    action = torch.zeros(64, 3)
    high, low = (it.recipe.next_value(it.nets, batch, it.hp, action) for it in (case, free))
    distance = batch.next_action.square().sum(-1)
    torch.testing.assert_close(high - low, torch.where(batch.last == 1, 0.0, 0.5 * distance))


def test_rebrac_has_no_next_action_at_the_end_of_an_episode(problem: Make):
    case = problem(ReBRAC, critic_beta=0.5)
    batch = case.prepared()
    assert ((batch.last == 1) & (batch.mask == 1)).any()  # cut off
    before = case.loss("critic", batch)
    batch.next_action = torch.where(batch.last.unsqueeze(1) == 1, 7.0, batch.next_action)
    assert torch.equal(case.loss("critic", batch), before)
    batch.next_action = batch.next_action + 0.1
    assert not torch.equal(case.loss("critic", batch), before)


@pytest.mark.parametrize(
    ("progress", "actor", "critic"),
    [(0.0, 1, 1), (0.999, 1, 1), (1.0, 1, 0), (1.25, 0.75, 0), (1.5, 0.5, 0), (2.0, 0.5, 0)],
)
def test_rebracs_penalties_online(problem: Make, progress: float, actor: float, critic: float):
    online = problem(ReBRAC, actor_beta=0.8, critic_beta=0.4)
    offline = problem(ReBRAC, actor_beta=0.8 * actor, critic_beta=0.4 * critic)
    online.batch.progress = progress
    for name in ("critic", "actor"):
        assert torch.equal(online.loss(name), offline.loss(name))


def test_rebracs_presets_are_the_authors():
    parse = ReBRAC.Hyperparameters.parse
    hopper = parse({"preset": "hopper-medium-replay"}, "rebrac")
    assert (hopper.actor_beta, hopper.critic_beta, hopper.batch_size) == (0.05, 0.5, 1024)
    maze = parse({"preset": "antmaze-large-play"}, "rebrac")
    assert (maze.actor_beta, maze.critic_beta) == (0.002, 0.001)
    assert (maze.discount, maze.critic_lr, maze.actor_lr, maze.batch_size) == (0.999, 5e-5, 3e-4, 256)
    pen = parse({"preset": "pen-cloned"}, "rebrac")
    assert (pen.actor_beta, pen.critic_beta, pen.critic_lr, pen.discount) == (0.05, 0.5, 3e-4, 0.99)
    cube = parse({"preset": "cube-double"}, "rebrac")  # OGBench, by the authors of FQL
    assert (cube.actor_beta, cube.critic_beta, cube.batch_size, cube.critic_lr) == (0.1, 0.0, 256, 3e-4)
    assert len(ReBRAC.Hyperparameters.presets) == 3 * 6 + 4 * 3 + 6 + 2 + 7


# ISPI-S.


def test_ispi_s_without_its_reference_is_td3_bc(build_learner: Make):
    plain, ours = build_learner(TD3BC), build_learner(ISPIS, reference_weight=0.0)
    logged = plain.advance(30)
    also = ours.advance(30)
    assert {name: also[name] for name in logged} == logged
    same_weights(plain, ours, ["critic", "actor"])


def test_ispi_s_with_its_reference_is_not(build_learner: Make):
    plain, ours = build_learner(TD3BC), build_learner(ISPIS)
    plain.advance(10)
    ours.advance(10)
    assert not torch.equal(plain.flat["actor"].vector, ours.flat["actor"].vector)


def test_ispi_s_ignores_the_data_at_the_other_end(problem: Make):
    case = problem(ISPIS, reference_weight=1.0)
    batch = case.prepared()
    before = case.loss("actor", batch)
    batch.action = -batch.action
    assert torch.equal(case.loss("actor", batch), before)


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_ispi_s_is_held_by_its_policy_of_one_step_ago(build_learner: Make, clip: float | None):
    learner = build_learner(ISPIS, actor_lr=1e-2)
    learner.step.clip = clip and (clip, "global_norm")
    seen = []
    for update in range(1, 9):
        seen.append(learner.flat["actor"].vector.clone())
        reference = learner.flat["reference"].vector.clone()
        if update % 2 == 0 and update > 2:  # what the actor's loss of this update reads
            torch.testing.assert_close(reference, seen[update - 3], rtol=1e-6, atol=1e-7)
            assert not torch.allclose(reference, seen[-1])
        learner.advance(1)


def test_ispi_s_keeps_its_reference_for_as_long_as_asked(build_learner: Make):
    learner = build_learner(ISPIS, reference_interval=4)
    for update in range(1, 9):
        before = learner.flat["reference"].vector.clone()
        learner.advance(1)
        assert torch.equal(before, learner.flat["reference"].vector) is (update % 4 != 0)


# ISPI-C.


def test_ispi_c_without_its_rival_is_cloning_and_one_critic(problem: Make):
    case, plain = problem(ISPIC, rival_weight=0.0), problem(TD3BC, critics=1)
    batch = case.prepared()
    for prefix in ("", "rival_"):
        for name in ("critic", "actor"):
            plain.nets.get_submodule(name).load_state_dict(
                case.nets.get_submodule(prefix + name).state_dict()
            )
        ours, theirs = case.loss(f"{prefix}actor", batch), plain.loss("actor", batch)
        assert torch.equal(ours, theirs)
        mine = gradient(ours, case.nets.get_submodule(f"{prefix}actor"))
        assert torch.equal(mine, gradient(theirs, plain.nets.actor))


def test_ispi_c_with_a_rival_like_itself_has_td3s_critic_loss(problem: Make):
    case, plain = problem(ISPIC), problem(TD3, critics=1)
    for side in (case.nets, case.nets.target):
        side.rival_critic.load_state_dict(side.critic.state_dict())
        side.rival_actor.load_state_dict(side.actor.state_dict())
    plain.nets.load_state_dict({name: v for name, v in case.nets.state_dict().items() if "rival" not in name})
    batch = case.prepared()
    theirs = plain.loss("critic", batch)
    assert torch.equal(case.loss("critic", batch), theirs)
    assert torch.equal(case.loss("rival_critic", batch), theirs)


def test_ispi_c_moves_one_policy_after_the_other(build_learner: Make):
    learner = build_learner(ISPIC)
    mine, its = {"critic", "actor"}, {"rival_critic", "rival_actor"}
    for update in range(1, 5):
        before = {name: learner.flat[name].vector.clone() for name in mine | its}
        learner.advance(1)
        moved = {name for name in before if not torch.equal(before[name], learner.flat[name].vector)}
        assert moved == (mine if update % 2 else its)


def affine(layer: nn.Module, weight: list[list[float]], bias: list[float]) -> None:
    with torch.no_grad():
        layer.weight.copy_(tensor(weight).reshape(layer.weight.shape))
        layer.bias.copy_(tensor(bias).reshape(layer.bias.shape))


def linear(slope: float, shift: float) -> Critic:
    """Q(s, a) = slope (a + 1) + shift."""
    critic = Critic(1, 1, (1,), 1)
    affine(critic.layers[0], [[0.0, 1.0]], [1.0])
    affine(critic.layers[1], [[slope]], [shift])
    return critic


def always(action: float) -> DeterministicActor:
    actor = DeterministicActor(1, 1, ())
    affine(actor.mlp[0], [[0.0]], [math.atanh(action)])
    return actor


def rivals(shift: float) -> Nets:
    """Q_1 = a + 1 of 0.5, which is 1.5, and Q_2 = 2 (a + 1) + shift of -0.5, which is 1 + shift."""
    return Nets(
        critic=linear(1.0, 0.0),
        actor=always(0.5),
        rival_critic=linear(2.0, shift),
        rival_actor=always(-0.5),
        targets=ISPIC.acting_networks,
    )


@pytest.fixture
def one() -> Batch:
    return Batch(
        obs=tensor([[0.3]]),
        action=tensor([[0.25]]),
        reward=tensor([1.0]),
        next_obs=tensor([[0.1]]),
        mask=tensor([1.0]),
    )


def exact(critic_shift: float) -> tuple[Nets, Any]:
    hp = ISPIC.Hyperparameters(discount=0.5, target_noise=0.0, alpha=2.0, rival_weight=0.25)
    return rivals(critic_shift), hp


@pytest.mark.parametrize(("shift", "filter_1", "filter_2"), [(9.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_ispi_c_by_hand(one: Batch, shift: float, filter_1: float, filter_2: float):
    nets, hp = exact(shift)
    # cloning: (0.5 - 0.25)^2 and (-0.5 - 0.25)^2; apart 1; lambda |Q| = 2 either way
    actor, rival = (
        getattr(ISPIC, f"compute_{name}_loss")(nets, one, hp)[0] for name in ("actor", "rival_actor")
    )
    assert actor.item() == pytest.approx(-2 + 0.25 * filter_1 * 1 + 0.75 * 0.0625)
    assert rival.item() == pytest.approx(-2 + 0.25 * filter_2 * 1 + 0.75 * 0.5625)
    # the smaller of 1.5 and 1 + shift; Q_1 = 1.25 and Q_2 = 2.5 + shift of the data's action
    y = 1 + 0.5 * min(1.5, 1 + shift)
    critic, its = (
        getattr(ISPIC, f"compute_{name}_loss")(nets, one, hp)[0] for name in ("critic", "rival_critic")
    )
    assert critic.item() == pytest.approx((1.25 - y) ** 2)
    assert its.item() == pytest.approx((2.5 + shift - y) ** 2)
    chosen = ISPIC.act(nets, one.obs, hp, explore=False)
    assert chosen.item() == pytest.approx(-0.5 if shift else 0.5)


def test_ispi_c_draws_half_as_hard_where_both_are_equal(one: Batch):
    hp = ISPIC.Hyperparameters(alpha=0.0, rival_weight=1.0)
    nets = rivals(0.0)
    for critic in (nets.critic, nets.rival_critic):
        affine(critic.layers[1], [[0.0]], [1.0])
    for name in ("actor", "rival_actor"):
        assert getattr(ISPIC, f"compute_{name}_loss")(nets, one, hp)[0].item() == pytest.approx(0.5)


def test_ispi_cs_targets_are_smoothed_by_the_same_noise(one: Batch):
    nets, hp = exact(0.0)
    hp = ISPIC.Hyperparameters(target_noise=1e6, noise_clip=0.25)
    apart = {round((a[0] - a[1]).item(), 4) for a in (ISPIC.next_action(nets, one, hp) for _ in range(8))}
    assert apart == {1.0}
