"""Each estimator of off-policy evaluation by hand, and on MDPs with exact values."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular_mdp import (
    SMALL_FQE,
    TabularMDP,
    TabularPolicy,
    UniformPolicy,
    bandit,
    deterministic,
    log_ratio,
    one_step,
    recorded_value,
)

from off2on.ope import diagnostics, dice, doubly_robust, fqe, importance
from off2on.ope.evaluated_policy import policy_actions
from off2on.ope.recorded_data import Array, RecordedData

# Importance sampling.


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("is", (9 / 4 * 2 + 3 / 4 * 5) / 2),
        ("pdis", (3 / 2 * 1 + 9 / 4 * 1 + 1 / 2 * 3 + 3 / 4 * 2) / 2),
        ("wis", (9 / 4 * 2 + 3 / 4 * 5) / 3),
        ("wpdis", (3 / 2 * 1 + 1 / 2 * 3) / 2 + (9 / 4 * 1 + 3 / 4 * 2) / 3),
    ],
)
def test_importance_sampling_of_two_episodes_by_hand(kind: importance.Kind, value: float):
    data, policy = bandit()
    weight = importance.weights(log_ratio(policy, data), data)
    assert importance.estimate(kind, weight, importance.rewards(data, 0.5))[0] == pytest.approx(value)


def test_a_clipped_weight_by_hand():
    data, policy = bandit()
    weight = importance.weights(log_ratio(policy, data), data, clip=2.0)
    assert weight == pytest.approx(np.array([[1.5, 2.0], [0.5, 0.75]]))
    value = importance.estimate("is", weight, importance.rewards(data, 0.5))[0]
    assert value == pytest.approx((2 * 2 + 3 / 4 * 5) / 2)


policies = st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2).map(
    lambda first: np.array([[p, 1 - p] for p in first])
)


@given(st.integers(0, 10_000), policies, policies, st.floats(0.5, 1.0))
@settings(max_examples=30)
def test_over_all_episodes_importance_sampling_is_exact(
    seed: int, behaviour: Array, policy: Array, discount: float
):
    mdp = TabularMDP.random(seed, states=2, ends=0.0)
    data, probabilities = mdp.all_episodes(behaviour, 3)
    weight = importance.weights(log_ratio(policy, data), data)
    reward = importance.rewards(data, discount)
    value = recorded_value(mdp, policy, discount, 3)
    for kind in importance.KINDS:  # the weighted ones, because all weights add up to 1 here
        assert importance.estimate(kind, weight, reward, probabilities)[0] == pytest.approx(value)


@given(st.integers(0, 10_000), policies, policies, st.floats(0.5, 0.99))
@settings(max_examples=30)
def test_doubly_robust_is_unbiased_with_any_model(
    seed: int, behaviour: Array, policy: Array, discount: float
):
    mdp = TabularMDP.random(seed, states=2, ends=0.0)
    data, probabilities = mdp.all_episodes(behaviour, 3)
    wrong = np.random.default_rng(seed).normal(size=(2, 2))
    state, next_state = data.obs.argmax(1), data.next_obs.argmax(1)
    value = (policy * wrong).sum(1)
    each = doubly_robust.per_episode(
        data,
        importance.weights(log_ratio(policy, data), data),
        value[state],
        value[next_state],
        wrong[state, data.action],
        discount,
    )
    reached = mdp.start
    for _ in range(3):
        reached = reached @ np.einsum("sa,sat->st", policy, mdp.moves)
    remainder = discount**3 * float(reached @ value)  # the model's value after the truncation
    expected = recorded_value(mdp, policy, discount, 3) + remainder
    assert (probabilities @ each)[0] == pytest.approx(expected)


def test_doubly_robust_with_the_true_values_is_exact_beyond_a_time_limit():
    mdp, rng = TabularMDP.random(3, ends=0.0), np.random.default_rng(3)
    policy, behaviour, discount = rng.dirichlet(np.ones(2), 4), np.full((4, 2), 0.5), 0.9
    data = mdp.play(behaviour, 4000, 5, seed=1)
    truth, q = mdp.values(policy, discount), mdp.action_values(policy, discount)
    state, next_state = data.obs.argmax(1), data.next_obs.argmax(1)
    each = doubly_robust.per_episode(
        data,
        importance.weights(log_ratio(policy, data), data),
        truth[state],
        truth[next_state],
        q[state, data.action],
        discount,
    )
    error = each.std() / np.sqrt(len(each))
    assert abs(each.mean() - mdp.start @ truth) < 4 * error


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4), st.floats(-30, 30))
def test_weighted_importance_sampling_is_scale_invariant_and_within_the_returns(
    log_ratios: list[float], shift: float
):
    data, _ = bandit()
    reward = importance.rewards(data, 0.9)
    weight = importance.weights(np.array(log_ratios), data)
    value = importance.estimate("wis", weight, reward)[0]
    returns = reward.sum(1)
    assert returns.min() - 1e-9 <= value <= returns.max() + 1e-9
    for kind in ("wis", "wpdis"):
        same = importance.estimate(kind, weight * np.exp(shift), reward)[0]
        assert same == pytest.approx(importance.estimate(kind, weight, reward)[0])


def test_the_estimate_of_the_behaviour_is_the_mean_return():
    mdp, behaviour = TabularMDP.random(1), np.full((4, 2), 0.5)
    data = mdp.play(behaviour, 50, 10, seed=0)
    weight = importance.weights(log_ratio(behaviour, data), data)
    for kind in importance.KINDS:
        value = importance.estimate(kind, weight, importance.rewards(data, 0.9))[0]
        assert value == pytest.approx(data.returns(0.9).mean())


def test_weights_that_would_overflow_are_bounded():
    data, _ = bandit()
    weight = importance.weights(np.array([900.0, 900.0, -np.inf, 900.0]), data)
    assert np.isfinite(weight).all()
    assert weight[1].tolist() == [0.0, 0.0]
    assert importance.estimate("wis", weight, importance.rewards(data, 1.0))[0] == pytest.approx(3.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_the_effective_sample_size_is_between_one_and_all(weights: list[float]):
    size = importance.effective_sample_size(np.array(weights))
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert importance.effective_sample_size(np.full(7, weights[0])) == pytest.approx(7)


# Fitted Q evaluation.


@pytest.mark.parametrize(("terminated", "value"), [(False, 10.0), (True, 1 + 0.9 + 0.81)])
def test_a_time_limit_ends_no_value_and_a_terminal_does(terminated: bool, value: float):
    count, obs = 20, np.zeros((60, 3), np.float32)
    obs[np.arange(60), np.tile([0, 1, 2], count)] = 1
    last = np.tile([False, False, True], count)
    next_state = np.roll(obs, -1, axis=0)  # after the third state the first comes again
    action, reward = np.zeros(60, np.int64), np.ones(60, np.float32)
    data = RecordedData(obs, action, reward, next_state, last & terminated, last, n_actions=1)
    fitted = fqe.fit(data, TabularPolicy(np.ones((3, 1))), 0.9, replace(SMALL_FQE, updates=1500, sync=5))
    assert fitted.members == pytest.approx(value, rel=0.08)


@pytest.mark.parametrize("ends", [0.1, 0.0])
def test_fitted_values_are_the_exact_values(ends: float):
    mdp, rng = TabularMDP.random(0, ends=ends), np.random.default_rng(5)
    policy = rng.dirichlet(np.ones(2), 4)
    data = mdp.play(np.full((4, 2), 0.5), 1500, 20, seed=1)
    fitted = fqe.fit(data, TabularPolicy(policy), 0.9, SMALL_FQE)
    rows = np.arange(4000)
    q, v = mdp.action_values(policy, 0.9), mdp.values(policy, 0.9)
    spread = q.std()
    state, next_state = data.obs[rows].argmax(1), data.next_obs[rows].argmax(1)
    assert np.abs(fitted.action_value(rows) - q[state, data.action[rows]]).mean() < 0.25 * spread
    assert np.abs(fitted.value(rows) - v[state]).mean() < 0.25 * spread
    assert np.abs(fitted.next_value(rows) - v[next_state]).mean() < 0.25 * spread
    assert fitted.members.mean() == pytest.approx(mdp.start @ v, abs=0.2 * spread)


def test_continuous_actions_of_a_deterministic_and_a_stochastic_policy():
    data = one_step(2000)
    settings = fqe.FQESettings(updates=800, members=2, hidden=(64,), lr=5e-3, samples=8)
    best = fqe.fit(data, deterministic(lambda obs: obs), 0.9, settings)
    assert best.members == pytest.approx(0, abs=0.1)
    drawn = fqe.fit(data, UniformPolicy(), 0.9, settings)
    assert drawn.members == pytest.approx(-(4 / 3 + 1 / 3), abs=0.15)


def test_the_expectation_over_discrete_actions_is_exact():
    mdp = TabularMDP.random(0)
    data = mdp.play(np.full((4, 2), 0.5), 5, 5, seed=0)
    policy = np.random.default_rng(1).dirichlet(np.ones(2), 4)
    actions = policy_actions(TabularPolicy(policy), data, data.obs, samples=1)
    assert actions.numpy() == pytest.approx(policy[data.obs.argmax(1)])


def test_the_members_interval_by_hand():
    # Student's t with two degrees of freedom: 4.3027 times the standard deviation 1.
    assert fqe.interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 4.3027, 2 + 4.3027), abs=1e-3)


# DICE.


@pytest.mark.parametrize("ends", [0.1, 0.0])
def test_the_ratios_of_visits_are_the_exact_ones(ends: float):
    mdp, rng = TabularMDP.random(0, ends=ends), np.random.default_rng(5)
    policy, discount = rng.dirichlet(np.ones(2), 4), 0.8
    data = mdp.play(np.full((4, 2), 0.5), 1500, 12, seed=1)
    settings = dice.DICESettings(updates=1500, members=2, hidden=(32,), batch_size=128, lr=2e-3)
    found = dice.fit(data, TabularPolicy(policy), discount, settings)
    state = data.obs.argmax(1)
    visited = np.zeros((4, 2))
    np.add.at(visited, (state, data.action), 1 / len(state))
    exact = (mdp.visits(policy, discount) / visited)[state, data.action]
    assert np.abs(found.zeta - exact).mean() < 0.15
    assert found.mass == pytest.approx(1, abs=0.1)
    too_short = dice.fit(data, TabularPolicy(policy), discount, replace(settings, updates=60))
    assert found.imbalance < 0.1 < diagnostics.MAX_IMBALANCE < too_short.imbalance
    assert [warning.severe for warning in diagnostics.check_visits(1.0, too_short.imbalance)] == [True]
    value = float(mdp.start @ mdp.values(policy, discount))
    assert found.members == pytest.approx(value, abs=0.25 * data.returns(discount).std())
