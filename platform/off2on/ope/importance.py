"""Importance sampling: recorded returns, weighted by the probability ratio of the policy and the behaviour.

Paper: Precup, Sutton & Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000; the weighted
estimator of single steps as in Thomas, "Safe Reinforcement Learning", 2015, section 3. With the ratio of an
action rho_t = pi(a_t|s_t) / b(a_t|s_t), its product w_t = rho_0 … rho_t, and n episodes:

    IS     J = 1/n sum_i w_T^i sum_t gamma^t r_t^i            unbiased
    PDIS   J = 1/n sum_i sum_t gamma^t w_t^i r_t^i            unbiased, lower variance
    WIS    J = sum_i w_T^i sum_t gamma^t r_t^i / sum_i w_T^i  biased, consistent; within the range of returns
    WPDIS  J = sum_t gamma^t sum_i w_t^i r_t^i / sum_i w_t^i  the same, of single steps

After its end an episode keeps its weight and has no reward. `clip` bounds every w_t from above, which lowers
the variance and, where rewards are positive, the estimate. J is the discounted return over recorded steps.

Intervals are percentiles of a bootstrap over episodes. A resample is a row of counts, so that an estimate of
all resamples is one matrix product; `scipy.stats.bootstrap` would copy the [E, T] weights for each resample.

Shapes: ``E`` episodes, ``T`` steps of the longest, ``R`` resamples; everything float64.
"""

from typing import Literal

import numpy as np

from off2on.ope.recorded_data import Array, RecordedData

Kind = Literal["is", "pdis", "wis", "wpdis"]
KINDS: tuple[Kind, ...] = ("is", "pdis", "wis", "wpdis")
MAX_LOG_WEIGHT = 600.0
"""Largest logarithm of a weight; the sum of larger weights overflows."""


def weights(log_ratio: Array, data: RecordedData, clip: float | None = None) -> Array:
    """Compute the products w_t of every episode [E, T]; the last one repeats after the end of an episode.

    Args:
        log_ratio: log rho of every recorded action [N].
        data: Recorded data.
        clip: Largest w_t; None: no bound.
    """
    max_log = MAX_LOG_WEIGHT if clip is None else np.log(clip)
    with np.errstate(invalid="ignore"):  # a sum with minus infinity stays minus infinity
        log_weight = np.cumsum(data.padded(log_ratio), axis=1)
    return np.asarray(np.exp(np.minimum(log_weight, max_log)))


def rewards(data: RecordedData, discount: float) -> Array:
    """Compute gamma^t r_t [E, T], 0 after the end of an episode."""
    return data.padded(discount ** data.step.astype(np.float64) * data.reward)


def estimate(kind: Kind, weight: Array, reward: Array, counts: Array | None = None) -> Array:
    """Compute one estimate for each resample of the episodes.

    Args:
        kind: Kind of estimator.
        weight: w_t [E, T].
        reward: gamma^t r_t [E, T].
        counts: Number of times that each episode is in each resample [R, E]; None: each episode once.

    Returns:
        Estimates [R], or [1]; NaN where the weights of a resample add up to 0.
    """
    counts = np.ones((1, len(weight))) if counts is None else counts
    total = counts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        match kind:
            case "is":
                return np.asarray(counts @ (weight[:, -1] * reward.sum(1)) / total)
            case "pdis":
                return np.asarray(counts @ (weight * reward).sum(1) / total)
            case "wis":
                return np.asarray(counts @ (weight[:, -1] * reward.sum(1)) / (counts @ weight[:, -1]))
            case "wpdis":
                return np.asarray(((counts @ (weight * reward)) / (counts @ weight)).sum(1))


def resample_counts(episodes: int, resamples: int, seed: int) -> Array:
    """Draw episodes with replacement; return how often each episode is in each resample [R, E]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples).astype(np.float64)


def percentile_interval(values: Array) -> tuple[float, float]:
    """Return the ends of the 95 % bootstrap interval from the estimates of the resamples [R]."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)


def effective_sample_size(weight: Array) -> float:
    """Compute the effective sample size of weights [E]: (sum w)^2 / sum w^2, from 1 to E; 0 if all are 0."""
    largest = weight.max()
    return float((weight / largest).sum() ** 2 / np.square(weight / largest).sum()) if largest > 0 else 0.0
