"""Choosing among policies by UCB1: numbers by hand, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from off2on.reports.search.bandit import REPEATS, Selection, select


def always(*values: float) -> list[np.ndarray]:
    """Policies whose every episode returns the same."""
    return [np.array([value]) for value in values]


def test_two_policies_by_hand() -> None:
    # The worse policy's bound sqrt(2 ln t) is below the better one's 1 + sqrt(2 ln t / n) until t = 7:
    # 1.973 against 1 + sqrt(2 ln 7 / 5) = 1.882. Then sqrt(2 ln t / 2) is until t = 16: 1.665 against
    # 1 + sqrt(2 ln 16 / 13) = 1.653.
    found = select(always(0, 1), pulls=16)
    np.testing.assert_allclose(found.earned[1:7], [1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6, 5 / 7])
    np.testing.assert_allclose(found.earned[14:], [13 / 15, 13 / 16])
    assert 0.4 < found.chosen[0] < 0.6, "after one episode the policy that was played looks best"
    assert found.low[0] < found.chosen[0] < found.high[0]
    # A share of 1,000 repeats: its standard error is 0.0158, and 95 % of a normal are 3.92 of them wide.
    assert found.high[0] - found.low[0] == pytest.approx(3.92 * 0.0158, rel=0.1)
    np.testing.assert_array_equal(found.chosen[1:], 1)
    np.testing.assert_array_equal(found.low[1:], 1)
    assert (found.arms, found.best) == (2, 1)


def test_negative_returns_never_lose_against_policies_not_yet_played() -> None:
    found = select(always(-900, -800, -1000), pulls=3)
    assert found.chosen[0] == pytest.approx(-900, abs=10), "whatever was drawn first"
    assert found.chosen[1] == pytest.approx((-900 - 800 - 800) / 3, abs=10), "the better of two drawn"
    assert found.chosen[2] == -800


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=8, unique=True), st.integers(0, 5))
def test_without_variance_the_best_is_chosen_once_each_was_played(values: list[int], more: int) -> None:
    found = select(always(*values), pulls=len(values) + more, repeats=20)
    np.testing.assert_allclose(found.chosen[len(values) - 1 :], max(values))
    assert found.best == pytest.approx(max(values))
    assert (np.diff(found.chosen) >= -1e-6 * np.ptp(values)).all(), "nobody's choice gets worse"


@given(
    st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=5), min_size=1, max_size=12),
    st.integers(1, 10),
)
def test_what_is_chosen_is_some_policy_and_never_better_than_the_best(
    returns: list[list[float]], arms: int
) -> None:
    found = select([np.array(each) for each in returns], arms=arms, pulls=30, repeats=20)
    means = [np.mean(each) for each in returns]
    slack = 1e-9 * (1 + max(map(abs, means)))
    assert found.arms == min(arms, len(returns))
    for line in (found.chosen, found.earned, found.low, found.high):
        assert (line >= min(means) - slack).all()
        assert (line <= max(means) + slack).all()
    assert (found.chosen <= found.best + slack).all()


def noisy(seed: int = 0) -> list[np.ndarray]:
    """Ten policies whose episodes differ more than they do."""
    rng = np.random.default_rng(seed)
    return [10 * number + rng.normal(0, 60, 50) for number in range(10)]


def test_more_episodes_choose_better_and_a_repeat_is_the_same() -> None:
    found, again = select(noisy()), select(noisy())
    np.testing.assert_array_equal(found.chosen, again.chosen)
    regret = found.best - found.chosen
    assert regret[0] > 2 * regret[49] > 2 * regret[-1] > 0
    assert found.earned[-1] < found.chosen[-1], "trying out costs"
    assert len(found.low) == 200


def test_the_interval_is_that_of_the_mean_over_the_repetitions() -> None:
    # After one episode a policy drawn at random is chosen: means are 10 × (0 … 9), roughly.
    found = select(noisy())
    spread = np.std([each.mean() for each in noisy()]) / np.sqrt(REPEATS)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.96 * spread, rel=0.05)
    np.testing.assert_allclose((found.high + found.low) / 2, found.chosen)


def test_the_unit_of_the_reward_does_not_matter() -> None:
    def shifted(found: Selection) -> np.ndarray:
        return 1000 * found.chosen - 7

    scaled = select([1000 * each - 7 for each in noisy()])
    np.testing.assert_allclose(scaled.chosen, shifted(select(noisy())), rtol=1e-9)


def test_a_policy_without_episodes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one return"):
        select([np.array([1.0]), np.array([])])
    with pytest.raises(ValueError, match="at least one return"):
        select([])


def test_policies_may_have_different_numbers_of_episodes() -> None:
    np.testing.assert_array_equal(select([np.array([5.0]), np.ones(9)], pulls=9).chosen[1:], 5)
