"""Golden numbers made by hand, each with the direction in which it could be wrong, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from off2on.runs import statistics
from off2on.runs.curve import Curve, recovery, regret
from off2on.runs.numbers import points, short

SCORES = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=30)
SEEDS = st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=12)

# A handover at 66. 55 at 5 k is the lowest of the first 20 % of 50 k; 40 at 20 k is too late to be the drop.
STEPS = np.array([0.0, 1, 5_000, 10_000, 15_000, 20_000, 30_000, 40_000, 50_000])
ONLINE = np.array([66.0, 65, 55, 60, 70, 40, 80, 90, 90])


def curve(
    online: np.ndarray = ONLINE, planned: int = 50_000, offline: tuple[float, ...] = (50.0, 66.0)
) -> Curve:
    steps = STEPS[: len(online)]
    return Curve(np.linspace(0, 1_000, len(offline)), np.array(offline), steps, online, planned)


def test_iqm_leaves_out_a_quarter_at_each_end() -> None:
    assert statistics.iqm([0, 1, 2, 3, 4, 5, 6, 700]) == 3.5  # of 2, 3, 4, 5; the mean is 90
    assert statistics.iqm([-900, 1, 2, 6, 7, 8, 8, 8]) == 5.75  # of 2, 6, 7, 8: the median is 6.5
    assert statistics.iqm([1, 2, 900]) == 301  # a quarter of three, rounded down, is none
    assert statistics.iqm([[0, 1], [2, 100]]) == 1.5  # over seeds × tasks at once


@given(SCORES, st.floats(-1e3, 1e3))
def test_iqm_lies_between_the_extremes_and_moves_with_the_scores(scores: list[float], shift: float) -> None:
    middle = statistics.iqm(scores)
    assert min(scores) - 1e-6 <= middle <= max(scores) + 1e-6
    assert statistics.iqm(np.array(scores) + shift) == pytest.approx(middle + shift, abs=1e-6)
    assert statistics.iqm(-np.array(scores)) == pytest.approx(-middle, abs=1e-6)


@given(SEEDS)
def test_the_interval_contains_the_iqm_and_stays_among_the_scores(scores: list[float]) -> None:
    amount = statistics.estimate(scores)
    assert amount.interval is not None
    low, high = amount.interval
    assert min(scores) - 1e-6 <= low <= amount.value + 1e-6
    assert amount.value - 1e-6 <= high <= max(scores) + 1e-6


def test_the_interval_is_repeatable_and_narrows_with_seeds() -> None:
    few, many = np.random.default_rng(0).normal(size=5), np.random.default_rng(0).normal(size=500)
    assert statistics.estimate(few) == statistics.estimate(few)
    widths = [
        high - low for low, high in (statistics.estimate(few).interval, statistics.estimate(many).interval)
    ]  # type: ignore[misc]
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [statistics.estimate(rng.normal(size=20)).interval for _ in range(200)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])  # type: ignore[misc]
    assert 0.85 < covered <= 0.99  # bootstrap intervals of few values are known to be somewhat too narrow


def test_seeds_are_resampled_within_their_task() -> None:
    # Two tasks without spread between their seeds: resampled across tasks, the IQM would move from 0 to 100.
    amount = statistics.estimate([0, 0, 0, 0], [100, 100, 100, 100])
    assert amount.value == 50
    assert amount.interval == (50, 50)


@pytest.mark.parametrize("tasks", [([1.0],), ([1.0, 2.0],), ([1.0, 2.0, 3.0], [1.0, 2.0])])
def test_fewer_than_three_seeds_have_no_interval(tasks: tuple[list[float], ...]) -> None:
    assert statistics.estimate(*tasks).interval is None
    assert statistics.probability_of_improvement(tasks[0], [1.0, 2.0]).interval is None


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [[1.0, 2.0]]])
def test_scores_that_are_no_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        statistics.estimate(scores)


def test_probability_of_improvement_is_of_the_first_over_the_second() -> None:
    # 3 of the 9 pairs are won (5 beats 1, 2 and 4), one is a tie (4 and 4): 3 is above 1 and 2.
    assert statistics.probability_of_improvement([5, 4, 3], [1, 2, 4]).value == pytest.approx(
        (3 + 2.5 + 2) / 9
    )
    better = statistics.probability_of_improvement([7, 8, 9], [1, 2, 3])
    assert (better.value, better.interval) == (1, (1, 1))
    assert statistics.probability_of_improvement([1, 2, 3], [7, 8, 9]).value == 0


@given(SEEDS, SEEDS)
def test_probabilities_of_improvement_add_up(x: list[float], y: list[float]) -> None:
    there, back = statistics.probability_of_improvement(x, y), statistics.probability_of_improvement(y, x)
    assert there.value + back.value == pytest.approx(1)
    assert statistics.probability_of_improvement(x, x).value == pytest.approx(0.5)


@given(st.floats(-1e4, 1e4), st.integers(3, 12))
def test_scores_without_spread_have_an_interval_without_width(score: float, seeds: int) -> None:
    amount = statistics.estimate([score] * seeds)
    assert (amount.value, amount.interval) == (pytest.approx(score), pytest.approx((score, score)))


def test_a_profile_is_the_share_of_runs_above_each_level() -> None:
    # A run at a level is not above it: at 2, of 1, 2, 2 and 3 only the 3 counts.
    assert statistics.profile([1, 2, 2, 3], [0, 1, 2, 2.5, 3]).tolist() == [1, 0.75, 0.25, 0.25, 0]


@given(SCORES)
def test_a_profile_falls_from_all_to_none(scores: list[float]) -> None:
    shares = statistics.profile(scores, np.linspace(min(scores) - 1, max(scores), 20))
    assert (shares[0], shares[-1]) == (1, 0)
    assert (np.diff(shares) <= 0).all()


def test_the_area_is_the_mean_score_over_steps_not_over_evaluations() -> None:
    # Trapezoids up to 15 k: 65.5 × 1 + 60 × 4,999 + 57.5 × 5,000 + 65 × 5,000 = 912,505.5. The mean of the
    # five evaluations is 63.2: the two at the start lie one step apart and count for as little.
    assert curve(ONLINE[:5]).area == pytest.approx(912_505.5 / 15_000)
    assert curve(ONLINE[:1]).area == 66
    assert curve(np.full(9, 7.0)).area == pytest.approx(7)
    assert Curve(np.array([1.0]), np.array([5.0]), np.array([]), np.array([]), 0).area is None


def test_the_drop_is_that_of_the_first_fifth_only() -> None:
    assert curve().drop == 11  # 66 − 55; 26 if the 40 at 20 k counted
    assert curve(planned=100_000).drop == 26  # now 20 k is within the first fifth
    assert curve(ONLINE + 20).drop == 0  # nothing lost is no drop, not a negative one


def test_what_the_switch_itself_costs_is_part_of_the_drop() -> None:
    switched = curve(np.array([30.0, 50, 60]))
    assert (switched.handover, switched.after, switched.drop) == (66, 30, 36)
    assert (
        curve(offline=()).handover == 66
    )  # without an offline side the score after the switch is all there is


def test_a_recovery_is_the_last_of_three_evaluations_whose_mean_is_back() -> None:
    # From the lowest on: (55 60 70) 61.7, (60 70 40) 56.7, (70 40 80) 63.3, (40 80 90) 70, ending at 40 k.
    assert curve().recovered == 40_000
    # One evaluation above the handover is luck, not recovery: 70 at 15 k is not it.
    assert curve(ONLINE[:5]).recovered is None
    assert curve(np.array([66.0, 65, 55, 60, 83])).recovered == 15_000  # (55 60 83) is exactly 66
    assert curve(np.array([90.0, 90, 55, 60])).recovered is None  # the 90s came before the drop
    assert curve(ONLINE + 20).recovered == 0


def test_regret_is_the_mean_loss_per_step() -> None:
    steps = np.array([0.0, 10, 20])
    assert regret(10, steps, np.array([10.0, 0, 10])) == 5  # a triangle 20 wide and 10 deep
    assert (
        regret(10, steps, np.array([20.0, 0, 20])) == 2.5
    )  # only its half below the level: 10 × 10 / 2 / 20
    assert regret(10, steps, np.array([30.0, 20, 30])) == 0  # gains do not pay for losses


def test_a_run_that_stays_offline_has_no_drop() -> None:
    alone = Curve(np.array([1_000.0]), np.array([5.0]), np.array([]), np.array([]), 0)
    assert (alone.handover, alone.drop, alone.recovered, alone.regret, alone.after) == (
        5,
        None,
        None,
        None,
        None,
    )
    with pytest.raises(ValueError, match="one evaluation"):
        Curve(np.array([]), np.array([]), np.array([]), np.array([]), 0)


def test_curves_meet_on_the_places_all_of_them_reach() -> None:
    grid, rows = statistics.together(
        [np.array([0.0, 10, 20]), np.array([0.0, 5, 10])], [np.arange(3.0), np.zeros(3)]
    )
    assert grid.tolist() == [0, 5, 10]
    assert rows.tolist() == [[0, 0.5, 1], [0, 0, 0]]


def test_recovery_is_that_of_the_middle_seed_and_counts_the_lost_ones() -> None:
    back, never = curve(), curve(ONLINE[:5])
    assert recovery([back, back, never]) == "recovered after 40 k steps"
    assert recovery([back, never, never]) == "not recovered in 50 k steps"


@pytest.mark.parametrize(
    ("value", "text"), [(66.64, "66.6"), (3664.2, "3,664"), (-0.524, "−0.52"), (-0.001, "0"), (0.0, "0")]
)
def test_scores_are_written_with_three_digits_or_so(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(512, "512"), (1_000, "1 k"), (61_204, "61.2 k"), (999_999, "1 M"), (1.5e6, "1.5 M")]
)
def test_counts_are_written_short(amount: float, text: str) -> None:
    assert short(amount) == text
