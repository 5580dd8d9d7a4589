"""How well estimates choose among policies: rank correlation with true scores, and the regret of the choice.

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

KS = (1, 3, 5)
FEWEST = 3
"""Policies of which a correlation says anything."""


@dataclass(frozen=True)
class Ranking:
    """How well the estimates of some policies rank them.

    Attributes:
        policies: Their number.
        correlation: From -1 to 1; not a number if all estimates or all scores are the same.
        regret: At each k below the number of policies.
    """

    policies: int
    correlation: float
    regret: dict[int, float]


def rank(estimates: npt.ArrayLike, scores: npt.ArrayLike, ks: Sequence[int] = KS) -> Ranking:
    """Compare estimates with true scores.

    Args:
        estimates: Of each policy [n].
        scores: What it really earns [n].
        ks: How many of the highest estimates may be tried.

    Raises:
        UserError: There are fewer than three policies.
    """
    said, true = np.asarray(estimates, np.float64), np.asarray(scores, np.float64)
    if len(said) < FEWEST:
        raise UserError(f"{len(said)} policies cannot be ranked.", f"At least {FEWEST}.")
    varies = np.ptp(said) > 0 and np.ptp(true) > 0
    correlation = float(spearmanr(said, true).statistic) if varies else float("nan")
    best = np.argsort(-said, kind="stable")
    spread = float(np.ptp(true)) or 1.0
    regret = {k: float(true.max() - true[best[:k]].max()) / spread for k in ks if k < len(said)}
    return Ranking(len(said), correlation, regret)
