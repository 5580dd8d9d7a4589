"""Online settings: which algorithm accepts which, when updates are due, and no effect offline."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modified import modified

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.errors import HyperparameterError, OnlineSettingsError, RecipeError
from off2on.online.exploration import EXPLORATIONS
from off2on.online.settings import OnlineSettings, split_overrides
from off2on.online.target_values import TARGETS
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.warm_start import WarmStart

Make = Callable[..., Any]
SETTINGS: list[dict[str, Any]] = [
    *({"exploration": name} for name in EXPLORATIONS if name != "own"),
    *({"targets": name} for name in TARGETS if name != "own"),
    {"target_jitter": 0.3},
    {"policy_delay": 4},
    {"head_start": 3},
    {"exploration": "optimistic", "targets": "weighted_pair", "target_jitter": 0.3, "policy_delay": 2},
]

# The expected table: which settings, and which strategies with their papers' settings, an algorithm refuses.
# All others are accepted.
TARGET_SETTINGS = [
    "targets=min",
    "targets=mean",
    "targets=random_pair",
    "targets=weighted_pair",
    "target_jitter=0.3",
]
CRITICS = ["exploration=optimistic", "exploration=expansion"]
COMBINED = ["ensemble", "rlpd", "so2"]
"""Strategies that set `targets` or `target_jitter`."""
WEIGHT = ["regularisation=0.5", "adaptive"]
REFUSED: dict[str, list[str]] = {
    "td3_bc rebrac ispi_s spot cql combo cal_ql fql qc_fql qam_f": [],
    "bfn qc expo qam qam_e": ["exploration=expansion", "policy_expansion", *WEIGHT],
    "ispi_c e2o diffusion_ql": ["exploration=expansion", "policy_expansion"],
    "sac_n edac redq mopo mobile rlpd sac td3 ddpg": WEIGHT,
    "dsrl": ["exploration=expansion", "policy_expansion", *WEIGHT],
    "bred fan": [*TARGET_SETTINGS, *COMBINED],
    "iql xql awac": [*TARGET_SETTINGS, *COMBINED, *WEIGHT],
    "bcq bear plas crr uwac pex ifql idql": [
        "exploration=expansion", "policy_expansion", *TARGET_SETTINGS, *COMBINED, *WEIGHT
    ],
    "bc filtered_bc dt awr": [*CRITICS, "policy_expansion", *TARGET_SETTINGS, *COMBINED, *WEIGHT],
    "dqn double_dqn nfq discrete_bc discrete_bcq discrete_cql discrete_sac": [
        "exploration=noisy", *CRITICS, "policy_expansion", *TARGET_SETTINGS, *COMBINED, *WEIGHT
    ],
}  # fmt: skip
REFUSED_BY = {name: set(refused) for names, refused in REFUSED.items() for name in names.split()}

REPRESENTATIVES = ("bc", "iql", "td3_bc", "cql", "bcq", "discrete_sac")
"""One algorithm per shape: a policy alone, values of the data's actions, a deterministic policy, a maximum
entropy policy with regularisation, a generative model, discrete actions."""


def pairs(setting: dict[str, Any]) -> set[str]:
    """Return "name=value" of each entry, as the table has them."""
    return {f"{name}={value}" for name, value in setting.items()}


ACCEPTED = [
    pytest.param(name, setting, id=f"{name}-{' '.join(sorted(pairs(setting)))}")
    for name in REPRESENTATIVES
    for setting in SETTINGS
    if not pairs(setting) & REFUSED_BY[name]
]


def all_accepted(name: str) -> dict[str, Any]:
    """Return every setting that an algorithm accepts at once: of those with the same name, the last."""
    given: dict[str, Any] = {}
    for setting in SETTINGS:
        if not pairs(setting) & REFUSED_BY[name]:
            given |= setting
    return given


# When updates are due.


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        ({}, {0: 0, 1: 1, 50: 50}),
        ({"utd": 0.25}, {3: 0, 4: 1, 50: 12}),
        ({"warm_up": 100}, {100: 0, 101: 1, 150: 50}),
        ({"warm_up": 100, "utd": 4}, {100: 0, 101: 4, 150: 200}),
        ({"burst": 5}, {1: 5, 1000: 5000, 1001: 5001, 2000: 6000}),
        ({"burst": 0, "warm_up": 10}, {1010: 0, 1011: 1}),
    ],
)
def test_updates_are_due_by_the_number_of_steps_alone(settings: dict[str, Any], due: dict[int, int]):
    assert {steps: OnlineSettings(**settings).updates_due(steps) for steps in due} == due


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


# Values of settings.


def test_no_setting_has_the_name_of_a_hyperparameter():
    for name in CATALOGUE:
        shared = find_algorithm(name).Hyperparameters.rules().keys() & OnlineSettings.rules().keys()
        assert not shared, f"{name}: {shared}"


def test_settings_and_online_hyperparameters_are_split_and_other_names_are_refused():
    assert split_overrides({"utd": "4", "actor_lr": "1e-5"}, SAC) == ({"utd": "4"}, {"actor_lr": "1e-5"})
    with pytest.raises(HyperparameterError, match="'warmup'"):
        split_overrides({"warmup": 3}, SAC)
    for name in ("reward", "normalise_obs", "augment"):
        with pytest.raises(HyperparameterError, match="must be the same"):
            split_overrides({name: "raw"}, SAC)


def test_settings_without_an_effect_are_listed():
    settings = {"noise": 0.3, "optimism": 1.0, "staleness": 5, "utd": 2.0}
    assert OnlineSettings(**settings).without_effect(settings) == {
        "noise": ("exploration", "noisy"),
        "optimism": ("exploration", "optimistic"),
        "staleness": ("asynchronous", True),
    }
    done = settings | {"exploration": "optimistic", "asynchronous": True}
    assert list(OnlineSettings(**done).without_effect(done)) == ["noise"]
    assert OnlineSettings(noise=0.3).without_effect([]) == {}, "defaults are not listed"


def test_a_refusal_names_the_strategy_that_sets_the_value():
    with pytest.raises(OnlineSettingsError) as caught:
        OnlineSettings.resolve(find_strategy("ensemble"), {}, IQL)
    assert "targets=weighted_pair" in caught.value.expected
    with pytest.raises(OnlineSettingsError) as caught:
        OnlineSettings.resolve(find_strategy("ensemble"), {"targets": "min"}, IQL)
    assert "targets=weighted_pair" not in caught.value.expected


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_settings_of_every_strategy_are_valid(name: str):
    strategy = find_strategy(name)
    online_settings = OnlineSettings.parse(strategy.online_settings, name)
    assert {
        key: getattr(online_settings, key) for key in strategy.online_settings
    } == strategy.online_settings
    assert find_strategy(name).__doc__


def test_given_values_win_over_the_strategys_and_an_algorithm_without_regularisation_keeps_its_default():
    ours = OnlineSettings.resolve(WarmStart, {"utd": "2"}, CQL)
    assert (ours.warm_up, ours.utd, ours.policy_delay, ours.regularisation) == (5000, 2.0, 4, 0.0)
    assert OnlineSettings.resolve(WarmStart, {}, IQL).regularisation == 1
    with pytest.raises(RecipeError, match="no regularisation"):
        OnlineSettings.resolve(WarmStart, {"regularisation": 0.5}, IQL)
    with pytest.raises(RecipeError, match="no regularisation"):
        OnlineSettings.resolve(find_strategy("adaptive"), {}, IQL)


# Algorithms and settings.


def test_which_algorithm_accepts_which_setting_and_which_strategy():
    table = [
        *((Append, f"{key}={value}", {key: value}) for one in SETTINGS[:-1] for key, value in one.items()),
        (Append, "regularisation=0.5", {"regularisation": 0.5}),
        *((find_strategy(name), name, {}) for name in STRATEGIES),
    ]
    refused: dict[str, set[str]] = {name: set() for name in CATALOGUE}
    for name in CATALOGUE:
        for strategy, words, setting in table:
            try:
                OnlineSettings.resolve(strategy, setting, find_algorithm(name))
            except OnlineSettingsError:
                refused[name].add(words)
    assert refused == REFUSED_BY


def test_own_exploration_and_own_targets_leave_the_algorithm_as_it_is(recipe: Any):
    assert modified(recipe, exploration="own", targets="own") is recipe


def check_offline(make: Make, recipe: Any, setting: dict[str, Any]) -> None:
    """Check that losses, the updates that are due and actions are the algorithm's own before the handover."""
    changed = modified(recipe, **setting)
    assert changed is not recipe
    before, after = make(recipe), make(changed)
    computed = 0
    for objective in recipe.objectives_in_order():
        ours, theirs = (
            [each.is_due(objective, before.hp, update, 0.5) for update in range(1, 9)]
            for each in (changed, recipe)
        )
        assert ours == theirs
        if any(theirs):
            assert torch.equal(before.loss(objective.name), after.loss(objective.name))
            computed += 1
    assert computed > 0
    with torch.no_grad():
        acts = [
            each.recipe.act(each.nets, each.batch.obs, each.hp, explore=False) for each in (before, after)
        ]
    assert torch.equal(*acts)
    if recipe.rollout_schedule(before.hp) is not None:
        made = []
        for each in (before, after):
            torch.manual_seed(0)
            made.append(each.recipe.generate_rollouts(each.nets, each.batch, each.hp))
        assert torch.equal(made[0].action, made[1].action)


def check_online(make: Make, recipe: Any, setting: dict[str, Any]) -> None:
    """Check that losses are finite after the handover, and that actions are the policy's or in their box."""
    changed = modified(recipe, **setting)
    case = make(changed)
    case.batch.progress = 1.3
    with torch.no_grad():
        changed.on_handover(case.nets, case.hp)
        base = recipe.act(case.nets, case.batch.obs, case.hp, explore=False)
        assert torch.equal(changed.act(case.nets, case.batch.obs, case.hp, explore=False), base)
        action = changed.act(case.nets, case.batch.obs, case.hp, explore=True)
    assert action.shape == base.shape
    if setting.get("exploration") == "noisy":
        assert action.abs().max() <= 1
    due = [each.name for each in changed.objectives_in_order() if changed.is_due(each, case.hp, 4, 1.3)]
    assert due
    for name in due:
        loss = case.loss(name)
        assert loss.isfinite()
        (gradient, *_) = torch.autograd.grad(
            loss, list(getattr(case.nets, name).parameters()), allow_unused=True
        )
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize(("name", "setting"), ACCEPTED)
def test_offline_a_setting_changes_nothing(problem: Make, name: str, setting: dict[str, Any]):
    check_offline(problem, find_algorithm(name), setting)


@pytest.mark.parametrize(("name", "setting"), ACCEPTED)
def test_online_a_setting_explores_in_the_box_and_has_losses(
    problem: Make, name: str, setting: dict[str, Any]
):
    check_online(problem, find_algorithm(name), setting)


def test_a_random_subset_of_the_algorithm_stays_with_a_strategy_that_has_a_pair():
    rlpd = find_strategy("rlpd")
    for name, targets in (("sac", "random_pair"), ("redq", "own"), ("rlpd", "own")):
        assert OnlineSettings.resolve(rlpd, {}, find_algorithm(name)).targets == targets
    asked = OnlineSettings.resolve(rlpd, {"targets": "random_pair"}, find_algorithm("rlpd"))
    assert asked.targets == "random_pair"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_algorithm_takes_all_settings_that_it_accepts_at_once(problem: Make, name: str):
    check_offline(problem, find_algorithm(name), all_accepted(name))
    check_online(problem, find_algorithm(name), all_accepted(name))
