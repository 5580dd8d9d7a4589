"""Check that a run has the same settings as the run that it continues or starts from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

from datasets_io import Shards
from datasets_io.errors import Corrupt
from off2on.errors import LearnerDied, UserError
from off2on.recipe.hyperparameters import RENAMED, Settings
from off2on.rllib.resolved import ResolvedSettings
from off2on.runs.metadata import read_metadata
from off2on.runs.tables import read_metrics
from off2on.training.options import KEPT_OFFLINE, KEPT_ONLINE, RunOptions, kept_options


def check_resumable(
    options: RunOptions,
    run: Path,
    shards: Shards,
    settings: ResolvedSettings,
    guard: Settings | None = None,
    online: bool = False,
) -> None:
    """Check that the options agree with those of the run that the checkpoint comes from.

    Args:
        options: The options.
        run: Folder of the run.
        shards: The data.
        settings: The settings that follow from the options.
        guard: Settings of the guard.
        online: The run itself is continued: check the online phase as well, and allow more updates; a run
            that only starts from a handover may differ there, and has its updates.

    Raises:
        UserError: Something differs.
    """
    metadata = read_metadata(run)
    extended = online and metadata.updates < options.updates
    if extended:
        _check_extendable(options, run, settings)
    recorded: dict[str, object] = {"data": metadata.training_data_hash()}
    recorded |= {RENAMED.get(name, name): known.value for name, known in metadata.hyperparameters.items()}
    current: dict[str, object] = {"data": shards.manifest.content_hash} | plain(settings.hp)
    for name in ("algorithm", *kept_options(KEPT_ONLINE if online else KEPT_OFFLINE)):
        current[name] = str(getattr(options, name))
        is_older = name == "precision" and name not in metadata.plan  # version 0.1.0 had one precision only
        recorded[name] = RunOptions.precision if is_older else metadata.option(name).value
    if online:
        recorded |= {_current(name): known.value for name, known in (metadata.online_side or {}).items()}
        for prefix, each in (
            ("strategy", settings.strategy_options),
            ("online", settings.online),
            ("online", settings.online_hp),
            ("guard", guard),
        ):
            current |= {f"{prefix}.{name}": value for name, value in plain(each).items()} if each else {}
    longer = f"For another online phase from its handover, replace --resume by --from {run} --out OTHER."
    for name in current:
        if name == "updates" and extended:
            continue
        if name in recorded and current[name] != recorded[name]:
            raise UserError(
                f"{run} was run with {name} {recorded[name]}, not {current[name]}.",
                longer
                if name == "online"
                else "Its checkpoints need the same value; use that, or start a new run with another --out.",
                f"off2on train {options.algorithm} {metadata.data.pinned}" if name == "data" else "",
            )


def _check_extendable(options: RunOptions, run: Path, settings: ResolvedSettings) -> None:
    """Check that a run of fewer updates can continue to those of the options.

    Raises:
        UserError: Its online phase has begun, or its updates depend on how many are planned.
    """
    more = f"{run} cannot continue to {options.updates:,} updates: "
    if any(row["side"] != "offline" for row in read_metrics(run)):
        raise UserError(
            f"{more}its online phase has begun.",
            f"Only an offline phase is extended; with --updates {read_metadata(run).updates} it continues.",
        )
    recipe, hp = settings.recipe, settings.hp
    scheduled = [f"{name}={getattr(hp, name)}" for name in recipe.schedules if getattr(hp, name)]
    scheduled += [
        f"the learning rate of its {objective.name}"
        for objective in recipe.objectives_in_order()
        if recipe.lr(objective.name, hp, 0.25) != recipe.lr(objective.name, hp, 0.75)
    ]
    if scheduled:
        raise UserError(
            f"{more}{scheduled[0]} depends on how many are planned.",
            "A new run needs another --out or --seed.",
        )


def _current(name: str) -> str:
    prefix, _, rest = name.partition(".")
    return f"{prefix}.{RENAMED.get(rest, rest)}"


def plain(settings: Settings) -> dict[str, Any]:
    """Return names and values as YAML stores them: lists instead of tuples."""
    values = settings.as_dict().items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def restore(read: Callable[[str], object], checkpoint: Path) -> None:
    """Restore from a checkpoint that `check_checkpoint` returned.

    Args:
        read: Function that reads the folder, such as an algorithm's ``restore_from_path``.
        checkpoint: The folder.

    Raises:
        Corrupt: The content of a part is damaged.
    """
    try:
        read(str(checkpoint))
    except (UserError, LearnerDied, RayActorError, MemoryError):
        raise
    except Exception as error:
        why = str(error).strip().splitlines() or [""]
        raise Corrupt(
            f"the checkpoint {checkpoint} cannot be restored: {type(error).__name__}: {why[-1]}",
            "A part of it was changed after it was written.",
        ) from error


def untrusted_reason(checkpoint: Path, *trusted_roots: Path) -> str | None:
    """Return the reason not to trust a checkpoint; None if there is none.

    RLlib's checkpoints are pickled: reading one runs the code in it.

    Args:
        checkpoint: Folder of the checkpoint.
        trusted_roots: Folders of runs besides ./runs.
    """
    folder = checkpoint.resolve()
    if any(path.lstat().st_uid != os.geteuid() for path in (folder, *folder.rglob("*"))):
        return "another user wrote it"
    roots = [root.resolve() for root in (Path("runs"), *trusted_roots)]
    if not any(folder.is_relative_to(root) for root in roots):
        return f"it lies outside {' and '.join(dict.fromkeys(map(str, roots)))}"
    return None
