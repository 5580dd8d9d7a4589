"""A run through everything that a run does."""

from pathlib import Path

from off2on.training.plan import Plan
from off2on.training.train import evaluations, train


def interrupted_and_resumed(out: str | Path) -> Path:
    """Train offline and online here, with an interruption in the online phase; return the folder."""
    plan = Plan(
        "iql", "toy-pendulum", {"hidden": "16,16", "batch_size": "16"}, updates=20, online=40, eval_every=20,
        eval_episodes=1, online_overrides={"warm_up": 10}, threads=1, out=str(out),
    )  # fmt: skip
    begun = evaluations(plan)
    next(run for run in begun if run.metrics and run.metrics[-1]["side"] == "online")
    begun.close()  # type: ignore[attr-defined]
    train(plan, resume=True)
    return plan.folder
