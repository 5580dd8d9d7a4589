"""Where an ingest works, so that a data set is there as a whole or not at all, and a killed one goes on.

On a disk everything is written into NAME.partial/, which one process holds by a lock and which is renamed to
NAME in one step. Buckets have neither locks nor renaming: there the shards go where they will stay, under
names that begin with a key made of the plan, so that no other ingest writes or removes them, and the
manifest, written last, makes a data set of them. Until then, readers see the old one or none.
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
from datasets_io.storage.errors import explained

SHARDS = "shards"
ABANDONED_S = 24 * 3600
"""An ingest into a bucket that stopped so long ago is removed by the next one under its name."""


class Workspace(ABC):
    """Where a data set is written.

    Attributes:
        folder: The files go into its `shards/` and `scenes/`.
        reports: Folder of the parts' reports.
        prefix: With which the names of the files begin.
    """

    folder: Place
    reports: Place
    prefix: str = ""

    @contextmanager
    def held(self, plan: str) -> Iterator[None]:
        """Begins to write, or goes on where a process with the same plan died.

        Refused data leave nothing behind. A full disk and a bucket out of reach leave the finished parts.

        Args:
            plan: What is written, and how.

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
    def commit(self, manifest: str, beside: Mapping[str, str]) -> None:
        """Makes it a data set: its manifest, and other texts by name."""

    @abstractmethod
    def _lock(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _prepare(self, plan: str) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...


def open_workspace(final: Place, overwrite: bool) -> Workspace:
    """Where the data set `final` is to be written.

    Args:
        final: Its folder.
        overwrite: Whether one that is there may be replaced.

    Raises:
        Exists: There is one.
    """
    space = _OnDisk(final) if isinstance(final, Path) else _InBucket(final)
    if space.is_taken() and not overwrite:
        raise Exists(f"{final} exists.", "", f"off2on data add {final.name} --overwrite, or another --name")
    return space


class _OnDisk(Workspace):
    def __init__(self, final: Path) -> None:
        self.final = final
        self.folder: Path = final.with_name(f"{final.name}.partial").absolute()
        self.reports: Path = self.folder / "parts"
        self._old, self._plan = final.with_name(f"{final.name}.old.partial"), self.folder / "plan.json"
        if self._old.exists():  # an overwrite was killed between its two renamings, or after them
            shutil.rmtree(self._old) if final.exists() else os.replace(self._old, final)

    def is_taken(self) -> bool:
        return self.final.exists()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with explained(self.folder):
            (self.folder / SHARDS).mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.folder / "lock"):
            yield

    def _prepare(self, plan: str) -> None:
        if not self._plan.is_file() or self._plan.read_text() != plan:
            for old in (SHARDS, SCENES, self.reports.name):
                shutil.rmtree(self.folder / old, ignore_errors=True)
        for fresh in (self.folder / SHARDS, self.reports):
            with explained(fresh):
                fresh.mkdir(exist_ok=True)
        self._sweep()
        storage.write_text(self._plan, plan)

    def _sweep(self) -> None:
        """Removes what processes that died, here or on other machines, had begun to write."""
        for kind in (SHARDS, SCENES):
            for leftover in (self.folder / kind).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def commit(self, manifest: str, beside: Mapping[str, str]) -> None:
        self._sweep()
        for name, text in {**beside, MANIFEST_FILE: manifest}.items():
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


class _InBucket(Workspace):
    def __init__(self, final: Location) -> None:
        self.folder: Location = final
        self._begun = final.parent / f"{final.name}.partial"
        self._before = (
            storage.read_text(final / MANIFEST_FILE) if storage.is_file(final / MANIFEST_FILE) else ""
        )

    def is_taken(self) -> bool:
        return bool(self._before)

    def _lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _prepare(self, plan: str) -> None:
        # What is there counts too: a data set is never overwritten by files of the same names.
        key = hashlib.sha256(f"{plan}{self._before}".encode()).hexdigest()[:8]
        self.prefix, self._state = f"{key}-", self._begun / key
        self.reports: Location = self._state / "parts"
        for state in storage.list_folders(self._begun):
            newest = max((changed for _, _, changed in storage.versions(state)), default=0) / 1e9
            if state.name != key and newest < time.time() - ABANDONED_S:
                self._delete_files(_starting(f"{state.name}-"))
                storage.delete(state)
        storage.write_text(self._state / "plan.json", plan)

    def commit(self, manifest: str, beside: Mapping[str, str]) -> None:
        for name, text in {**beside, MANIFEST_FILE: manifest}.items():
            storage.write_text(self.folder / name, text)
        self._forget()
        if self._before:
            replaced = json.loads(self._before)
            listed = {file["name"] for kind in ("files", "scene_files") for file in replaced[kind]}
            self._delete_files(listed.__contains__)
            for name in storage.sizes(self.folder).keys() - {MANIFEST_FILE, *beside}:
                storage.delete(self.folder / name)

    def _remove(self) -> None:
        self._delete_files(_starting(self.prefix))
        self._forget()

    def _forget(self) -> None:
        storage.delete(self._state)
        if not storage.sizes(self._begun) and not storage.list_folders(self._begun):
            storage.delete(self._begun)  # an empty folder is an object too

    def _delete_files(self, wanted: Callable[[str], bool]) -> None:
        for kind in (SHARDS, SCENES):
            for name in filter(wanted, storage.sizes(self.folder / kind)):
                storage.delete(self.folder / kind / name)


def _starting(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


@contextmanager
def exclusive_lock(path: Path, refusal: UserError | None = None) -> Iterator[int]:
    """Holds a lock file for this process, and for those to which it hands the file on.

    Args:
        path: The file.
        refusal: What is raised instead of `Exists`.

    Yields:
        The open file's descriptor.

    Raises:
        Exists: Another one holds it.
    """
    with path.open("w") as lock:
        try:
            # The system lets go of it when the process dies, however it dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            default = Exists(f"another process is writing {path.parent}.", "Wait for it, or stop it.")
            raise refusal or default from None
        yield lock.fileno()
