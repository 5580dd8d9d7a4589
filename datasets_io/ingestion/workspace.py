"""Workspaces of an ingest: they make it atomic and let a killed ingest continue.

On a disk everything is written into NAME.partial/, which is locked by one process and finally renamed to NAME
in one step. Buckets have neither locks nor renaming: there the shards are written to their final folder with
a name prefix derived from the plan, so that no other ingest writes or removes them, and the manifest is
written last. Until then, readers see the old data set or none.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from datasets_io import storage
from datasets_io.errors import Exists, NoSpace, Unreachable, UserError
from datasets_io.shards.manifest import MANIFEST_FILE
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from datasets_io.storage.errors import convert_errors

SHARDS = "shards"
ABANDONED_S = 24 * 3600
"""Age in seconds of an unfinished ingest in a bucket, after which the next ingest of this name removes it."""


class Workspace(ABC):
    """Folders in which a data set is written.

    Attributes:
        folder: Folder with the subfolders `shards/` and `scenes/`.
        reports: Folder of the reports of the parts.
        prefix: Prefix of the file names.
    """

    folder: Place
    reports: Place
    prefix: str = ""

    @contextmanager
    def begin(self, plan: str) -> Iterator[None]:
        """Start writing, or continue after a process with the same plan was killed.

        If the data are refused, everything is removed. If the disk is full or the bucket is unreachable,
        finished parts are kept.

        Args:
            plan: Description of the data, code and options of the ingest.

        Raises:
            Exists: Another process is writing here.
            NoSpace: The disk is full.
        """
        with self._lock():
            try:
                self._prepare(plan)
                yield
            except Unreachable:
                raise
            except NoSpace:
                if not storage.sizes(self.reports):
                    self._remove()
                raise
            except UserError:
                self._remove()
                raise

    @abstractmethod
    def commit(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        """Publish the data set: write the manifest and other text files {name: text}."""

    @abstractmethod
    def _lock(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _prepare(self, plan: str) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...


def open_workspace(final: Place, overwrite: bool) -> Workspace:
    """Return the workspace for writing a data set.

    Args:
        final: Folder of the finished data set.
        overwrite: True to replace an existing data set.

    Raises:
        Exists: The data set exists.
    """
    space = _DiskWorkspace(final) if isinstance(final, Path) else _BucketWorkspace(final)
    if space.is_taken() and not overwrite:
        raise Exists(f"{final} exists.", "", f"off2on data add {final.name} --overwrite, or another --name")
    return space


class _DiskWorkspace(Workspace):
    def __init__(self, final: Path) -> None:
        self.final = final
        self.folder: Path = final.with_name(f"{final.name}.partial").absolute()
        self.reports: Path = self.folder / "parts"
        self._old, self._plan = final.with_name(f"{final.name}.old.partial"), self.folder / "plan.json"
        if self._old.exists():  # an overwrite was killed between its two renames, or after them
            shutil.rmtree(self._old) if final.exists() else os.replace(self._old, final)

    def is_taken(self) -> bool:
        return self.final.exists()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with convert_errors(self.folder):
            (self.folder / SHARDS).mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.folder / "lock"):
            yield

    def _prepare(self, plan: str) -> None:
        if not self._plan.is_file() or self._plan.read_text() != plan:
            for old in (SHARDS, SCENES, self.reports.name):
                shutil.rmtree(self.folder / old, ignore_errors=True)
        for fresh in (self.folder / SHARDS, self.reports):
            with convert_errors(fresh):
                fresh.mkdir(exist_ok=True)
        self._remove_temporary_files()
        storage.write_text(self._plan, plan)

    def _remove_temporary_files(self) -> None:
        """Remove temporary files of killed processes, on this or on other machines."""
        for kind in (SHARDS, SCENES):
            for leftover in (self.folder / kind).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def commit(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        self._remove_temporary_files()
        for name, text in {**extra_files, MANIFEST_FILE: manifest}.items():
            storage.write_text(self.folder / name, text)
        shutil.rmtree(self.reports)
        self._plan.unlink()
        if self.final.exists():
            os.replace(self.final, self._old)
        os.replace(self.folder, self.final)
        (self.final / "lock").unlink(missing_ok=True)
        shutil.rmtree(self._old, ignore_errors=True)

    def _remove(self) -> None:
        shutil.rmtree(self.folder)


class _BucketWorkspace(Workspace):
    def __init__(self, final: Location) -> None:
        self.folder: Location = final
        self._state_folder = final.parent / f"{final.name}.partial"
        self._old_manifest = (
            storage.read_text(final / MANIFEST_FILE) if storage.is_file(final / MANIFEST_FILE) else ""
        )

    def is_taken(self) -> bool:
        return bool(self._old_manifest)

    def _lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _prepare(self, plan: str) -> None:
        # The key includes the existing manifest, so that new files never have the names of existing ones.
        key = hashlib.sha256(f"{plan}{self._old_manifest}".encode()).hexdigest()[:8]
        self.prefix, self._state = f"{key}-", self._state_folder / key
        self.reports: Location = self._state / "parts"
        for state in storage.list_folders(self._state_folder):
            newest = max((changed for _, _, changed in storage.versions(state)), default=0) / 1e9
            if state.name != key and newest < time.time() - ABANDONED_S:
                self._delete_files(_starts_with(f"{state.name}-"))
                storage.delete(state)
        storage.write_text(self._state / "plan.json", plan)

    def commit(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        for name, text in {**extra_files, MANIFEST_FILE: manifest}.items():
            storage.write_text(self.folder / name, text)
        self._remove_state()
        if self._old_manifest:
            replaced = json.loads(self._old_manifest)
            listed = {file["name"] for kind in ("files", "scene_files") for file in replaced[kind]}
            self._delete_files(listed.__contains__)
            for name in storage.sizes(self.folder).keys() - {MANIFEST_FILE, *extra_files}:
                storage.delete(self.folder / name)

    def _remove(self) -> None:
        self._delete_files(_starts_with(self.prefix))
        self._remove_state()

    def _remove_state(self) -> None:
        storage.delete(self._state)
        if not storage.sizes(self._state_folder) and not storage.list_folders(self._state_folder):
            storage.delete(self._state_folder)  # an empty folder may exist as an object

    def _delete_files(self, wanted: Callable[[str], bool]) -> None:
        for kind in (SHARDS, SCENES):
            for name in filter(wanted, storage.sizes(self.folder / kind)):
                storage.delete(self.folder / kind / name)


def _starts_with(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


@contextmanager
def exclusive_lock(path: Path, refusal: UserError | None = None) -> Iterator[int]:
    """Lock a file for this process and for processes that inherit the file.

    Args:
        path: Path of the file.
        refusal: Error that is raised instead of `Exists`.

    Yields:
        The file descriptor.

    Raises:
        Exists: Another process has locked the file.
    """
    with path.open("w") as lock:
        try:
            # The system releases the lock when the process ends, also after a crash.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            default = Exists(
                f"another process is writing {path.parent}.", "Wait until it has finished, or stop it."
            )
            raise refusal or default from None
        yield lock.fileno()
