"""What a run must have in common with the run that it continues or starts from."""

import os
from pathlib import Path
from typing import Any

from datasets_io import Shards
from off2on.errors import UserError
from off2on.recipe.hyperparameters import RENAMED, Settings
from off2on.rllib.resolved import ResolvedSettings
from off2on.runs.record import read_metadata
from off2on.training.options import KEPT_OFFLINE, KEPT_ONLINE, RunOptions, kept_options


def check_resumable(
    options: RunOptions,
    run: Path,
    shards: Shards,
    settings: ResolvedSettings,
    guard: Settings | None = None,
    online: bool = False,
) -> None:
    """Check that the options are those of a run whose checkpoint is to be used.

    Args:
        options: The options.
        run: Folder of the run.
        shards: The data.
        settings: The settings that follow from the options.
        guard: Settings of the guard.
        online: Check the online phase as well; a run that only starts from a handover may differ there.

    Raises:
        UserError: Something differs.
    """
    metadata = read_metadata(run)
    then: dict[str, object] = {"data": metadata["data"]["content_hash"]}
    then |= {RENAMED.get(name, name): known["value"] for name, known in metadata["hyperparameters"].items()}
    now: dict[str, object] = {"data": shards.manifest.content_hash} | plain(settings.hp)
    for name in ("algorithm", *kept_options(KEPT_ONLINE if online else KEPT_OFFLINE)):
        then[name], now[name] = metadata["plan"][name]["value"], str(getattr(options, name))
    if online:
        then |= {_current(name): known["value"] for name, known in metadata["online_side"].items()}
        for prefix, each in (("online", settings.online), ("online", settings.online_hp), ("guard", guard)):
            now |= {f"{prefix}.{name}": value for name, value in plain(each).items()} if each else {}
    for name in now:
        if name in then and now[name] != then[name]:
            raise UserError(
                f"{run} was run with {name} {then[name]}, not {now[name]}.",
                "Its checkpoints need the same value; use that, or start a new run with another --out.",
                f"off2on train {options.algorithm} {metadata['data']['pinned']}" if name == "data" else "",
            )


def _current(name: str) -> str:
    prefix, _, rest = name.partition(".")
    return f"{prefix}.{RENAMED.get(rest, rest)}"


def plain(settings: Settings) -> dict[str, Any]:
    """Return names and values as YAML keeps them: lists instead of tuples."""
    values = settings.as_dict().items()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def untrusted_reason(checkpoint: Path, *ours: Path) -> str | None:
    """Return why a checkpoint should not be trusted, None if nothing speaks against it.

    RLlib's checkpoints are pickled: reading one runs the code in it.

    Args:
        checkpoint: Its folder.
        ours: Folders of runs besides ./runs.
    """
    here = checkpoint.resolve()
    if any(path.lstat().st_uid != os.geteuid() for path in (here, *here.rglob("*"))):
        return "another user wrote it"
    roots = [root.resolve() for root in (Path("runs"), *ours)]
    if not any(here.is_relative_to(root) for root in roots):
        return f"it lies outside {' and '.join(dict.fromkeys(map(str, roots)))}"
    return None
