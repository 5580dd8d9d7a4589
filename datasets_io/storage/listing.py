"""List the files and folders of a folder on this machine or in a bucket."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets_io.errors import UnknownName
from datasets_io.storage.buckets import Location, file_info, list_infos
from datasets_io.storage.errors import convert_errors
from datasets_io.storage.places import Place, absolute, exists, is_folder, locate

_GLOB_CHARACTERS = frozenset("*?[")


def list_files(where: str | Place, suffixes: Sequence[str] = (), recursive: bool = False) -> list[str]:
    """List the files of a folder, sorted by name; for a file, the file itself.

    Args:
        where: The folder.
        suffixes: Suffixes to keep; all if empty.
        recursive: Include the files of subfolders.

    Raises:
        UnknownName: The folder does not exist.
        Unreachable: The bucket does not respond, or refuses access.
    """
    found = (file for file, _, _ in _listed(locate(where), recursive))
    return [str(file) for file in found if not suffixes or file.name.endswith(tuple(suffixes))]


def list_folders(where: str | Place) -> list[Place]:
    """List the direct subfolders of a folder, sorted by name; none if it does not exist."""
    place = locate(where)
    if isinstance(place, Path):
        with convert_errors(place):
            return sorted(path for path in place.iterdir() if path.is_dir()) if is_folder(place) else []
    found = list_infos(place, recursive=False)
    return sorted(Location(place.scheme, info.path) for info in found if info.type.name == "Directory")


def sizes(where: str | Place) -> dict[str, int]:
    """Return name and size in bytes of each file directly in a folder; empty if it does not exist."""
    try:
        return {file.name: count for file, count, _ in _listed(locate(where), False)}
    except UnknownName:
        return {}


def versions(where: str | Place) -> list[tuple[str, int, int]]:
    """Return name, size in bytes and modification time (ns) of a file or of every file below a folder.

    In a bucket they replace a hash of the content: objects never change without their time, and reading them
    would take as long as the ingest.

    Raises:
        UnknownName: The path does not exist.
    """
    place = locate(where)
    found = _listed(place, True)
    return [(str(file).removeprefix(str(place)), count, changed) for file, count, changed in found]


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files and folders below a folder; `rglob` fails if one vanishes meanwhile."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def split_pattern(where: str | Place) -> tuple[Place, str]:
    """Split an absolute path into a folder and, for `fnmatch`, the pattern of the rest; "" if there is none.

    The name of what exists is no pattern, also with characters of one.
    """
    whole = root = absolute(where)
    while _GLOB_CHARACTERS.intersection(str(root)) and root != root.parent and not exists(root):
        root = root.parent
    return root, str(whole).removeprefix(str(root))


def _listed(place: Place, recursive: bool) -> list[tuple[Any, int, int]]:
    found: list[tuple[Any, int, int]]
    with convert_errors(place):
        if isinstance(place, Path):
            inside = [place] if place.is_file() else walk(place) if recursive else place.iterdir()
            found = []
            for path in inside:
                with suppress(FileNotFoundError):  # another process has renamed or deleted it meanwhile
                    if path.is_file():
                        stat = path.stat()
                        found.append((path, stat.st_size, stat.st_mtime_ns))
            if not found and not place.exists():  # `walk` of a missing folder is empty
                raise FileNotFoundError(str(place))
        else:
            infos = list_infos(place, recursive) or [file_info(place)]
            if infos[0].type.name == "NotFound":
                raise FileNotFoundError(place.key)
            files = (info for info in infos if info.is_file)
            found = [(Location(place.scheme, info.path), info.size, info.mtime_ns) for info in files]
    return sorted(found)
