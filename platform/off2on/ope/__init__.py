"""Off-policy evaluation: estimate the return of a policy from recorded data alone.

estimate(policy, shards)   all estimators: value, interval, diagnostics and warnings
fqe_score(run, data)       a quick estimate, for a search without a simulator
rank(estimates, scores)    measures of how well estimates rank policies
"""

from off2on.ope.estimation import METHODS, OPEReport, PolicyEstimate, estimate
from off2on.ope.quick import fqe_score
from off2on.ope.ranking import Ranking, rank

__all__ = ["METHODS", "OPEReport", "PolicyEstimate", "Ranking", "estimate", "fqe_score", "rank"]
