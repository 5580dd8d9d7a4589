"""A quick estimate with one call, for a search that has no simulator to score policies in."""

from pathlib import Path

from datasets_io import Shards, open_shards
from off2on.ope import fqe
from off2on.ope.evaluated_policy import EvaluatedPolicy, load_evaluated_policy
from off2on.ope.recorded_data import RecordedData

QUICK_FQE = fqe.FQESettings(updates=4_000, members=3, hidden=(64, 64), lr=1e-3, sync=10)
"""About ten seconds on one core: a larger learning rate and more frequent target updates than the papers'."""


def fqe_score(
    policy: EvaluatedPolicy | Path | str,
    shards: Shards | str,
    *,
    checkpoint: str = "last",
    discount: float = 0.99,
    settings: fqe.FQESettings = QUICK_FQE,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Estimate the return of a policy by FQE, from the data alone.

    Args:
        policy: Folder of a run, for its deterministic policy, or an `EvaluatedPolicy`.
        shards: The data set, or its name.
        checkpoint: Checkpoint of a run: `handover` or `last`.
        discount: Gamma, the same for all policies that are compared, whatever they were trained with.
        settings: Settings of the fit.
        seed: Seed of all random draws.

    Returns:
        The expected discounted return from the start of an episode, in raw units of the reward, without an
        end by a time limit; then the ends of its 95 % interval.
    """
    data = RecordedData.from_shards(open_shards(shards) if isinstance(shards, str) else shards)
    evaluated = load_evaluated_policy(Path(policy), checkpoint) if isinstance(policy, str | Path) else policy
    fitted = fqe.fit(data, evaluated, discount, settings, seed)
    return fqe.interval(fitted.members)
