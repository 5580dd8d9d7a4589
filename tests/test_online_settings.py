"""The factors of a crossing: each alone, with every recipe that can take it, and nothing of them offline."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.rebrac import ReBRAC
from off2on.algorithms.sac import SAC
from off2on.algorithms.sac_n import SACN
from off2on.algorithms.td3 import TD3
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import HyperparameterError, OnlineSettingsError, RecipeError
from off2on.online import target_values
from off2on.online.exploration import EXPLORATIONS
from off2on.online.settings import OnlineSettings, apply_modifiers, online_hyperparameters, split_overrides
from off2on.online.target_values import TARGETS
from off2on.recipe.hooks import Objective
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.warm_start import WarmStart

Make = Callable[..., Any]
CHANGES: list[dict[str, Any]] = [
    *({"exploration": name} for name in EXPLORATIONS),
    *({"targets": name} for name in TARGETS),
    {"target_jitter": 0.3},
    {"policy_delay": 4},
    {"head_start": 100},
    {"exploration": "optimistic", "targets": "weighted_pair", "target_jitter": 0.3, "policy_delay": 2},
]


def went_online(recipe: Any, **said: Any) -> Any:
    """The recipe with these factors, refused or not."""
    return apply_modifiers(recipe, OnlineSettings.resolve(Append, said, recipe))


# When updates are due.


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ({}, {0: 0, 1: 1, 50: 50}),
        ({"utd": 0.25}, {3: 0, 4: 1, 50: 12}),
        ({"warm_up": 100}, {100: 0, 101: 1, 150: 50}),
        ({"warm_up": 100, "utd": 4}, {100: 0, 101: 4, 150: 200}),
        ({"burst": 5}, {1: 5, 1000: 5000, 1001: 5001, 2000: 6000}),
        ({"burst": 0, "warm_up": 10}, {1010: 0, 1011: 1}),
    ],
)
def test_updates_are_due_by_the_number_of_steps_alone(said: dict[str, Any], due: dict[int, int]):
    assert {steps: OnlineSettings(**said).updates_due(steps) for steps in due} == due


@given(
    st.builds(
        OnlineSettings,
        warm_up=st.integers(0, 50),
        utd=st.floats(0.01, 30),
        burst=st.floats(0, 10),
    ),
    st.lists(st.integers(1, 700), max_size=10),
)
def test_however_the_steps_are_cut_into_rollouts_the_updates_add_up(
    online_settings: OnlineSettings, rollouts: list[int]
):
    steps = updates = 0
    for rollout in rollouts:
        more = online_settings.updates_due(steps + rollout) - online_settings.updates_due(steps)
        assert more >= 0
        steps, updates = steps + rollout, updates + more
    assert updates == online_settings.updates_due(steps)


# What may be said.


def test_no_factor_has_the_name_of_a_hyperparameter():
    for name in CATALOGUE:
        shared = find_algorithm(name).Hyperparameters.rules().keys() & OnlineSettings.rules().keys()
        assert not shared, f"{name}: {shared}"


def test_factors_and_online_hyperparameters_are_told_apart_and_the_rest_is_refused():
    assert split_overrides({"utd": "4", "actor_lr": "1e-5"}, SAC) == ({"utd": "4"}, {"actor_lr": "1e-5"})
    with pytest.raises(HyperparameterError, match="'warmup'"):
        split_overrides({"warmup": 3}, SAC)
    for name in ("reward", "normalise_obs", "augment"):
        with pytest.raises(HyperparameterError, match="must be the same"):
            split_overrides({name: "raw"}, SAC)


def test_settings_of_what_is_not_done_are_idle():
    said = {"noise": 0.3, "optimism": 1.0, "staleness": 5, "utd": 2.0}
    assert OnlineSettings(**said).without_effect(said) == {
        "noise": ("exploration", "noisy"),
        "optimism": ("exploration", "optimistic"),
        "staleness": ("asynchronous", True),
    }
    done = said | {"exploration": "optimistic", "asynchronous": True}
    assert list(OnlineSettings(**done).without_effect(done)) == ["noise"]
    assert OnlineSettings(noise=0.3).without_effect([]) == {}, "what nobody has said is not told"


def test_a_refused_factor_says_who_asks_for_it():
    with pytest.raises(OnlineSettingsError) as caught:
        OnlineSettings.resolve(find_strategy("ensemble"), {}, IQL)
    assert "targets=weighted_pair" in caught.value.expected
    with pytest.raises(OnlineSettingsError) as caught:
        OnlineSettings.resolve(find_strategy("ensemble"), {"targets": "min"}, IQL)
    assert "targets=weighted_pair" not in caught.value.expected


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_strategies_say_of_the_other_factors_can_be_said(name: str):
    strategy = find_strategy(name)
    online_settings = OnlineSettings.parse(strategy.online_settings, name)
    assert {
        key: getattr(online_settings, key) for key in strategy.online_settings
    } == strategy.online_settings
    assert find_strategy(name).__doc__


def test_what_is_said_wins_over_a_strategys_paper_and_a_recipe_without_a_pull_keeps_what_it_has():
    ours = OnlineSettings.resolve(WarmStart, {"utd": "2"}, CQL)
    assert (ours.warm_up, ours.utd, ours.policy_delay, ours.regularisation) == (5000, 2.0, 4, 0.0)
    assert OnlineSettings.resolve(WarmStart, {}, IQL).regularisation == 1
    with pytest.raises(RecipeError, match="no regularisation"):
        OnlineSettings.resolve(WarmStart, {"regularisation": 0.5}, IQL)
    with pytest.raises(RecipeError, match="no regularisation"):
        OnlineSettings.resolve(find_strategy("adaptive"), {}, IQL)


# What a change does, to every recipe that can take it.


@pytest.mark.parametrize("said", CHANGES, ids=str)
def test_offline_a_changed_recipe_is_the_recipe(problem: Make, recipe: Any, said: dict[str, Any]):
    try:
        changed = went_online(recipe, **said)
    except RecipeError:
        return
    before, after = problem(recipe), problem(changed)
    for objective in recipe.objectives_in_order():
        ours, theirs = (
            [each.is_due(objective, before.hp, update, 0.5) for update in range(1, 9)]
            for each in (changed, recipe)
        )
        assert ours == theirs
        if any(theirs):
            assert torch.equal(before.loss(objective.name), after.loss(objective.name))
    with torch.no_grad():
        acts = [
            each.recipe.act(each.nets, each.batch.obs, each.hp, explore=False) for each in (before, after)
        ]
    assert torch.equal(*acts)


@pytest.mark.parametrize("said", CHANGES, ids=str)
def test_online_a_changed_recipe_explores_in_the_box_and_has_losses(
    problem: Make, recipe: Any, said: dict[str, Any]
):
    try:
        changed = went_online(recipe, **said)
    except RecipeError:
        return
    case = problem(changed)
    case.batch.progress = 1.3
    with torch.no_grad():
        changed.on_handover(case.nets, case.hp)
        base = recipe.act(case.nets, case.batch.obs, case.hp, explore=False)
        assert torch.equal(changed.act(case.nets, case.batch.obs, case.hp, explore=False), base)
        action = changed.act(case.nets, case.batch.obs, case.hp, explore=True)
    assert action.shape == base.shape
    if said.get("exploration") == "noisy":
        assert action.abs().max() <= 1
    for objective in changed.objectives_in_order():
        if changed.is_due(objective, case.hp, 4, 1.3):
            loss = case.loss(objective.name)
            assert loss.isfinite()
            (gradient, *_) = torch.autograd.grad(
                loss, list(getattr(case.nets, objective.name).parameters()), allow_unused=True
            )
            assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("noisy", {"iql", "sac", "td3_bc", "bc", "bcq", "pex", "awr"}),
        ("optimistic", {"iql", "sac", "td3_bc", "bcq", "uwac", "plas", "pex"}),
        ("expansion", {"iql", "sac", "td3_bc", "cql", "mopo", "bred"}),
    ],
)
def test_who_can_explore_how(name: str, taken: set[str]):
    def takes(recipe: str) -> bool:
        try:
            OnlineSettings.resolve(Append, {"exploration": name}, find_algorithm(recipe))
        except RecipeError:
            return False
        return True

    able = {recipe for recipe in CATALOGUE if takes(recipe)}
    assert taken <= able
    assert not {"dqn", "discrete_sac"} & able
    if name != "noisy":
        assert not {"bc", "awr"} & able
    if name == "expansion":
        assert not {"pex", "bcq", "ispi_c"} & able


def test_who_can_combine_targets():
    for name in ("sac", "td3", "cql", "edac", "rlpd", "mopo", "e2o"):
        OnlineSettings.resolve(Append, {"targets": "mean"}, find_algorithm(name))
    for name in ("iql", "bc", "bear", "bcq", "bred", "dqn", "awac"):
        with pytest.raises(RecipeError, match="own"):
            OnlineSettings.resolve(Append, {"targets": "mean"}, find_algorithm(name))


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


def test_min_targets_are_sacs_own(problem: Make):
    own, changed = problem(SAC, critics=3), problem(went_online(SAC, targets="min"), critics=3)
    own.batch.progress = changed.batch.progress = 1.2
    assert torch.equal(own.loss("critic"), changed.loss("critic"))
    other = problem(went_online(SAC, targets="mean"), critics=3)
    other.batch.progress = 1.2
    assert not torch.equal(own.loss("critic"), other.loss("critic"))


def test_jitter_moves_the_targets_actions_by_at_most_two_sigma_and_not_out_of_the_box(
    problem: Make, monkeypatch: pytest.MonkeyPatch
):
    case = problem(went_online(TD3, target_jitter=0.3))
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
    case = problem(went_online(SACN, exploration="optimistic", proposals=50, optimism=0.0), critics=3)
    bold = problem(went_online(SACN, exploration="optimistic", proposals=50, optimism=1000.0), critics=3)
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


def test_a_kept_policy_acts_where_the_critics_prefer_it(problem: Make):
    case = problem(went_online(TD3BC, exploration="expansion", selectivity=1e9))
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


def test_the_policy_waits_while_values_move():
    changed = went_online(IQL, policy_delay=3)

    def due(name: str, progress: float) -> list[bool]:
        return [changed.is_due(Objective(name), None, update, progress) for update in (1, 2, 3, 4)]

    assert due("critic", 1.0) == due("value", 1.5) == [True] * 4
    assert due("actor", 1.0) == [False, False, True, False]
    assert due("actor", 0.9) == [True] * 4


def test_values_have_a_head_start():
    changed = apply_modifiers(IQL, OnlineSettings.parse({"head_start": 2}, "here"), 10)

    def due(name: str, progress: float) -> list[bool]:
        return [changed.is_due(Objective(name), None, update, progress) for update in (11, 12, 13)]

    assert due("critic", 1.0) == due("value", 1.1) == [True] * 3
    assert due("actor", 1.0) == [False, False, True]


# The pull towards the data.


def test_cql_without_its_pull_is_sac(problem: Make):
    hp = problem(CQL).hp
    loose = online_hyperparameters(CQL, hp, {"entropy_backup": "yes"}, 0.0)
    assert (loose.conservative_weight, loose.entropy_backup) == (0.0, True)
    ours, sac = problem(CQL), problem(SAC)
    ours.hp = loose
    sac.nets.critic.load_state_dict(ours.nets.critic.state_dict())
    sac.nets.target.load_state_dict(ours.nets.target.state_dict())
    sac.nets.actor.load_state_dict(ours.nets.actor.state_dict())
    assert torch.equal(ours.loss("critic"), sac.loss("critic"))


def test_pulls_are_loosened_by_their_share(problem: Make):
    assert online_hyperparameters(CQL, problem(CQL).hp, {}, 0.5).conservative_weight == 2.5
    calm = problem(CalQL, online_weight=2.0).hp
    assert online_hyperparameters(CalQL, calm, {}, 0.25).online_weight == 0.5
    assert online_hyperparameters(CalQL, problem(CalQL).hp, {}, 0.25).online_weight is None
    rebrac = online_hyperparameters(ReBRAC, problem(ReBRAC).hp, {}, 0.1)
    assert (rebrac.actor_beta, rebrac.critic_beta) == (pytest.approx(0.001), pytest.approx(0.001))


@pytest.mark.parametrize("share", [1.0, 0.2, 0.0])
def test_td3_bc_is_loosened_by_what_cloning_counts_beside_q(problem: Make, share: float):
    case = problem(TD3BC)
    actor = list(case.nets.actor.parameters())
    loose = TD3BC.scale_regularisation(case.hp, share)
    assert loose.alpha == pytest.approx(2.5 / max(share, 1e-6))
    case.hp = loose
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(case.loss("actor"), actor))
