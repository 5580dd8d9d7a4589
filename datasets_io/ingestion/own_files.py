"""Tell the files that an ingest wrote from others: only its own are replaced or removed."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from datasets_io import storage
from datasets_io.errors import Exists, UserError
from datasets_io.shards.manifest import MANIFEST_FILE
from datasets_io.storage import Place
from datasets_io.storage.documents import read_json
from datasets_io.storage.listing import walk

INCOMING = "incoming"
"""Folder in that of a data set in which an addition is written."""
_SHARD = r"(shards|scenes)(/[\w-]*part-\d{5,}\.parquet)?"
_OWN = re.compile(
    # An addition that is being written, with its state in a bucket.
    rf"({INCOMING}(/\d{{4,}}(\.old)?(\.partial(/[0-9a-f]{{8}})?)?)?(/|$))?"
    rf"(|{re.escape(MANIFEST_FILE)}|quarantine\.csv|plan\.json|lock|{_SHARD}|parts(/\d{{5,}}\.json)?"
    r"|((shards|scenes|parts)/)?\.[0-9a-f]{32}\.tmp|\.\d{4,}\.lock(-[0-9a-f]{32})?)"
)
"""Paths, relative to the folder of a data set, of all that an ingest writes."""

_ONLY_OWN = "Only files that off2on wrote are replaced: move it away, or choose another --name."


@dataclass(frozen=True)
class _Listed:
    name: str


@dataclass(frozen=True)
class _Listing:
    """The part of a manifest by which a data set is recognised."""

    schema_version: int
    files: list[_Listed]
    scene_files: list[_Listed] = field(default_factory=list)


def refuse_foreign_files(folder: Place, finished: bool, below: str = "") -> None:
    """Refuse to replace or to continue a folder that holds anything that no ingest wrote.

    Args:
        folder: Folder of a data set or of an unfinished ingest; it need not exist.
        finished: True if the folder should be a data set, and have a manifest.
        below: Subfolder to which the check is restricted.

    Raises:
        Exists: The folder holds other files, or is a file itself.
    """
    attempt = f"mv {folder} {folder}.old" if isinstance(folder, Path) else ""
    if isinstance(folder, Path) and (folder.is_file() or folder.is_symlink()):
        raise Exists(f"{folder} is not the folder of a data set.", _ONLY_OWN, attempt)
    paths, listed = _paths(folder), listed_files(folder)
    if finished and paths and listed is None:
        raise Exists(
            f"{folder} is no data set: it has no {MANIFEST_FILE} of one that can be read.", _ONLY_OWN, attempt
        )
    foreign = [path for path in paths if not _OWN.fullmatch(path) and path not in (listed or ())]
    if foreign := [path for path in foreign if path.startswith(below)]:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise Exists(f"{folder} holds {', '.join(foreign[:3])}{more}.", _ONLY_OWN, attempt)


def remove_leftovers(folder: Place) -> None:
    """Remove what killed processes left in the folder of a data set: temporary files, and shards not listed.

    Args:
        folder: Folder of a data set that is locked.
    """
    if (listed := listed_files(folder)) is None:
        return
    for kind in ("", "shards", "scenes"):
        for name in storage.sizes(folder / kind if kind else folder):
            path = f"{kind}/{name}" if kind else name
            if (kind or name.endswith(".tmp")) and path not in listed and _OWN.fullmatch(path):
                storage.delete(folder / path)


def _paths(folder: Place) -> list[str]:
    """List all files and folders below a folder by their path in it."""
    if isinstance(folder, Path):
        return sorted(str(path.relative_to(folder)) for path in walk(folder))
    if not storage.is_folder(folder):
        return []
    return [path.removeprefix(f"{folder}/") for path in storage.list_files(folder, recursive=True)]


def listed_files(folder: Place) -> set[str] | None:
    """Return the paths of the shards and scenes that a folder's manifest lists; None without one."""
    try:
        listing = read_json(folder / MANIFEST_FILE, _Listing)
    except UserError:
        return None
    kinds = {"shards": listing.files, "scenes": listing.scene_files}
    return {f"{kind}/{file.name}" for kind, files in kinds.items() for file in files}
