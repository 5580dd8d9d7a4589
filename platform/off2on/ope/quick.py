"""A cheap estimate with one call, for a search that has no simulator to score its policies in."""

from pathlib import Path

from datasets_io import Shards, open_shards
from off2on.ope import fqe
from off2on.ope.candidates import Candidate, candidate_of
from off2on.ope.recorded import Recorded

CHEAP = fqe.Budget(updates=4_000, members=3, hidden=(64, 64), lr=1e-3, sync=10)
"""Some ten seconds of one core: a larger step and a target that follows sooner than those of the papers."""


def fqe_score(
    policy: Candidate | Path | str,
    shards: Shards | str,
    *,
    checkpoint: str = "last",
    discount: float = 0.99,
    budget: fqe.Budget = CHEAP,
    seed: int = 0,
) -> tuple[float, float, float]:
    """What a policy earns, from the data alone, by FQE.

    Args:
        policy: A run's folder, whose deterministic policy is meant, or anything that acts.
        shards: The data, or their name.
        checkpoint: Of a run: `handover` or `last`.
        discount: Gamma, the same for all that are compared, whatever they were trained with.
        budget: Of the fit.
        seed: Of all draws.

    Returns:
        The expected discounted return from the start of an episode, without an end by a time limit, in the
        world's units; and its 95 % interval.
    """
    data = Recorded.of(open_shards(shards) if isinstance(shards, str) else shards)
    judged = candidate_of(Path(policy), checkpoint) if isinstance(policy, str | Path) else policy
    fitted = fqe.fit(data, judged, discount, budget, seed)
    return fqe.interval(fitted.members)
