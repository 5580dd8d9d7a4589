"""Online modifiers: combinations of target values, exploration, delayed policies, regularisation."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modified import modified

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL
from off2on.algorithms.dqn import DQN
from off2on.algorithms.edac import EDAC
from off2on.algorithms.iql import IQL
from off2on.algorithms.ispi_c import ISPIC
from off2on.algorithms.mobile import MOBILE
from off2on.algorithms.rebrac import ReBRAC
from off2on.algorithms.sac import SAC
from off2on.algorithms.sac_n import SACN
from off2on.algorithms.td3 import TD3
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import OnlineSettingsError
from off2on.online import target_values
from off2on.online.settings import OnlineSettings, apply_modifiers, online_hyperparameters
from off2on.recipe.hooks import Objective
from off2on.rllib.update_step import policy_period, trained_objectives
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy

Make = Callable[..., Any]

# Targets.

VALUES = torch.tensor([[4.0, 0.0], [1.0, 2.0], [3.0, -1.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    # Of 4, 1, 3: the pairs' smaller ones are 1, 3, 1. Of 0, 2, -1: 0, -1, -1.
    [
        (target_values.MinimumTargets, [1, -1]),
        (target_values.MeanTargets, [8 / 3, 1 / 3]),
        (target_values.WeightedPairTargets, [5 / 3, -2 / 3]),
    ],
)
def test_combinations_by_hand(kind: Any, expected: list[float]):
    torch.testing.assert_close(kind.combine(VALUES), torch.tensor(expected, dtype=torch.float32))


@given(st.integers(1, 6), st.integers(0, 99))
def test_weighted_pairs_are_the_mean_over_all_pairs(members: int, seed: int):
    q = torch.randn(members, 3, 5, generator=torch.Generator().manual_seed(seed))
    pairs = [torch.minimum(q[i], q[j]) for i, j in combinations(range(members), 2)]
    expected = torch.stack(pairs).mean(0) if pairs else q[0]
    torch.testing.assert_close(target_values.WeightedPairTargets.combine(q), expected)


def test_a_random_pair_is_drawn_among_all():
    seen = {tuple(target_values.RandomPairTargets.combine(VALUES).tolist()) for _ in range(60)}
    assert seen == {(1.0, 0.0), (3.0, -1.0), (1.0, -1.0)}


@pytest.mark.parametrize(
    ("recipe", "given"), [(SAC, {}), (ISPIC, {}), (ReBRAC, {"critic_beta": 1.0, "online_critic": 1.0})]
)
def test_min_targets_are_the_algorithms_own(problem: Make, recipe: Any, given: dict[str, Any]):
    given = given | {"critics": 3}
    own, changed = problem(recipe, **given), problem(modified(recipe, targets="min"), **given)
    own.batch.progress = changed.batch.progress = 1.2
    assert torch.equal(own.loss("critic"), changed.loss("critic"))
    other = problem(modified(recipe, targets="mean"), **given)
    other.batch.progress = 1.2
    assert not torch.equal(own.loss("critic"), other.loss("critic"))


@pytest.mark.parametrize("recipe", [SACN, EDAC, MOBILE])
@pytest.mark.parametrize("setting", [{"targets": "mean"}, {"target_jitter": 0.3}])
def test_targets_of_several_actions_are_changed_too(problem: Make, recipe: Any, setting: dict[str, Any]):
    loss = {}
    for kind in (recipe, modified(recipe, **setting)):
        case = problem(kind, backup_actions=3)
        case.batch.progress = 1.2
        loss[kind] = case.loss("critic")
    own, changed = loss.values()
    assert changed.isfinite()
    assert not torch.equal(own, changed)


def test_jitter_moves_the_targets_actions_by_at_most_two_sigma_and_not_out_of_the_box(
    problem: Make, monkeypatch: pytest.MonkeyPatch
):
    case = problem(modified(TD3, target_jitter=0.3))
    asked = []
    critic = type(case.nets.target.critic)
    forward = critic.forward
    monkeypatch.setattr(
        critic, "forward", lambda self, obs, action: (asked.append(action), forward(self, obs, action))[1]
    )
    case.batch.progress = 1.2
    for action in (torch.zeros(64, 3), torch.full((64, 3), 0.9)):
        asked.clear()
        case.recipe.target_value(case.nets, case.batch, case.hp, action)
        moved = asked[0] - action
        assert 0.2 < moved.abs().max() <= 0.6 + 1e-6
        assert asked[0].abs().max() <= 1
    asked.clear()
    case.batch.progress = 0.9
    case.recipe.target_value(case.nets, case.batch, case.hp, torch.zeros(64, 3))
    assert torch.equal(asked[0], torch.zeros(64, 3))


# Explorations.


def test_optimism_takes_the_action_of_the_largest_mean_and_spread(problem: Make):
    case = problem(modified(SACN, exploration="optimistic", proposals=50, optimism=0.0), critics=3)
    bold = problem(modified(SACN, exploration="optimistic", proposals=50, optimism=1000.0), critics=3)
    obs = case.batch.obs

    def judged(one: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(5)
        chosen = one.recipe.act(one.nets, obs, one.hp, explore=True)
        torch.manual_seed(5)
        usual = SACN.act(one.nets, obs.repeat(50, 1), one.hp, explore=True).view(50, 64, 3)
        return chosen, usual, one.nets.critic(obs, torch.cat((chosen.unsqueeze(0), usual)))

    with torch.no_grad():
        _, _, q = judged(case)
        assert torch.equal(q.mean(0)[0], q.mean(0)[1:].amax(0))
        _, _, q = judged(bold)
        spread = q.std(0, correction=0)
        torch.testing.assert_close(spread[0], spread[1:].amax(0), atol=1e-4, rtol=1e-3)


def test_the_policy_of_the_handover_acts_where_the_critics_prefer_it(problem: Make):
    case = problem(modified(TD3BC, exploration="expansion", selectivity=1e9))
    nets, obs, hp = case.nets, case.batch.obs, case.hp
    with torch.no_grad():
        for parameter in nets.actor.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        acted = case.recipe.act(nets, obs, hp, explore=False)
        assert torch.equal(acted, nets.actor(obs)), "before the handover there is nothing to choose from"
        case.recipe.on_handover(nets, hp)
        old = nets.actor(obs)
        for parameter in nets.actor.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        new = nets.actor(obs)
        better = (nets.critic(obs, new).amin(0) > nets.critic(obs, old).amin(0)).unsqueeze(1)
        assert better.any()
        assert not better.all()
        assert torch.equal(case.recipe.act(nets, obs, hp, explore=False), torch.where(better, new, old))
        torch.manual_seed(3)
        explored = case.recipe.act(nets, obs, hp, explore=True)
        torch.manual_seed(3)
        noisy = TD3BC.act(nets, obs, hp, explore=True)
        better = (nets.critic(obs, noisy).amin(0) > nets.critic(obs, old).amin(0)).unsqueeze(1)
        assert torch.equal(explored, torch.where(better, noisy, old)), "selectivity is as good as infinite"


def test_the_policy_is_updated_every_so_many_updates_of_the_values():
    changed = modified(IQL, policy_delay=3)

    def due(name: str, progress: float) -> list[bool]:
        return [changed.is_due(Objective(name), None, update, progress) for update in (1, 2, 3, 4)]

    assert due("critic", 1.0) == due("value", 1.5) == [True] * 4
    assert due("actor", 1.0) == [False, False, True, False]
    assert due("actor", 0.9) == [True] * 4


def test_policies_that_take_turns_are_delayed_by_whole_rounds():
    changed = modified(ISPIC, policy_delay=3)
    due = {
        name: [update for update in range(1, 13) if changed.is_due(Objective(name), None, update, 1.2)]
        for name in ISPIC.objectives
    }
    assert due["critic"] == [1, 3, 5, 7, 9, 11]
    assert due["rival_critic"] == [2, 4, 6, 8, 10, 12]
    assert (due["actor"], due["rival_actor"]) == ([5, 11], [6, 12])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_trains_every_objective_that_the_algorithm_trains_online(strategy: str):
    for name in CATALOGUE:
        recipe = find_algorithm(name)
        try:
            settings = OnlineSettings.resolve(find_strategy(strategy), {}, recipe)
        except OnlineSettingsError:
            continue  # the expected table of refusals is in test_online_settings.py
        changed, hp = apply_modifiers(recipe, settings, 1000), recipe.Hyperparameters()
        first = 1001 + settings.head_start
        updates = range(first, first + 2400)  # a cycle of AWR has 1,200
        for objective in recipe.objectives_in_order():
            ours, own = (
                any(each.is_due(objective, hp, update, 1.2) for update in updates)
                for each in (changed, recipe)
            )
            assert ours == own, f"{name}: {objective.name}"


def test_values_have_a_head_start():
    changed = apply_modifiers(IQL, OnlineSettings.parse({"head_start": 2}, "here"), 10)

    def due(name: str, progress: float) -> list[bool]:
        return [changed.is_due(Objective(name), None, update, progress) for update in (11, 12, 13)]

    assert due("critic", 1.0) == due("value", 1.1) == [True] * 3
    assert due("actor", 1.0) == [False, False, True]


@pytest.mark.parametrize("name", ["awr", "plas", "spot"])
def test_what_is_trained_is_found_in_a_whole_cycle_and_the_whole_phase(name: str):
    recipe = find_algorithm(name)
    for progress in (0.0, 0.5):
        trained = trained_objectives(recipe, recipe.Hyperparameters(), 6001, progress)
        assert trained == list(recipe.objectives_in_order())
    online = trained_objectives(recipe, recipe.Hyperparameters(), 6001, 1.0)
    assert "actor" in [objective.name for objective in online]


@pytest.mark.parametrize(
    ("recipe", "delay", "period"), [(TD3, 4, 4), (TD3, 3, 6), (ISPIC, 4, 4), (SAC, 5, 5)]
)
def test_the_period_of_the_policies_counts_the_algorithms_own_delay(recipe: Any, delay: int, period: int):
    changed = modified(recipe, policy_delay=delay)
    assert policy_period(changed, None, 1001, 1.0, delay) == pytest.approx(period, rel=1e-2)


def test_an_algorithm_without_policy_networks_has_no_period():
    assert policy_period(modified(DQN, policy_delay=4), None, 1001, 1.0, 4) == float("inf")


# Regularisation towards the data.


def test_cql_without_regularisation_is_sac(problem: Make):
    hp = problem(CQL).hp
    loose = online_hyperparameters(CQL, hp, {"entropy_backup": "yes"}, 0.0)
    assert (loose.conservative_weight, loose.entropy_backup) == (0.0, True)
    ours, sac = problem(CQL), problem(SAC)
    ours.hp = loose
    sac.nets.critic.load_state_dict(ours.nets.critic.state_dict())
    sac.nets.target.load_state_dict(ours.nets.target.state_dict())
    sac.nets.actor.load_state_dict(ours.nets.actor.state_dict())
    assert torch.equal(ours.loss("critic"), sac.loss("critic"))


def test_regularisation_is_scaled_by_a_factor(problem: Make):
    assert online_hyperparameters(CQL, problem(CQL).hp, {}, 0.5).conservative_weight == 2.5
    calm = problem(CalQL, online_weight=2.0).hp
    assert online_hyperparameters(CalQL, calm, {}, 0.25).online_weight == 0.5
    assert online_hyperparameters(CalQL, problem(CalQL).hp, {}, 0.25).online_weight is None
    rebrac = online_hyperparameters(ReBRAC, problem(ReBRAC).hp, {}, 0.1)
    assert (rebrac.actor_beta, rebrac.critic_beta) == (pytest.approx(0.001), pytest.approx(0.001))


@pytest.mark.parametrize("share", [1.0, 0.2, 0.0])
def test_td3_bc_scales_the_weight_of_cloning_relative_to_q(problem: Make, share: float):
    case = problem(TD3BC)
    actor = list(case.nets.actor.parameters())
    loose = TD3BC.scale_regularisation(case.hp, share)
    assert loose.alpha == pytest.approx(2.5 / max(share, 1e-6))
    case.hp = loose
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(case.loss("actor"), actor))
