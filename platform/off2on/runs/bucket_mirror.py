"""Runs in a bucket: a run works in a local folder, and complete files are copied to the bucket.

A checkpoint is valid once the list of its files is there, which is written after them; `checkpoints/last`,
written after that, names the newest. A run that was killed at any time can therefore be continued on any
machine from one of its checkpoints.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from datasets_io import storage
from datasets_io.errors import Corrupt, Unreachable, UserError
from datasets_io.storage.buckets import Location, connect
from datasets_io.storage.documents import read_content, read_json
from datasets_io.storage.errors import convert_errors
from datasets_io.storage.replacing import PARTIAL, end_replacement, partial_of, replace_folder
from off2on.runs.lock import is_trained_elsewhere, wait_for_lock

logger = logging.getLogger(__name__)
CHECKPOINTS, LAST, POLICIES, ABOUT = "checkpoints", "last", "policies", "run.yaml"

MAX_NAME = 1000
"""Longest name of a checkpoint, in bytes."""


def working_folder(place: storage.Place) -> Path:
    """Return the local folder of a run: its location, or a cache folder if that is in a bucket."""
    if isinstance(place, Path):
        return place
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "off2on" / "runs" / place.scheme / place.key


def fetch(place: Location) -> Path:
    """Fetch a run, as it was after its newest checkpoint, into its working folder and return that.

    Files in that folder stay only if it is the same run at the same checkpoint; if the bucket has no run,
    the folder is removed. While another process of this machine trains the run there, its files stay.
    While another process fetches the run, this one waits: a run that is about to be trained is fetched
    under its lock, and therefore no folder is replaced under a training that has just begun.

    Raises:
        Corrupt: Files of the newest checkpoint are missing.
    """
    folder = working_folder(place)
    if _is_current(folder, place):
        return folder
    with wait_for_lock(partial_of(folder)):
        if not _is_current(folder, place):  # another process may have fetched it, or trains it
            _replace(folder, place)
    return folder


def _is_current(folder: Path, place: Location) -> bool:
    """Return True if there is nothing to fetch or to remove, or another process trains the run."""
    if is_trained_elsewhere(folder):
        return True
    if not storage.is_file(place / ABOUT):
        return not folder.exists()
    link = folder / CHECKPOINTS / LAST
    same = (folder / ABOUT).is_file() and (folder / ABOUT).read_bytes() == storage.read_bytes(place / ABOUT)
    return same and (link.resolve().name if link.exists() else "") == _newest(place)


def _replace(folder: Path, place: Location) -> None:
    """Replace a folder by the run in a bucket, or remove it if there is none."""
    if not storage.is_file(place / ABOUT):
        shutil.rmtree(folder, ignore_errors=True)
        return
    last, complete = _newest(place), _complete(place)
    if last and last not in complete:
        raise Corrupt(f"the newest checkpoint of {place} is {last}, and files of it are missing.")
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    (partial / CHECKPOINTS).mkdir(parents=True)
    for name in storage.sizes(place):
        copy(place / name, partial / name)
    if storage.is_folder(place / POLICIES):
        copy(place / POLICIES, partial / POLICIES)
    for name in complete:
        copy(place / CHECKPOINTS / name, partial / CHECKPOINTS / name)
    if last:
        (partial / CHECKPOINTS / LAST).symlink_to(last, target_is_directory=True)
    end_replacement(folder)
    replace_folder(folder)


def _newest(place: Location) -> str:
    """Return the name of the newest checkpoint, "" without one."""
    newest = place / CHECKPOINTS / LAST
    return read_content(newest, MAX_NAME).decode(errors="replace") if storage.is_file(newest) else ""


def runs_in(place: Location) -> list[Path]:
    """Fetch the run at this location, or all runs below it, and return their working folders."""
    if storage.is_file(place / ABOUT):
        return [fetch(place)]
    suffix = f"/{ABOUT}"
    found = storage.list_files(place, [suffix.strip("/")], recursive=True) if storage.exists(place) else []
    places = (storage.locate(file.removesuffix(suffix)) for file in found if file.endswith(suffix))
    return [fetch(each) for each in places if isinstance(each, Location)]


def fetch_all(place: storage.Place) -> Path:
    """Fetch the files at this location and all runs below it, and return the local folder."""
    folder = working_folder(place)
    if isinstance(place, Location):
        runs_in(place)
        for name in storage.sizes(place):
            copy(place / name, folder / name)
    return folder


class Mirror:
    """Copies the folder of a run to a bucket.

    Args:
        folder: The local folder.
        place: The location in the bucket.
    """

    def __init__(self, folder: Path, place: Location) -> None:
        self.folder, self.place = folder, place
        self._sent: dict[str, int] = {}
        """Names of checkpoints and files to their modification times when they were sent."""

    def send_metadata(self) -> None:
        """Send run.yaml, which reserves the name of the run."""
        self._try(lambda: self._send(ABOUT))

    def send(self, must: bool = False) -> None:
        """Send everything that changed.

        Args:
            must: Raise if the bucket cannot be reached; otherwise the next call tries again.

        Raises:
            Unreachable: The bucket does not answer, or refuses access.
        """
        self._try(self._send_all, must)

    def _try(self, send: Callable[[], None], must: bool = False) -> None:
        try:
            send()
        except Unreachable as error:
            if must or not self._sent:
                raise
            logger.warning("not yet copied to %s: %s", self.place, error)

    def _send_all(self) -> None:
        ours = self.folder / CHECKPOINTS
        names = [path.name for path in ours.iterdir() if path.is_dir() and not path.is_symlink()]
        kept = [name for name in names if not name.endswith(PARTIAL)]
        for name in kept:
            changed = (ours / name).stat().st_mtime_ns
            if self._sent.get(name) != changed:
                storage.delete(_list(self.place, name))
                copy(ours / name, self.place / CHECKPOINTS / name)
                storage.write_text(_list(self.place, name), json.dumps(_sizes(ours / name)))
                self._sent[name] = changed
        for path in self.folder.rglob("*"):
            if path.is_file() and ours not in path.parents and not path.name.startswith("."):
                self._send(str(path.relative_to(self.folder)))
        if (ours / LAST).exists():
            storage.write_text(self.place / CHECKPOINTS / LAST, (ours / LAST).resolve().name)
        for old in storage.list_folders(self.place / CHECKPOINTS):
            if old.name not in kept:
                storage.delete(_list(self.place, old.name))
                storage.delete(old)

    def _send(self, name: str) -> None:
        path = self.folder / name
        changed = path.stat().st_mtime_ns
        if self._sent.get(name) != changed:
            copy(path, self.place / name)
            self._sent[name] = changed


def _complete(place: Location) -> list[str]:
    """Return the names of the complete checkpoints of a run."""
    found = []
    for folder in storage.list_folders(place / CHECKPOINTS):
        listed = _list(place, folder.name)
        if storage.is_file(listed) and _listed(listed) == _sizes(folder):
            found.append(folder.name)
    return found


def _listed(place: Location) -> dict[str, int] | None:
    """Return the list of the files of a checkpoint; None if it is damaged or has other names."""
    try:
        sizes = read_json(place, dict[str, int])
    except UserError:
        return None
    return None if any(".." in name.split("/") for name in sizes) else sizes


def _list(place: Location, name: str) -> Location:
    return place / CHECKPOINTS / f"{name}.json"


def _sizes(folder: storage.Place) -> dict[str, int]:
    return {name.strip("/"): count for name, count, _ in storage.versions(folder)}


def copy(source: storage.Place, target: storage.Place) -> None:
    """Copy a file or a folder to a bucket or from one."""
    from pyarrow import fs

    (ours, path), (theirs, key) = storage.filesystem(source), storage.filesystem(target)
    with convert_errors(target if isinstance(target, Location) else source):
        if isinstance(source, Location) and connect(source).get_file_info(path).type.name == "Directory":
            Path(key).mkdir(parents=True, exist_ok=True)
        fs.copy_files(path, key, ours, theirs)
