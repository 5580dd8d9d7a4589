"""The cost of choosing a policy: the score of the chosen one against the episodes spent on the choice.

The protocol of Jackson et al., "A Clean Slate for Offline Reinforcement Learning", NeurIPS 2025,
arXiv:2504.11453: of the policies that a search trained some are drawn, UCB1 (Auer et al. 2002) plays one
episode of one of them after the other, and after each the true mean of the policy that looks best is noted.

    a_t = argmax_a  r̄_a + sqrt(α ln t / n_a)        r̄_a: mean of its n_a returns so far

UCB1 is made for returns in [0, 1]; they are brought there by the least and the largest of all, so that the
curve does not depend on the unit of the reward. The authors' code takes returns as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import sem

from off2on.runs.statistics import FloatArray

ARMS, PULLS, REPEATS, ALPHA = 8, 200, 1000, 2.0


@dataclass(frozen=True)
class Selection:
    """The result of the choice after each episode; means over the repetitions, in units of the return.

    Attributes:
        arms: Policies that were chosen among at a time.
        chosen: True mean of the policy that looks best: what is deployed after so many episodes [pulls].
        low, high: 95 % interval of its mean over the repetitions [pulls].
        earned: Mean true return of the episodes played so far: what choosing while deployed earns [pulls].
        best: True mean of the best policy drawn: what a choice without any doubt earns.
    """

    arms: int
    chosen: FloatArray
    low: FloatArray
    high: FloatArray
    earned: FloatArray
    best: float


def select(
    returns: Sequence[FloatArray],
    *,
    arms: int = ARMS,
    pulls: int = PULLS,
    repeats: int = REPEATS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Selection:
    """Simulate the choice among policies, with repetitions.

    Args:
        returns: Of each policy the returns of its episodes [episodes]. An episode played is one of these,
            drawn with replacement; their mean counts as the true one.
        arms: Policies drawn for each repeat, without replacement; all of them if there are fewer.
        pulls: Episodes played in each repeat.
        repeats: How often, each time with other policies and other episodes.
        alpha: Weight of the bonus for policies that were hardly played.
        seed: Of all that is drawn.

    Raises:
        ValueError: A policy without returns, or no policy.
    """
    lengths = np.array([len(each) for each in returns])
    if not len(lengths) or not lengths.all():
        raise ValueError("every policy needs at least one return")
    every = np.concatenate(returns)
    least, span = every.min(), float(np.ptp(every)) or 1.0
    table = np.zeros((len(returns), lengths.max()))
    for row, each in zip(table, returns, strict=True):
        row[: len(each)] = each
    means = np.array([each.mean() for each in returns])
    rng, rows = np.random.default_rng(seed), np.arange(repeats)
    arms = min(arms, len(returns))
    drawn = rng.permuted(np.tile(np.arange(len(returns)), (repeats, 1)), axis=1)[:, :arms]
    counts, sums = np.zeros((repeats, arms)), np.zeros((repeats, arms))
    chosen, played = np.empty((repeats, pulls)), np.empty((repeats, pulls))
    for pull in range(pulls):
        if pull < arms:  # each once; they were drawn in random order
            arm = np.full(repeats, pull)
        else:
            arm = (sums / counts + np.sqrt(alpha * np.log(pull + 1) / counts)).argmax(1)
        policy = drawn[rows, arm]
        episode = (rng.random(repeats) * lengths[policy]).astype(int)
        counts[rows, arm] += 1
        sums[rows, arm] += (table[policy, episode] - least) / span
        looks = np.divide(sums, counts, out=np.full_like(sums, -np.inf), where=counts > 0)
        chosen[:, pull] = means[drawn[rows, looks.argmax(1)]]
        played[:, pull] = means[policy]
    margin = 1.96 * sem(chosen)  # there are enough repetitions for the normal approximation
    mean = chosen.mean(0)
    low, high = np.clip([mean - margin, mean + margin], means.min(), means.max())
    earned = played.cumsum(1).mean(0) / np.arange(1, pulls + 1)
    best = float(means[drawn].max(1).mean())
    return Selection(arms, mean, low, high, earned, best)
