"""Checks of an estimate and of the data that it rests on; each failed check yields a warning.

The effective sample size is Kong's, "A Note on Importance Sampling", 1992: the number of episodes of the
evaluated policy itself that would give the same variance. The share of states at which the policy acts as
the data do nearby is a measure of this project: an action has support if a recorded step is no further away
than the nearest-neighbour distance of 95 % of the recorded steps, in standardised observations (their first
principal components) and standardised actions; another discrete action never has support. The limits below
are conventions, not theorems.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets_io.diagnosis.neighbours import Projection, tree
from off2on.ope.evaluated_policy import EvaluatedPolicy
from off2on.ope.recorded_data import Array, RecordedData
from off2on.runs.numbers import points

MIN_EPISODES = 20
"""Smallest number of episodes for an interval by resampling."""
MIN_EFFECTIVE = 10.0
"""Smallest effective sample size of the episodes."""
MAX_WEIGHT_SHARE, MAX_WEIGHT_RATIO = 0.05, 2.0
"""Share of the total weight, and ratio to the mean weight; a warning if an episode exceeds both."""
LOW_SUPPORT, NO_SUPPORT = 0.8, 0.5
"""Shares of states with support: a warning below the first, a severe one below the second."""
MAX_CUT_SHARE, MAX_UNSEEN_SHARE = 0.05, 0.3
"""Shares of all discounted steps that come after time limits: a warning above the first if the estimate
leaves them out, above the second if it counts them."""
MAX_IMBALANCE = 0.2
"""Largest `VisitationRatios.imbalance` without a warning, in standard deviations of the observations."""
QUERY_STATES, REFERENCE_STEPS = 2_000, 50_000
"""Number of states at which the policy acts, and of recorded steps that its actions are compared with."""
DISCRETE_DISTANCE = 1e3
"""Distance between two discrete actions, in standard deviations of an observation."""


@dataclass(frozen=True)
class EstimateWarning:
    """A reason to distrust an estimate.

    Attributes:
        message: The problem, and a remedy if there is one.
        severe: True if the estimate should not be used at all.
    """

    message: str
    severe: bool = False


def support_share(data: RecordedData, policy: EvaluatedPolicy, seed: int = 0) -> float:
    """Compute the share of recorded states at which the policy acts as the data do nearby, from 0 to 1."""
    rng = np.random.default_rng(seed)
    reference = rng.permutation(len(data.reward))[:REFERENCE_STEPS]
    queries = reference[:QUERY_STATES]
    project = Projection.of(data.obs[reference])
    spread = 1.0 if data.n_actions else np.maximum(data.action[reference].std(0), 1e-6)

    def coordinates(rows: Array, action: Array) -> Array:
        states = np.zeros((len(rows), 0)) if project is None else project(data.obs[rows])
        actions = DISCRETE_DISTANCE * np.eye(data.n_actions)[action] if data.n_actions else action / spread
        return np.concatenate((states, actions), axis=1)

    recorded = coordinates(reference, data.action[reference])
    neighbours = tree(recorded)
    limit = np.quantile(neighbours.query(recorded[: len(queries)], k=2)[0][:, 1], 0.95) + 1e-9
    distance = neighbours.query(coordinates(queries, policy.act(data.obs[queries])))[0]
    return float((distance <= limit).mean())


def check_episode_count(data: RecordedData) -> Iterator[EstimateWarning]:
    """Check that there are enough episodes for an interval."""
    if data.episodes < MIN_EPISODES:
        yield EstimateWarning(f"{data.episodes} episodes are too few for an interval by resampling them")


def check_cut_episodes(data: RecordedData, discount: float, recorded_only: bool) -> Iterator[EstimateWarning]:
    """Check that little of the discounted return comes after time limits.

    Args:
        data: The data.
        discount: Gamma.
        recorded_only: True if the estimate leaves these steps out, False if it counts them.
    """
    lengths = np.bincount(data.episode)
    missing = float(np.where(data.cut_off, discount ** lengths.astype(float), 0.0).mean())
    if not recorded_only and missing > MAX_UNSEEN_SHARE:
        yield EstimateWarning(
            f"{missing:.0%} of all discounted steps come after the last recorded step of their episode: the"
            " estimate is right only if the states there are like recorded ones"
        )
    elif recorded_only and missing > MAX_CUT_SHARE:
        yield EstimateWarning(
            f"only recorded steps count: {data.cut_off.mean():.0%} of the episodes were truncated, and"
            f" {missing:.0%} of all discounted steps come after; fqe, dr and dice count them"
        )


def check_weights(weight: Array, size: float) -> Iterator[EstimateWarning]:
    """Check the importance weights of whole episodes.

    Args:
        weight: Weight of each episode [E].
        size: Effective sample size of the weights.
    """
    count = len(weight)
    if size == 0:
        yield EstimateWarning(
            "in no episode does the policy take the recorded actions at every step", severe=True
        )
        return
    if size < MIN_EFFECTIVE:
        yield EstimateWarning(
            f"only {size:.1f} effective episodes of {count}: the policy differs too much from the behaviour"
            " policy, or the episodes are too long",
            severe=True,
        )
    largest = float(weight.max())
    share = largest / float(weight.sum())
    if share > max(MAX_WEIGHT_SHARE, MAX_WEIGHT_RATIO / count):
        yield EstimateWarning(
            f"one episode has {share:.0%} of the total weight: the estimate depends on it, and the interval"
            " is too narrow"
        )
    # Squares of large weights would overflow.
    mean, error = float(weight.mean()), largest * float((weight / largest).std() / np.sqrt(count))
    deviation = abs(mean - 1)
    if deviation > max(3 * error, 0.05):
        yield EstimateWarning(
            f"the mean weight is {mean:.2g}, expected 1: the behaviour policy never takes some actions of the"
            " policy, or action_logp is not that of the behaviour policy",
            severe=deviation > 0.2,
        )


def check_support(share: float) -> Iterator[EstimateWarning]:
    """Check that the networks need not extrapolate to the policy's actions; see `support_share`."""
    if share < LOW_SUPPORT:
        yield EstimateWarning(
            f"at {1 - share:.0%} of the recorded states the policy's action is unlike all actions recorded"
            " nearby: the networks extrapolate there",
            severe=share < NO_SUPPORT,
        )


def check_convergence(history: Array, low: float, high: float, spread: float) -> Iterator[EstimateWarning]:
    """Check that an estimate no longer changed at the end of the fit.

    Args:
        history: The estimate after equal numbers of updates.
        low: Lower end of the final interval.
        high: Upper end of it.
        spread: Standard deviation of the recorded returns.
    """
    if len(history) < 5:
        return
    before = history[-1 - len(history) // 5]
    change = abs(history[-1] - before)
    if change > max((high - low) / 2, 0.1 * spread) or not np.isfinite(change):
        yield EstimateWarning(
            f"it has not converged: from {points(before)} to {points(history[-1])} in the last fifth of the"
            " updates; increase --updates",
            severe=True,
        )


def check_target_updates(targets: int, discount: float) -> Iterator[EstimateWarning]:
    """Check that there were enough target updates for rewards to reach the values of much earlier steps.

    Args:
        targets: Number of target updates; each carries rewards one step further back.
        discount: Gamma.
    """
    horizon = np.inf if discount == 1 else 1 / (1 - discount)
    if targets < horizon < np.inf:
        yield EstimateWarning(
            f"{targets} target updates are fewer than the horizon of about {horizon:.0f} steps;"
            " increase --updates",
            severe=True,
        )


def check_value(
    value: float, low: float, high: float, data: RecordedData, discount: float, recorded_only: bool = False
) -> Iterator[EstimateWarning]:
    """Check that an estimate is possible with the recorded rewards, and that its interval is informative.

    Args:
        value: The estimate.
        low: Lower end of its interval.
        high: Upper end of it.
        data: The data.
        discount: Gamma.
        recorded_only: True if the estimate adds up recorded steps only, which end at a time limit.
    """
    if discount < 1:
        # After a terminal state, and after the steps that count, every reward is 0.
        ends = recorded_only or data.terminated.any()
        rewards = np.append(data.reward, 0.0) if ends else data.reward
        lowest, highest = float(rewards.min()) / (1 - discount), float(rewards.max()) / (1 - discount)
        if not lowest <= value <= highest:
            yield EstimateWarning("no sequence of the recorded rewards adds up to it", severe=True)
    spread = float(data.returns(discount).std())
    if high - low > 4 * spread > 0:
        yield EstimateWarning(
            "its interval is wider than four standard deviations of the recorded returns: not informative"
        )


def check_visits(mass: float, imbalance: float) -> Iterator[EstimateWarning]:
    """Check that DICE's ratios are a distribution that the transitions allow; see `VisitationRatios`."""
    if not 0.8 <= mass <= 1.25:
        yield EstimateWarning(
            f"its visitation ratios add up to {mass:.2f}, expected 1; increase --updates", severe=True
        )
    if imbalance > MAX_IMBALANCE:
        yield EstimateWarning(
            f"its visitation ratios contradict the recorded transitions, by {imbalance:.2f} standard"
            " deviations of the observations; increase --updates",
            severe=True,
        )
