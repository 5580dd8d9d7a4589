"""Importance sampling: recorded returns, each weighed by how much likelier the policy makes its actions.

Paper: Precup, Sutton & Singh, "Eligibility Traces for Off-Policy Policy Evaluation", ICML 2000; the weighted
one of single steps as in Thomas, "Safe Reinforcement Learning", 2015, section 3. With the ratio of an action
rho_t = pi(a_t|s_t) / b(a_t|s_t), its product w_t = rho_0 … rho_t, and n episodes:

    IS     J = 1/n sum_i w_T^i sum_t gamma^t r_t^i            unbiased
    PDIS   J = 1/n sum_i sum_t gamma^t w_t^i r_t^i            unbiased, varies less
    WIS    J = sum_i w_T^i sum_t gamma^t r_t^i / sum_i w_T^i  biased, consistent; never beyond the returns
    WPDIS  J = sum_t gamma^t sum_i w_t^i r_t^i / sum_i w_t^i  the same, of single steps

After its end an episode keeps its weight and earns nothing. `clip` bounds every w_t from above, which lowers
the variance and, where rewards are positive, the estimate. J is the discounted return as far as it is
recorded.

Shapes: ``E`` episodes, ``T`` steps of the longest, ``R`` resamples; everything float64.
"""

from typing import Literal

import numpy as np

from off2on.ope.recorded import Array, Recorded

Kind = Literal["is", "pdis", "wis", "wpdis"]
KINDS: tuple[Kind, ...] = ("is", "pdis", "wis", "wpdis")
LARGEST = 600.0
"""Of the logarithm of a weight: more cannot be summed."""


def weights(log_ratio: Array, data: Recorded, clip: float | None = None) -> Array:
    """The products w_t of every episode [E, T]; after an episode's end its last one.

    Args:
        log_ratio: log rho of every recorded action [N].
        data: What was recorded.
        clip: The largest w_t; None: no bound.
    """
    most = LARGEST if clip is None else np.log(clip)
    with np.errstate(invalid="ignore"):  # minus infinity stays so, whatever follows
        log_weight = np.cumsum(data.padded(log_ratio), axis=1)
    return np.asarray(np.exp(np.minimum(log_weight, most)))


def rewards(data: Recorded, discount: float) -> Array:
    """gamma^t r_t [E, T], nothing after an episode's end."""
    return data.padded(discount ** data.step.astype(np.float64) * data.reward)


def estimate(kind: Kind, weight: Array, reward: Array, counts: Array | None = None) -> Array:
    """One estimate for each way in which the episodes are counted.

    Args:
        kind: Which estimator.
        weight: w_t [E, T].
        reward: gamma^t r_t [E, T].
        counts: How often each episode counts [R, E]; None: once.

    Returns:
        [R], or [1]; not a number where no counted episode has a weight.
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


def resampled(episodes: int, resamples: int, seed: int) -> Array:
    """How often each of the episodes was drawn, with replacement, in each resample [R, E]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples).astype(np.float64)


def percentiles(values: Array) -> tuple[float, float]:
    """The ends of a 95 % bootstrap interval from the estimates of the resamples [R]."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def effective(weight: Array) -> float:
    """The effective sample size of weights [E]: (sum w)^2 / sum w^2, from 1 to E; 0 if all are 0."""
    largest = weight.max()
    return float((weight / largest).sum() ** 2 / np.square(weight / largest).sum()) if largest > 0 else 0.0
