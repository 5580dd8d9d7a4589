"""Complete the error of a diverged run: the checkpoint that is left, and what to try."""

import shlex
from pathlib import Path

from datasets_io.errors import Corrupt
from off2on.errors import Diverged
from off2on.runs.folder import Run
from off2on.training.command_line import ONLINE
from off2on.training.plan import Plan, ResolvedPlan

SMALLER = 10
"""Factor by which the suggested learning rate is smaller."""


def explain(error: Diverged, plan: Plan, resolved: ResolvedPlan, run: Run) -> None:
    """Add the run, its last checkpoint, settings to try and a command that checks the data.

    Args:
        error: The error, which is changed.
        plan: The plan of the run.
        resolved: The checked plan.
        run: The run.
    """
    is_online, settings = error.update > plan.updates, resolved.settings
    values = (settings.online_hp if is_online else settings.hp).as_dict()
    prefix, rate = (ONLINE if is_online else ""), f"{error.objective}_lr"
    tries = []
    if isinstance(lr := values.get(rate), int | float):
        tries.append(f"a smaller learning rate ({prefix}{rate}={lr / SMALLER:.3g}, not {lr:g})")
    if "reward" in settings.recipe.columns:
        tries.append(f"rewards of a smaller scale (reward is {values['reward']})")
    left = _last_checkpoint(run)
    error.expected = "\n".join([
        "Expected finite numbers; the run has ended, because later updates cannot repair them.",
        "It has no checkpoint yet." if left is None else f"Its last checkpoint, from before: {left}",
        f"Try {' or '.join([*tries, 'other data'])}: extreme values in these are listed by",
    ])  # fmt: skip
    error.where = str(plan.place)
    error.try_ = f"off2on data check {shlex.quote(plan.data)}"


def _last_checkpoint(run: Run) -> Path | None:
    """Return the folder of the newest checkpoint, without links; None if there is none that is whole."""
    try:
        return run.last_checkpoint
    except Corrupt:
        return None
