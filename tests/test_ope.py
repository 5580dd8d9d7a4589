"""All estimators together: on a clinical MDP, on a pendulum, and their warnings."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tabular_mdp import SMALL_FQE, TabularMDP, TabularPolicy, bandit, deterministic, one_step

from datasets_io import Shards
from datasets_io.sources.toy import ToyPendulum
from off2on.commands.ope import METHODS as NAMES
from off2on.errors import UnknownName, UserError
from off2on.ope import METHODS, diagnostics, dice, estimate, fqe, rank
from off2on.ope.importance import effective_sample_size
from off2on.ope.recorded_data import Array, RecordedData
from off2on.training import evaluate as play

# All together, on a clinical MDP.


@pytest.fixture(scope="module")
def sepsis() -> TabularMDP:
    """ICU-Sepsis (Choudhary et al. 2024): 716 states, 25 actions; only death and survival end an episode."""
    spec = find_spec("icu_sepsis")
    if spec is None:
        pytest.skip("icu-sepsis is not installed: pip install icu-sepsis==2.0.1")
    path = Path(spec.submodule_search_locations[0]) / "envs/assets/dynamics.npz"
    with np.load(path) as file:
        moves, reward, start = file["tx_mat"], file["r_mat"], file["d_0"]
        TabularMDP.clinician = file["expert_policy"][:713]
    end = moves[:713, :, 713:].sum(2)
    earned = (moves * reward).sum(2)[:713]
    going_on = moves[:713, :, :713] / np.maximum(1 - end, 1e-12)[..., None]
    going_on[end > 1 - 1e-9] = 1 / 713
    return TabularMDP(going_on, earned, end, start[:713])


def optimal(mdp: TabularMDP) -> Array:
    """Return the optimal policy among the actions of clinicians; the data have no others."""
    value, never = np.zeros(len(mdp.start)), np.where(TabularMDP.clinician > 0, 0.0, -np.inf)
    for _ in range(1000):
        q = mdp.reward + (1 - mdp.end) * (mdp.moves @ value) + never
        if np.abs(q.max(1) - value).max() < 1e-9:
            break
        value = q.max(1)
    return np.eye(q.shape[1])[q.argmax(1)]


def test_the_published_values_of_sepsis(sepsis: TabularMDP):
    # The package's own table has 0.78 and 0.88.
    assert float(sepsis.start @ sepsis.values(TabularMDP.clinician, 1.0)) == pytest.approx(0.782, abs=5e-4)
    assert float(sepsis.start @ sepsis.values(optimal(sepsis), 1.0)) == pytest.approx(0.875, abs=5e-4)


def test_the_estimators_agree_with_the_exact_value_of_sepsis(sepsis: TabularMDP):
    policy, discount = 0.9 * TabularMDP.clinician + 0.1 * optimal(sepsis), 0.98
    data = sepsis.play(TabularMDP.clinician, 2000, 500, seed=0)
    values = fqe.FQESettings(updates=300, members=2, hidden=(64,), lr=5e-3, sync=10)
    truth = float(sepsis.start @ sepsis.values(policy, discount))
    methods = [name for name in METHODS if name != "dice"]  # of 716 states it takes minutes
    report = estimate(TabularPolicy(policy), data, methods=methods, discount=discount, fqe_settings=values)
    assert not report.skipped
    for one in report.estimates:
        assert one.value == pytest.approx(truth, abs=0.1), one
        if one.method != "fqe":
            # Few patients were treated like this, and some of them have a weight of twenty.
            assert abs(one.value - truth) <= one.high - one.low, one
            assert 20 < one.diagnostics["effective_episodes"] < 2000


def test_all_estimators_agree_with_the_exact_value_of_a_small_mdp():
    mdp, discount = TabularMDP.random(0, ends=0.25), 0.9
    policy, behaviour = np.tile([0.2, 0.8], (4, 1)), np.tile([0.6, 0.4], (4, 1))
    data = mdp.play(behaviour, 4000, 60, seed=1)
    truth = float(mdp.start @ mdp.values(policy, discount))
    error = abs(truth - mdp.start @ mdp.values(behaviour, discount)) / 3
    visits = dice.DICESettings(updates=1200, members=2, hidden=(32,), batch_size=256, lr=1e-3)
    report = estimate(
        TabularPolicy(policy), data, discount=discount, fqe_settings=SMALL_FQE, dice_settings=visits
    )
    assert len(report.estimates) == 7
    for one in report.estimates:
        assert one.value == pytest.approx(truth, abs=error), one


# Continuous actions: the better of two controllers.


def controller(skill: float):
    """Return the toy data's controller without noise; a negative skill pushes the wrong way."""

    class NoNoise(np.random.Generator):
        def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
            return abs(skill) if low == 0.1 else 0.0

        def normal(self) -> float:  # type: ignore[override]
            return 0.0

    act = ToyPendulum().controller(NoNoise(np.random.PCG64(0)))
    sign = np.sign(skill)
    return lambda obs: np.stack([sign * act(row) for row in obs]).astype(np.float32)


def test_fqe_ranks_two_controllers_of_the_pendulum(toy: Shards):
    settings = fqe.FQESettings(updates=1200, members=2, hidden=(64, 64), batch_size=128, lr=2e-3, sync=5)
    scored, earned = {}, {}
    for skill in (0.8, -0.5):
        act = controller(skill)
        report = estimate(act, toy, methods=("fqe",), discount=0.95, fqe_settings=settings)
        scored[skill] = report.estimates[0].value
        episodes = play.evaluate(act, "Pendulum-v1", episodes=5, seed=100)
        earned[skill] = np.mean([episode.ret for episode in episodes])
    assert earned[0.8] > earned[-0.5]
    assert scored[0.8] > scored[-0.5]


# Warnings.


def messages(report) -> Iterator[str]:
    for one in report.estimates:
        yield from (warning.message for warning in one.warnings)


def test_a_policy_unlike_the_behaviour_is_not_trusted():
    mdp, behaviour = TabularMDP.random(0, ends=0.0), np.tile([0.9, 0.1], (4, 1))
    data = mdp.play(behaviour, 100, 30, seed=0)
    report = estimate(TabularPolicy(1 - behaviour), data, methods=("is", "wis"), discount=0.9)
    assert [one.trust for one in report.estimates] == ["do not use"] * 2
    text = " ".join(messages(report))
    assert "effective episodes of 100" in text
    assert "the mean weight is" in text
    assert "only recorded steps count" not in text  # 0.9^30 is small
    near = estimate(TabularPolicy(behaviour), data, methods=("wis",), discount=0.9).estimates[0]
    assert near.trust == "no warnings"
    assert near.diagnostics["effective_episodes"] == pytest.approx(100)


def test_actions_without_support_are_found(toy: Shards):
    data = RecordedData.from_shards(toy)
    assert diagnostics.support_share(data, deterministic(lambda obs: data.action[: len(obs)])) < 1
    outside = diagnostics.support_share(data, deterministic(lambda obs: np.full((len(obs), 1), 9.0)))
    order = np.random.default_rng(0).permutation(len(data.reward))[:2000]
    recorded = diagnostics.support_share(data, deterministic(lambda obs: data.action[order]))
    assert outside == 0
    assert recorded == 1
    assert diagnostics.EstimateWarning in {type(warning) for warning in diagnostics.check_support(outside)}


def test_a_fit_that_has_not_converged_and_an_impossible_value_cause_warnings():
    moving = list(diagnostics.check_convergence(np.arange(10.0), 8.9, 9.1, spread=1.0))
    assert moving
    assert moving[0].severe
    assert not list(diagnostics.check_convergence(np.full(10, 3.0), 2.9, 3.1, spread=1.0))
    assert [warning.severe for warning in diagnostics.check_target_updates(99, 0.99)] == [True]
    assert not [*diagnostics.check_target_updates(100, 0.99), *diagnostics.check_target_updates(1, 1.0)]
    data, _ = bandit()
    assert (
        "adds up" in next(diagnostics.check_value(41.0, 40, 42, data, 0.9)).message
    )  # 4 / (1 - 0.9) is the most
    assert not list(diagnostics.check_value(3.0, 2.9, 3.1, data, 0.9))


def test_short_truncated_episodes_are_not_compared_with_an_infinite_horizon():
    mdp = TabularMDP.random(0, ends=0.0)
    mdp.reward[:] = 1
    policy = np.full((4, 2), 0.5)
    report = estimate(TabularPolicy(policy), mdp.play(policy, 30, 20, seed=0), methods=("is", "pdis"))
    for one in report.estimates:
        assert one.value == pytest.approx((1 - 0.99**20) / 0.01)
        assert not [warning.message for warning in one.warnings if warning.severe]


def test_what_comes_after_time_limits_is_told_of_both_horizons():
    mdp = TabularMDP.random(0, ends=0.0)
    data = mdp.play(np.full((4, 2), 0.5), 30, 50, seed=0)  # 0.99^50 = 61 %
    (counted,) = diagnostics.check_cut_episodes(data, 0.99, recorded_only=False)
    assert counted.message.startswith("61% of all discounted steps come after the last recorded step")
    (left_out,) = diagnostics.check_cut_episodes(data, 0.99, recorded_only=True)
    assert "61% of all discounted steps come after; fqe" in left_out.message
    assert not counted.severe
    assert not list(diagnostics.check_cut_episodes(data, 0.95, recorded_only=False))  # 8 %
    (report,) = estimate(
        TabularPolicy(np.full((4, 2), 0.5)), data, methods=("fqe",), fqe_settings=fqe.FQESettings(updates=5)
    ).estimates
    assert counted.message in [warning.message for warning in report.warnings]


@pytest.mark.parametrize(("weights", "warned"), [([1.0] * 12, False), ([1.0] * 11 + [3.0], True)])
def test_equal_weights_of_few_episodes_are_no_fault(weights: list[float], warned: bool):
    weight = np.array(weights)
    found = [each.message for each in diagnostics.check_weights(weight, effective_sample_size(weight))]
    assert any("of the total weight" in message for message in found) == warned


def test_weights_whose_squares_overflow_cause_a_warning_about_their_mean():
    weight = np.exp(np.append(np.full(99, 600.0), 599.0))
    warnings = list(diagnostics.check_weights(weight, effective_sample_size(weight)))
    assert [("the mean weight" in each.message, each.severe) for each in warnings] == [(True, True)]


def test_a_method_without_its_requirements_is_skipped_with_the_reason(toy: Shards):
    settings = fqe.FQESettings(updates=20, members=2, hidden=(8,))
    report = estimate(
        controller(0.5),
        toy,
        discount=0.9,
        fqe_settings=settings,
        dice_settings=dice.DICESettings(20, 2, (8,)),
    )
    assert [one.method for one in report.estimates] == ["fqe", "dice"]
    assert set(report.skipped) == {"is", "pdis", "wis", "wpdis", "dr"}
    assert "action_logp" in report.skipped["is"]
    undiscounted = estimate(controller(0.5), toy, methods=("fqe", "dice"), discount=1.0)
    assert set(undiscounted.skipped) == {"fqe", "dice"}
    with_column = one_step(30)
    known = RecordedData(**{**vars(with_column), "log_prob": np.zeros(30)})
    assert "density" in estimate(lambda obs: obs, known, methods=("wis",)).skipped["wis"]


def test_data_that_allow_no_estimate_are_refused():
    mdp = TabularMDP.random(0, ends=0.0)
    one = mdp.play(np.full((4, 2), 0.5), 1, 5, seed=0)
    with pytest.raises(UserError, match="only one episode"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), one)
    two = mdp.play(np.full((4, 2), 0.5), 2, 5, seed=0)
    two.log_prob[3] = -np.inf
    with pytest.raises(UserError, match="not finite in 1 rows"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two)
    with pytest.raises(UserError, match="out of range"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two, discount=1.5)
    with pytest.raises(UnknownName, match="no method 'fqee'") as caught:
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two, methods=["fqee"])
    assert caught.value.nearest == "fqe"


def test_actions_of_another_shape_are_refused(toy: Shards):
    with pytest.raises(UserError, match=r"shape \(2,\)(.|\n)*shape \(2, 1\)"):
        estimate(lambda obs: obs[:, 0], toy, methods=("fqe",))


def test_the_command_has_the_same_methods():
    assert NAMES == METHODS


# Ranking.


def test_a_ranking_by_hand():
    found = rank([1, 2, 3, 4], [10, 30, 20, 0], ks=(1, 2, 3, 5))
    # Ranks 1 2 3 4 and 2 4 3 1: 1 - 6 (1 + 4 + 0 + 9) / (4 * 15).
    assert found.correlation == pytest.approx(1 - 6 * 14 / 60)
    assert found.regret == pytest.approx({1: 1.0, 2: 1 / 3, 3: 0.0})
    assert np.isnan(rank([1, 1, 1], [1, 2, 3]).correlation)
    with pytest.raises(UserError, match="2 policies"):
        rank([1, 2], [1, 2])


def test_the_same_seed_gives_the_same_estimate_and_keeps_the_random_state():
    data = TabularMDP.random(0).play(np.full((4, 2), 0.5), 30, 5, seed=0)
    settings = fqe.FQESettings(updates=30, members=2, hidden=(8,))
    before = torch.get_rng_state()
    first, again, other = (
        fqe.fit(data, TabularPolicy(np.full((4, 2), 0.5)), 0.9, settings, seed).members for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(before, torch.get_rng_state())


def test_values_are_bounded_by_the_rewards_by_hand():
    assert fqe.value_bounds(np.array([-2.0, 1.0]), 0.9) == pytest.approx((-20, 10))
    assert fqe.value_bounds(np.array([1.0, 3.0]), 0.5) == (0, 6)  # an episode may end, and earn nothing more
    assert fqe.value_bounds(np.array([-1.0, 0.0]), 1.0) == (-np.inf, 0)
