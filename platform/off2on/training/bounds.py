"""What the numbers of a plan must be."""

import os
from typing import Any

from off2on.errors import UserError

SMALLEST_WINDOW = 2**20
"""Bytes of data below which a window would hold too few rows to be a sample of anything."""

LEAST = {
    "updates": 0,
    "online": 0,
    "seed": 0,
    "learners": 0,
    "workers": 0,
    "envs": 1,
    "eval_episodes": 1,
    "wait": 0,
}


def check_numbers(plan: Any) -> None:
    """That each is large enough, and that this machine has the cores if no cluster is joined.

    Raises:
        UserError: One is not.
    """
    for name, bound in LEAST.items():
        if getattr(plan, name) < bound:
            raise UserError(
                f"--{name.replace('_', '-')} must be at least {bound}: got {getattr(plan, name)}."
            )
    if plan.memory < SMALLEST_WINDOW:
        raise UserError(f"--memory must be at least {SMALLEST_WINDOW:,} bytes: got {plan.memory:,}.")
    if plan.updates == 0 and plan.online == 0:
        raise UserError("there is nothing to do: --updates and --online are both 0.")
    cores = os.cpu_count() or 1
    if plan.address is None and plan.learners > cores:
        raise UserError(
            f"{plan.learners} learners need {plan.learners} cores; this machine has {cores}.",
            "",
            "--learners 1, or join a cluster: --address HEAD:6379",
        )
