"""Measures of how well estimates rank policies: rank correlation with true scores, and regret.

Paper: Fu et al., "Benchmarks for Deep Off-Policy Evaluation", ICLR 2021, arXiv:2103.16596, section 3. With
true scores V_i and the k policies of the highest estimates:

    rank correlation   Spearman's, of the estimates and V
    regret@k           max_i V_i - max_{j in top k} V_j, here over max_i V_i - min_i V_i: 0 best, 1 worst
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from off2on.errors import UserError

TOP_K = (1, 3, 5)
MIN_POLICIES = 3
"""Smallest number of policies for which a rank correlation is meaningful."""


@dataclass(frozen=True)
class Ranking:
    """Agreement between estimates and true scores of some policies.

    Attributes:
        policies: Number of policies.
        correlation: Spearman's, from -1 to 1; NaN if all estimates or all scores are equal.
        regret: Normalised regret at each k below the number of policies.
    """

    policies: int
    correlation: float
    regret: dict[int, float]


def rank(estimates: npt.ArrayLike, scores: npt.ArrayLike, ks: Sequence[int] = TOP_K) -> Ranking:
    """Compare estimates with true scores.

    Args:
        estimates: Estimate for each policy [n].
        scores: True score of each policy [n].
        ks: Numbers of policies with the highest estimates that are tried.

    Raises:
        UserError: There are fewer than three policies.
    """
    estimated, true = np.asarray(estimates, np.float64), np.asarray(scores, np.float64)
    if len(estimated) < MIN_POLICIES:
        raise UserError(
            f"{len(estimated)} policies are too few for a ranking.", f"Expected at least {MIN_POLICIES}."
        )
    varies = np.ptp(estimated) > 0 and np.ptp(true) > 0
    correlation = float(spearmanr(estimated, true).statistic) if varies else float("nan")
    best = np.argsort(-estimated, kind="stable")
    spread = float(np.ptp(true)) or 1.0
    regret = {k: float(true.max() - true[best[:k]].max()) / spread for k in ks if k < len(estimated)}
    return Ranking(len(estimated), correlation, regret)
