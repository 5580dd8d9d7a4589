"""The command that adds a data set again, as its manifest describes it, and the error of a damaged file."""

import ast
import inspect
import shlex
from typing import Any

from datasets_io import storage
from datasets_io.errors import Corrupt, UserError
from datasets_io.imports import import_object
from datasets_io.registry import infer, registry
from datasets_io.shards.manifest import Manifest
from datasets_io.shards.manifest_checks import ListedFile
from datasets_io.sources.catalogue import GENERATED
from datasets_io.storage import Place

_RECORDED_AS = {"episodes": "count"}
"""Option of a generated data set → its name in the manifest, where that differs."""
_OF_TABLES = ("Table", "HuggingFace", "LeRobot")
"""Kinds of sources that take `columns`."""


def damaged(file: Place, size: int | None, listed: ListedFile, manifest: Manifest) -> Corrupt:
    """Return the error of a file that is missing, or has another size than the manifest lists.

    Args:
        file: The file.
        size: Its size in bytes; None if there is none.
        listed: Its entry in the manifest.
        manifest: The manifest.
    """
    expected = f"The manifest lists {listed['bytes']:,} bytes"
    if size is None:
        what, expected = f"{file} is missing.", f"{expected}; the file was deleted or moved."
    else:
        what, expected = f"{file} has {size:,} bytes.", f"{expected}; the file is truncated or was changed."
    return Corrupt(what, expected, line_to_add_again(manifest))


def line_to_add_again(manifest: Manifest) -> str:
    """Return the command that adds a data set again; empty if the manifest does not tell one that works."""
    if len(manifest.generations) > 1:
        return ""
    words = _source_words(manifest)
    if not words:
        return ""
    kind, options = manifest.source["kind"], manifest.source["options"]
    own_env = infer(manifest.name) if kind == "D4RL" else None
    if manifest.env_id and manifest.env_id != own_env and kind in ("D4RL", "Table"):
        words += ["--env", manifest.env_id]
    if "new_obs" in [name for name, _, _ in manifest.columns] and not options.get("keep_next_obs"):
        words.append("--store-next-obs")
    if any(fault.kind in ("nan", "left_out") for fault in manifest.faults):
        words += ["--nan", "drop-episode"]
    if any(fault.kind == "outside" and fault.detail.endswith(", clipped") for fault in manifest.faults):
        words.append("--clip-actions")
    if manifest.discount is not None:
        words += ["--discount", f"{manifest.discount:g}"]
    return f"off2on data add {shlex.join(words)} --overwrite"


def _source_words(manifest: Manifest) -> list[str]:
    """Return the source, its path and its options as words of a command line; empty if they are not known."""
    name, kind, path = manifest.name, manifest.source["kind"], manifest.source["path"] or ""
    options = manifest.source["options"]
    there = path != "" and (storage.is_file(path) or storage.is_folder(path))
    if kind == "D4RL" and name in registry():
        words = [name, *([path] if there else [])]
        return [*words, "keep_next_obs=true"] if options.get("keep_next_obs") else words
    if not path and name in GENERATED:
        return [name, *_generated_options(name, options)]
    if kind != "Table" or not there:
        return []
    columns = table_columns(manifest)
    if columns is None or any(
        "," in column or " " in column for names in columns.values() for column in names
    ):
        return []  # the command line cannot name such a column
    words = [name, path] if storage.is_folder(path) else [path, "--name", name]
    named = [f"{role}={','.join(names)}" for role, names in columns.items()]
    words += ["--columns", *named] if named else []
    if options.get("bounds"):
        words.append(f"bounds={options['bounds']}")
    elif options.get("continuous"):
        words.append("continuous=true")
    licence = options.get("licence", "unknown")
    return words if licence == "unknown" else [*words, f"licence={licence}"]


def table_columns(manifest: Manifest) -> dict[str, tuple[str, ...]] | None:
    """Return role → columns as they were given for tables; None for other sources, or if it is not told."""
    if manifest.source["kind"] not in _OF_TABLES:
        return None
    try:
        columns: dict[str, tuple[str, ...]] = ast.literal_eval(
            str(manifest.source["options"].get("columns", "{}"))
        )
    except (ValueError, SyntaxError):
        return None
    return columns


def _generated_options(name: str, options: dict[str, Any]) -> list[str]:
    """Return the options of a generated data set that are not the default, as NAME=VALUE."""
    where, own = GENERATED[name]
    try:
        parameters = inspect.signature(import_object(where)).parameters
    except UserError:
        return []
    recorded = {key: options.get(_RECORDED_AS.get(key, key)) for key in parameters if key not in own}
    return [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in recorded.items()
        if value is not None and value != parameters[key].default
    ]
