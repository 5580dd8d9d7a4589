"""Off-policy evaluation: what a policy would earn, from recorded data alone, and when not to believe it.

estimate(policy, shards)   every estimator: value, interval, diagnostics, doubts in words
fqe_score(run, data)       a cheap estimate, for a search without a simulator
rank(estimates, scores)    how well estimates choose among policies
"""

from off2on.ope.estimating import METHODS, Judgement, Report, estimate
from off2on.ope.quick import fqe_score
from off2on.ope.ranking import Ranking, rank

__all__ = ["METHODS", "Judgement", "Ranking", "Report", "estimate", "fqe_score", "rank"]
