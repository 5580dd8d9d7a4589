"""Off-policy evaluation: what a policy would earn, from recorded data alone, and when not to believe it."""

from off2on.ope.quick import fqe_score

__all__ = ["fqe_score"]
