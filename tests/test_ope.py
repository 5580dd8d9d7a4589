"""All estimators at once: on a hospital's world, on a pendulum, and what must not be believed."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import SMALL, TabularPolicy, TabularMDP, bandit, one_step, deterministic

from datasets_io import Shards
from datasets_io.sources.toy import ToyPendulum
from off2on.commands.ope import METHODS as NAMES
from off2on.errors import UnknownName, UserError
from off2on.ope import METHODS, diagnostics, dice, estimate, fqe, rank
from off2on.ope.recorded_data import Array, RecordedData
from off2on.training import evaluate as play

# All at once, on a world from a hospital.


@pytest.fixture(scope="module")
def sepsis() -> TabularMDP:
    """ICU-Sepsis (Choudhary et al. 2024): 716 states, 25 actions; only death and survival end an episode."""
    place = find_spec("icu_sepsis")
    if place is None:
        pytest.skip("icu-sepsis is not installed: pip install icu-sepsis==2.0.1")
    path = Path(place.submodule_search_locations[0]) / "envs/assets/dynamics.npz"
    with np.load(path) as file:
        moves, reward, start = file["tx_mat"], file["r_mat"], file["d_0"]
        TabularMDP.clinician = file["expert_policy"][:713]
    end = moves[:713, :, 713:].sum(2)
    earned = (moves * reward).sum(2)[:713]
    onward = moves[:713, :, :713] / np.maximum(1 - end, 1e-12)[..., None]
    onward[end > 1 - 1e-9] = 1 / 713
    return TabularMDP(onward, earned, end, start[:713])


def optimal(world: TabularMDP) -> Array:
    """Of what clinicians do at all: without any data nothing can be said of the rest."""
    value, never = np.zeros(len(world.start)), np.where(TabularMDP.clinician > 0, 0.0, -np.inf)
    for _ in range(1000):
        q = world.reward + (1 - world.end) * (world.moves @ value) + never
        if np.abs(q.max(1) - value).max() < 1e-9:
            break
        value = q.max(1)
    return np.eye(q.shape[1])[q.argmax(1)]


def test_the_published_values_of_sepsis(sepsis: TabularMDP):
    # The package's own table says 0.78 and 0.88.
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
            # Few of the patients were treated so, and some of them count for twenty.
            assert abs(one.value - truth) <= one.high - one.low, one
            assert 20 < one.diagnostics["effective_episodes"] < 2000


def test_all_estimators_agree_with_the_exact_value_of_a_world():
    world, discount = TabularMDP.random(0, ends=0.25), 0.9
    policy, behaviour = np.tile([0.2, 0.8], (4, 1)), np.tile([0.6, 0.4], (4, 1))
    data = world.play(behaviour, 4000, 60, seed=1)
    truth = float(world.start @ world.values(policy, discount))
    error = abs(truth - world.start @ world.values(behaviour, discount)) / 3
    visits = dice.DICESettings(updates=1200, members=2, hidden=(32,), batch_size=256, lr=1e-3)
    report = estimate(TabularPolicy(policy), data, discount=discount, fqe_settings=SMALL, dice_settings=visits)
    assert len(report.estimates) == 7
    for one in report.estimates:
        assert one.value == pytest.approx(truth, abs=error), one


# A world of continuous actions: which of two controllers is better.


def swings(skill: float):
    """The toy data's controller without its noise; a negative skill pushes the wrong way."""

    class Still(np.random.Generator):
        def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
            return abs(skill) if low == 0.1 else 0.0

        def normal(self) -> float:  # type: ignore[override]
            return 0.0

    act = ToyPendulum().controller(Still(np.random.PCG64(0)))
    sign = np.sign(skill)
    return lambda obs: np.stack([sign * act(row) for row in obs]).astype(np.float32)


def test_fitted_values_tell_a_good_controller_of_the_pendulum_from_a_bad_one(toy: Shards):
    budget = fqe.FQESettings(updates=1200, members=2, hidden=(64, 64), batch_size=128, lr=2e-3, sync=5)
    scored, earned = {}, {}
    for skill in (0.8, -0.5):
        act = swings(skill)
        report = estimate(act, toy, methods=("fqe",), discount=0.95, fqe_settings=budget)
        scored[skill] = report.estimates[0].value
        episodes = play.evaluate(act, "Pendulum-v1", episodes=5, seed=100)
        earned[skill] = np.mean([episode.ret for episode in episodes])
    assert earned[0.8] > earned[-0.5]
    assert scored[0.8] > scored[-0.5]


# What must not be believed.


def words(report) -> Iterator[str]:
    for one in report.estimates:
        yield from (doubt.words for doubt in one.doubts)


def test_a_policy_unlike_the_behaviour_is_not_trusted():
    world, behaviour = TabularMDP.random(0, ends=0.0), np.tile([0.9, 0.1], (4, 1))
    data = world.play(behaviour, 100, 30, seed=0)
    report = estimate(TabularPolicy(1 - behaviour), data, methods=("is", "wis"), discount=0.9)
    assert [one.trust for one in report.estimates] == ["do not trust"] * 2
    said = " ".join(words(report))
    assert "effective episodes of 100" in said
    assert "the weights' mean" in said
    assert "only recorded steps count: 100% of the episodes were cut off" not in said  # 0.9^30 is little
    near = estimate(TabularPolicy(behaviour), data, methods=("wis",), discount=0.9).estimates[0]
    assert near.trust == "no objection"
    assert near.diagnostics["effective_episodes"] == pytest.approx(100)


def test_actions_that_nobody_took_nearby_are_seen(toy: Shards):
    data = RecordedData.from_shards(toy)
    assert diagnostics.support_share(data, deterministic(lambda obs: data.action[: len(obs)])) < 1
    outside = diagnostics.support_share(data, deterministic(lambda obs: np.full((len(obs), 1), 9.0)))
    order = np.random.default_rng(0).permutation(len(data.reward))[:2000]
    recorded = diagnostics.support_share(data, deterministic(lambda obs: data.action[order]))
    assert outside == 0
    assert recorded == 1
    assert diagnostics.EstimateWarning in {type(doubt) for doubt in diagnostics.check_support(outside)}


def test_a_fit_that_still_moves_and_a_value_that_cannot_be_are_told():
    moving = list(diagnostics.check_convergence(np.arange(10.0), 8.9, 9.1, spread=1.0))
    assert moving
    assert moving[0].severe
    assert not list(diagnostics.check_convergence(np.full(10, 3.0), 2.9, 3.1, spread=1.0))
    assert [doubt.severe for doubt in diagnostics.check_target_updates(99, 0.99)] == [True]
    assert not [*diagnostics.check_target_updates(100, 0.99), *diagnostics.check_target_updates(1, 1.0)]
    data, _ = bandit()
    assert "adds up" in next(diagnostics.check_value(41.0, 40, 42, data, 0.9)).words  # 4 / (1 - 0.9) is the most
    assert not list(diagnostics.check_value(3.0, 2.9, 3.1, data, 0.9))


def test_what_cannot_be_asked_is_named_with_its_reason(toy: Shards):
    budget = fqe.FQESettings(updates=20, members=2, hidden=(8,))
    report = estimate(swings(0.5), toy, discount=0.9, fqe_settings=budget, dice_settings=dice.DICESettings(20, 2, (8,)))
    assert [one.method for one in report.estimates] == ["fqe", "dice"]
    assert set(report.skipped) == {"is", "pdis", "wis", "wpdis", "dr"}
    assert "action_logp" in report.skipped["is"]
    undiscounted = estimate(swings(0.5), toy, methods=("fqe", "dice"), discount=1.0)
    assert set(undiscounted.skipped) == {"fqe", "dice"}
    with_column = one_step(30)
    known = RecordedData(**{**vars(with_column), "log_prob": np.zeros(30)})
    assert "density" in estimate(lambda obs: obs, known, methods=("wis",)).skipped["wis"]


def test_data_that_allow_no_estimate_are_refused():
    world = TabularMDP.random(0, ends=0.0)
    one = world.play(np.full((4, 2), 0.5), 1, 5, seed=0)
    with pytest.raises(UserError, match="one episode"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), one)
    two = world.play(np.full((4, 2), 0.5), 2, 5, seed=0)
    two.log_prob[3] = -np.inf
    with pytest.raises(UserError, match="not finite in 1 rows"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two)
    with pytest.raises(UserError, match="discount must lie"):
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two, discount=1.5)
    with pytest.raises(UnknownName, match="no method 'fqee'") as caught:
        estimate(TabularPolicy(np.full((4, 2), 0.5)), two, methods=["fqee"])
    assert caught.value.nearest == "fqe"


def test_actions_of_another_shape_are_refused(toy: Shards):
    with pytest.raises(UserError, match=r"actions have shape \(2,\), recorded ones \(2, 1\)"):
        estimate(lambda obs: obs[:, 0], toy, methods=("fqe",))


def test_the_command_knows_the_same_methods():
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


def test_the_same_seed_gives_the_same_estimate_and_leaves_the_random_numbers_alone():
    data = TabularMDP.random(0).play(np.full((4, 2), 0.5), 30, 5, seed=0)
    budget = fqe.FQESettings(updates=30, members=2, hidden=(8,))
    before = torch.get_rng_state()
    first, again, other = (
        fqe.fit(data, TabularPolicy(np.full((4, 2), 0.5)), 0.9, budget, seed).members for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(before, torch.get_rng_state())


def test_values_are_bounded_by_the_rewards_by_hand():
    assert fqe.value_bounds(np.array([-2.0, 1.0]), 0.9) == pytest.approx((-20, 10))
    assert fqe.value_bounds(np.array([1.0, 3.0]), 0.5) == (0, 6)  # an episode may end, and earn nothing more
    assert fqe.value_bounds(np.array([-1.0, 0.0]), 1.0) == (-np.inf, 0)
