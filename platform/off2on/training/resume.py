"""What a run that goes on, or sets out from another, must have in common with what was done before."""

import os
from pathlib import Path
from typing import Any

from datasets_io import Shards
from off2on.errors import UserError
from off2on.recipe.hyperparameters import Hyperparameters, Settings
from off2on.runs.record import read_metadata

CONTINUED = (
    "online",
    "strategy",
    "new_data",
    "env",
    "workers",
    "envs",
    "eval_every",
    "eval_episodes",
    "memory",
)
"""The options besides the hyperparameters that a resumed run must share with the one it continues."""


def check_resumable(plan: Any, run: Path, shards: Shards, hp: Hyperparameters, *online: Settings) -> None:
    """That the plan goes on from what the run did, and not from something else.

    Args:
        plan: The plan.
        run: The folder.
        shards: The data.
        hp: The hyperparameters.
        online: Where a run is resumed, what must be the same on its online side too.
    """
    about = read_metadata(run)
    then: dict[str, object] = {"data": about["data"]["content_hash"]}
    then |= {name: known["value"] for name, known in about["hyperparameters"].items()}
    now: dict[str, object] = {"data": shards.manifest.content_hash} | plain(hp)
    for name in ("algorithm", "updates", "learners", *(CONTINUED if online else ())):
        then[name], now[name] = about["plan"][name]["value"], str(getattr(plan, name))
    if online:
        then |= {name: known["value"] for name, known in about["online_side"].items()}
        now |= {f"online.{name}": value for each in online for name, value in plain(each).items()}
    for name in now:
        if name in then and now[name] != then[name]:
            raise UserError(
                f"{run} was run with {name} {then[name]}, not {now[name]}.",
                "Its checkpoints fit no other; say the same, or start anew with another --out.",
                f"off2on train {plan.algorithm} {about['data']['pinned']}" if name == "data" else "",
            )


def plain(settings: Settings) -> dict[str, object]:
    """Names to values as YAML keeps them."""
    values = settings.as_dict().items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def untrusted_reason(checkpoint: Path, *ours: Path) -> str | None:
    """What speaks for a checkpoint being somebody else's, if anything does: reading one runs what is in it.

    Args:
        checkpoint: RLlib's, which is pickled.
        ours: Folders of runs besides ./runs.
    """
    here = checkpoint.resolve()
    if any(path.lstat().st_uid != os.geteuid() for path in (here, *here.rglob("*"))):
        return "another user wrote it"
    roots = [root.resolve() for root in (Path("runs"), *ours)]
    if not any(here.is_relative_to(root) for root in roots):
        return f"it lies outside {' and '.join(dict.fromkeys(map(str, roots)))}"
    return None
