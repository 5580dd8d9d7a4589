"""Adding to a data set what has come since: a new generation of shards, whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_io import storage
from datasets_io.errors import BadValues, Exists, NoSpace, Unreachable, UserError
from datasets_io.ingestion.ingest import Progress, ingest
from datasets_io.ingestion.workspace import exclusive_lock
from datasets_io.shards.generations import totals
from datasets_io.shards.manifest import MANIFEST_FILE, Manifest, content_hash
from datasets_io.shards.reading import Shards
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.source import Source
from datasets_io.storage import Place

INCOMING = "incoming"


def append(
    source: Source,
    path: Any,
    shards: Shards,
    *,
    rows_per_shard: int = 100_000,
    nan: str = "refuse",
    clip_actions: bool = False,
    progress: Progress | None = None,
) -> Shards:
    """Adds a source's episodes to a data set, as its newest generation.

    What is there stays as it is, byte for byte: a run that learns from it is not disturbed. Killed at any
    moment, the data set is as it was, and the same call once more goes on. On a disk a lock keeps two
    processes from adding at once; in a bucket nothing does.

    Args:
        source: Where the new episodes come from.
        path: Handed to `source.parts`.
        shards: The data set.
        rows_per_shard: As for `ingest`.
        nan: Likewise.
        clip_actions: Likewise.
        progress: Likewise.

    Returns:
        The data set, opened anew.

    Raises:
        Exists: The same data were added before, or another process is adding to it.
        BadValues: The new episodes were refused, or have other columns or spaces.
    """
    folder, source = shards.path, copy(source)
    if source.action_space is None:
        source.action_space = shards.action_space
    lock = exclusive_lock(folder / "lock") if isinstance(folder, Path) else nullcontext()
    with lock, _swept(folder / INCOMING):
        old = Shards(folder).manifest  # as it is now, whatever `shards` was opened as
        number = len(old.generations)
        _refuse_repeated(source.fingerprint(path), path, old)
        new = ingest(
            source,
            path,
            folder / INCOMING,
            name=f"{number:04d}",
            rows_per_shard=rows_per_shard,
            discount=old.discount,
            nan=nan,
            clip_actions=clip_actions,
            store_new_obs=any(name == "new_obs" for name, _, _ in old.columns),
            overwrite=True,
            id_prefix=f"g{number}-",
            progress=progress,
        )
        _refuse_different(old, new.manifest)
        added = {
            kind: [_copy(new.path / kind, folder / kind, file, number) for file in files]
            for kind, files in (("shards", new.manifest.files), (SCENES, new.manifest.scene_files))
        }
        storage.write_text(folder / MANIFEST_FILE, _joined(old, new.manifest, added).to_json())
    return Shards(folder)


@contextmanager
def _swept(folder: Place) -> Iterator[None]:
    """Removes the folder when all is done or refused; a killed process leaves its finished parts in it."""
    try:
        yield
    except (NoSpace, Unreachable):
        raise
    except UserError:
        storage.delete(folder)
        raise
    storage.delete(folder)


def _refuse_repeated(sha256: str, path: Any, old: Manifest) -> None:
    for number, part in enumerate(old.generations):
        if sha256 and part.source["sha256"] == sha256:
            raise Exists(
                f"{path} is in {old.name} already.",
                f"It is generation {number}, added on {part.created[:10]}.",
            )


def _refuse_different(old: Manifest, new: Manifest) -> None:
    for what in ("columns", "action_space"):
        there, here = getattr(old, what), getattr(new, what)
        if there != here:
            raise BadValues(
                f"the new episodes have other {what.replace('_', ' ')} than {old.name}.",
                f"new      {here}\nthere    {there}",
            )


def _copy(source: Place, target: Place, file: dict[str, Any], number: int) -> dict[str, Any]:
    """A file of the new generation among the others, under a name of its own; as the manifest lists it."""
    name = f"g{number:04d}-{file['name']}"
    storage.copy(source / file["name"], target / name)
    return {**file, "name": name}


def _joined(old: Manifest, new: Manifest, added: Mapping[str, list[dict[str, Any]]]) -> Manifest:
    files = [*old.files, *added["shards"]]
    return replace(
        old,
        **totals([*old.generations, *new.generations]),
        returns=[*old.returns, *new.returns],
        lengths=[*old.lengths, *new.lengths],
        files=files,
        scene_files=[*old.scene_files, *added[SCENES]],
        content_hash=content_hash(files),
    )
