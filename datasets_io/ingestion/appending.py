"""Addition of new episodes to a data set as a new generation of shards, in one atomic step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

from datasets_io import storage
from datasets_io.errors import BadValues, Exists, NoSpace, Unreachable, UserError
from datasets_io.ingestion.ingest import PartProgress, ingest
from datasets_io.ingestion.own_files import INCOMING, refuse_foreign_files, remove_leftovers
from datasets_io.shards.again import table_columns
from datasets_io.shards.generations import GenerationRange, restrict, totals
from datasets_io.shards.manifest import MANIFEST_FILE, Manifest, content_hash
from datasets_io.shards.manifest_checks import ListedFile
from datasets_io.shards.reading import Shards
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.source import Source
from datasets_io.storage import Place
from datasets_io.storage.locks import lock_place


def append(
    source: Source,
    path: Any,
    shards: Shards,
    *,
    rows_per_shard: int = 100_000,
    nan: str = "refuse",
    clip_actions: bool = False,
    progress: PartProgress | None = None,
) -> Shards:
    """Add the episodes of a source to a data set, as its newest generation.

    Existing files are not changed, so runs that train on them are not affected. If the process is killed, the
    data set is unchanged, and a repeated call continues. The data set is locked, see `storage.locks`.

    Args:
        source: Source of the new episodes.
        path: Argument of `source.parts`.
        shards: The data set.
        rows_per_shard: See `ingest`.
        nan: See `ingest`.
        clip_actions: See `ingest`.
        progress: See `ingest`.

    Returns:
        The data set with the new generation.

    Raises:
        Exists: The same data were added before, or another process is writing the data set.
        BadValues: The new episodes were refused, or have other columns, spaces or another environment than
            those of the data set.
    """
    folder, source = shards.path, copy(source)
    if source.action_space is None:
        source.action_space = shards.action_space
    with lock_place(folder):
        refuse_foreign_files(folder, finished=True, below=INCOMING)
        with _removed_on_exit(folder / INCOMING):
            return _append(
                source,
                path,
                folder,
                rows_per_shard=rows_per_shard,
                nan=nan,
                clip_actions=clip_actions,
                progress=progress,
            )


def _append(source: Source, path: Any, folder: Place, **options: Any) -> Shards:
    # Read under the lock: the caller's may be restricted to some generations, or of before another addition.
    seen, old = storage.read_bytes(folder / MANIFEST_FILE), Shards(folder).manifest
    remove_leftovers(folder)
    number = len(old.generations)
    told = type(source).__name__, source.fingerprint(path), _row_choice(source, source.options())
    for generation, part in enumerate(old.generations):
        known = part.source["kind"], part.source["sha256"], _row_choice(source, part.source["options"])
        if known[1] and known == told:  # before the data are read
            raise _duplicate(old, generation, path)
    new = ingest(
        source,
        path,
        folder / INCOMING,
        name=f"{number:04d}",
        discount=old.discount,
        store_new_obs=any(name == "new_obs" for name, _, _ in old.columns),
        overwrite=True,
        id_prefix=f"g{number}-",
        **options,
    )
    _refuse_incompatible(old, new.manifest)
    for generation in range(number):
        if _same_rows(restrict(old, GenerationRange(old.name, generation, generation)), new.manifest):
            raise _duplicate(old, generation, path)
    files = {"shards": new.manifest.files, SCENES: new.manifest.scene_files}
    added = {kind: [_renamed(file, number) for file in listed] for kind, listed in files.items()}
    merged = _merged_manifest(old, new.manifest, added).to_json()
    for kind, listed in files.items():
        for file, copied in zip(listed, added[kind], strict=True):
            storage.copy(new.path / kind / file["name"], folder / kind / copied["name"])
    if not storage.is_file(folder / MANIFEST_FILE) or storage.read_bytes(folder / MANIFEST_FILE) != seen:
        remove_leftovers(folder)
        raise Exists(
            f"{folder} was changed by another process meanwhile.", "Nothing was added. Run it again."
        )
    storage.write_text(folder / MANIFEST_FILE, merged)
    return Shards(folder)


@contextmanager
def _removed_on_exit(folder: Place) -> Iterator[None]:
    """Remove the folder on success or if the data are refused; a killed process leaves its finished parts."""
    try:
        yield
    except (NoSpace, Unreachable):
        raise
    except UserError:
        storage.delete(folder)
        raise
    storage.delete(folder)


def _row_choice(source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that choose rows: the others only give the same rows other values."""
    names = options if source.row_options is None else source.row_options
    return {name: options.get(name) for name in names}


def _duplicate(old: Manifest, generation: int, path: Any) -> Exists:
    what = path if isinstance(path, str | Place) else "these episodes"
    return Exists(
        f"{old.name} already contains {what}.",
        f"It is generation {generation}, added on {old.generations[generation].created[:10]}.",
    )


def _same_rows(one: Manifest, other: Manifest) -> bool:
    """Return True if two manifests of one generation describe the same rows of the same data.

    Their files differ by the ids of the episodes. A split may be chosen by its name or as the usual one;
    generated data have no SHA-256, and are made by their options.
    """

    def facts(manifest: Manifest) -> Any:
        (part,) = manifest.generations
        bounds = {name: (moments["low"], moments["high"]) for name, moments in part.moments.items()}
        origin = part.source["sha256"] or (part.source["kind"], part.source["options"])
        return origin, manifest.returns, manifest.lengths, bounds

    return bool(facts(one) == facts(other))


def _refuse_incompatible(old: Manifest, new: Manifest) -> None:
    always = {"columns", "action space"}
    if old.env_id and new.env_id and old.source["kind"] == new.source["kind"]:
        always.add("options of the environment")  # sources of another kind may not tell them
    for (what, existing), added in zip(_layout(old).items(), _layout(new).values(), strict=True):
        if existing != added and (what in always or (existing and added)):
            raise BadValues(
                f"the new episodes and {old.name} differ in their {what}.",
                f"new      {added}\nexisting {existing}",
            )
    before, now = (table_columns(manifest) or {} for manifest in (old, new))
    for role in before.keys() & now.keys():
        if before[role] != now[role] and sorted(before[role]) == sorted(now[role]):
            raise BadValues(
                f"the columns of {role} have another order than in {old.name}.",
                f"new      {','.join(now[role])}\nexisting {','.join(before[role])}",
            )


def _layout(manifest: Manifest) -> dict[str, Any]:
    """Return what all generations have in common, where it is told."""
    return {
        "columns": manifest.columns,
        "action space": manifest.action_space,
        "nested observation space": _without_bounds(manifest.nested_observation_space),
        "environment": manifest.env_id,
        "options of the environment": manifest.env_options,
    }


def _without_bounds(space: Any) -> Any:
    """Return a space in plain values without bounds and types: sources tell them differently."""
    if isinstance(space, list):
        return [_without_bounds(part) for part in space]
    if isinstance(space, dict):
        return {
            name: _without_bounds(part)
            for name, part in space.items()
            if name not in ("low", "high", "dtype")
        }
    return space


def _renamed(file: ListedFile, number: int) -> ListedFile:
    """Return the manifest entry of a file of a new generation, with a name that is unique in the data set."""
    return {**file, "name": f"g{number:04d}-{file['name']}"}


def _merged_manifest(old: Manifest, new: Manifest, added: Mapping[str, list[ListedFile]]) -> Manifest:
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
