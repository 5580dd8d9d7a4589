"""Workspaces of an ingest: they make it atomic and let a killed ingest continue.

A data set is locked by one process (see `storage.locks`). On a disk everything is written into NAME.partial/,
which is finally renamed to NAME in one step. Buckets have no renaming: there the shards are written to their
final folder with a name prefix derived from the plan, so that no other ingest writes or removes them, and the
manifest is written last. Until then, readers see the old data set or none.
"""

import hashlib
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets_io import storage
from datasets_io.errors import Exists, NoSpace, Unreachable, UserError
from datasets_io.ingestion.own_files import INCOMING, listed_files, refuse_foreign_files
from datasets_io.shards.manifest import MANIFEST_FILE
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from datasets_io.storage.errors import convert_errors
from datasets_io.storage.locks import has_lock, lock_place
from datasets_io.storage.replacing import end_replacement, partial_of, replace_folder, replaced_by

logger = logging.getLogger(__name__)
SHARDS = "shards"
ABANDONED_S = 24 * 3600
"""Age in seconds of an unfinished ingest in a bucket, after which the next ingest of this name removes it."""


class Workspace(ABC):
    """Folders in which a data set is written.

    Args:
        final: Folder of the finished data set.
        overwrite: True to replace an existing data set.

    Attributes:
        folder: Folder with the subfolders `shards/` and `scenes/`.
        reports: Folder of the reports of the parts.
        prefix: Prefix of the file names.
    """

    folder: Place
    reports: Place
    prefix: str = ""

    def __init__(self, final: Place, overwrite: bool) -> None:
        self._final, self._overwrite = final, overwrite
        self._seen: bytes | None = None

    @contextmanager
    def begin(self, plan: str) -> Iterator[None]:
        """Lock the data set; start writing, or continue after a process with the same plan was killed.

        If the data are refused, everything is removed. If the disk is full or the bucket is unreachable,
        finished parts are kept.

        Args:
            plan: Description of the data, code and options of the ingest.

        Raises:
            Exists: Another process is writing the data set, or has written it, or it holds other files.
            NoSpace: The disk is full.
        """
        with lock_place(self._final):
            self._recover()
            self.check_target()
            self._seen = self._read_manifest()
            try:
                self._prepare(plan)
                yield
            except (NoSpace, Unreachable):
                with suppress(Unreachable):
                    if not storage.sizes(self.reports):
                        self._remove()
                raise
            except UserError:
                self._remove()
                raise

    def check_target(self) -> None:
        """Refuse to replace a data set without `overwrite`, and files that no ingest wrote in any case.

        Raises:
            Exists: It is refused.
        """
        if self._is_taken() and not self._overwrite:
            self.tidy()
            name = self._final.name
            raise Exists(
                f"{self._final} exists.", "", f"off2on data add {name} --overwrite, or another --name"
            )
        self._refuse_foreign_files()

    def tidy(self) -> None:
        """Remove what is left of a process that was killed when it had just published the data set."""
        with suppress(UserError):  # another process writes it, or it may not be written
            if has_lock(self._final):
                with lock_place(self._final):
                    self._recover()

    def commit(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        """Publish the data set: write the manifest and other text files {name: text}.

        Raises:
            Exists: The data set was changed since `begin`, by a process without our lock.
        """
        if self._read_manifest() != self._seen:
            raise Exists(
                f"{self._final} was changed by another process meanwhile.",
                "Nothing was replaced. Run it again.",
            )
        self.check_target()
        self._publish(manifest, extra_files)

    def _read_manifest(self) -> bytes | None:
        path = self._final / MANIFEST_FILE
        return storage.read_bytes(path) if storage.is_file(path) else None

    @abstractmethod
    def _is_taken(self) -> bool: ...

    @abstractmethod
    def _refuse_foreign_files(self) -> None: ...

    @abstractmethod
    def _recover(self) -> None:
        """Finish what a killed process began to publish."""

    @abstractmethod
    def _prepare(self, plan: str) -> None: ...

    @abstractmethod
    def _publish(self, manifest: str, extra_files: Mapping[str, str]) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...


def open_workspace(final: Place, overwrite: bool) -> Workspace:
    """Return the workspace for writing a data set.

    Args:
        final: Folder of the finished data set.
        overwrite: True to replace an existing data set.

    Raises:
        Exists: The data set exists, or the folder holds files that no ingest wrote.
    """
    space = _workspace(final, overwrite)
    space.check_target()  # before the data are read; `begin` asks again
    return space


def tidy(final: Place) -> None:
    """Remove what is left of a process that was killed when it had just published this data set."""
    _workspace(final, False).tidy()


def _workspace(final: Place, overwrite: bool) -> Workspace:
    if isinstance(final, Path):
        return _DiskWorkspace(final, overwrite)
    return _BucketWorkspace(final, overwrite)


class _DiskWorkspace(Workspace):
    _final: Path

    def __init__(self, final: Path, overwrite: bool) -> None:
        final = (
            final.resolve() if final.is_symlink() else final
        )  # the link stays, what it leads to is replaced
        super().__init__(final, overwrite)
        self.folder: Path = partial_of(final.absolute())
        self.reports: Path = self.folder / "parts"
        self._plan = self.folder / "plan.json"

    def _is_taken(self) -> bool:
        return self._final.exists()

    def _refuse_foreign_files(self) -> None:
        for folder in (self._final, replaced_by(self._final)):
            refuse_foreign_files(folder, finished=True)
        refuse_foreign_files(self.folder, finished=False)

    def _recover(self) -> None:
        if replaced_by(self._final).exists():
            self._refuse_foreign_files()
            end_replacement(self._final)

    def _prepare(self, plan: str) -> None:
        if not self._plan.is_file() or self._plan.read_bytes() != plan.encode():
            if finished := len(storage.sizes(self.reports)):
                logger.warning(
                    "an earlier attempt had finished %d of its parts; they are removed, because the files, "
                    "their times, the options or the version of off2on have changed.",
                    finished,
                )
            storage.delete(self.folder)
        for fresh in (self.folder / SHARDS, self.reports):
            with convert_errors(fresh):
                fresh.mkdir(parents=True, exist_ok=True)
        self._remove_temporary_files()
        storage.write_text(self._plan, plan)

    def _remove_temporary_files(self) -> None:
        """Remove temporary files of killed processes, on this or on other machines."""
        for leftover in self.folder.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def _publish(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        self._remove_temporary_files()
        for name, text in {**extra_files, MANIFEST_FILE: manifest}.items():
            storage.write_text(self.folder / name, text)
        storage.delete(self.reports)
        storage.delete(self._plan)
        with convert_errors(self._final):
            replace_folder(self._final)

    def _remove(self) -> None:
        storage.delete(self.folder)


class _BucketWorkspace(Workspace):
    _final: Location

    def __init__(self, final: Location, overwrite: bool) -> None:
        super().__init__(final, overwrite)
        self.folder: Location = final
        self._state_folder = final.parent / f"{final.name}.partial"

    def _is_taken(self) -> bool:
        return storage.is_file(self._final / MANIFEST_FILE)

    def _refuse_foreign_files(self) -> None:
        refuse_foreign_files(self._final, finished=self._is_taken())

    def _recover(self) -> None:
        pass  # the manifest is published in one step

    def _prepare(self, plan: str) -> None:
        # The key includes the existing manifest, so that new files never have the names of existing ones.
        key = hashlib.sha256(plan.encode() + (self._seen or b"")).hexdigest()[:8]
        self.prefix, self._state = f"{key}-", self._state_folder / key
        self.reports: Location = self._state / "parts"
        for state in storage.list_folders(self._state_folder):
            newest = max((changed for _, _, changed in storage.versions(state)), default=0) / 1e9
            ours = re.fullmatch("[0-9a-f]{8}", state.name) and state.name != key
            if ours and newest < time.time() - ABANDONED_S:
                self._delete_files(_starts_with(f"{state.name}-"))
                storage.delete(state)
        storage.write_text(self._state / "plan.json", plan)

    def _publish(self, manifest: str, extra_files: Mapping[str, str]) -> None:
        replaced = listed_files(self._final) or set()
        for name, text in {**extra_files, MANIFEST_FILE: manifest}.items():
            storage.write_text(self.folder / name, text)
        self._remove_state()
        self._delete_files(replaced.__contains__)
        storage.delete(self.folder / INCOMING)
        for name in storage.sizes(self.folder).keys() - {MANIFEST_FILE, *extra_files}:
            storage.delete(self.folder / name)  # of the old data set: others would have been refused

    def _remove(self) -> None:
        self._delete_files(_starts_with(self.prefix))
        self._remove_state()

    def _remove_state(self) -> None:
        storage.delete(self._state)
        if not storage.sizes(self._state_folder) and not storage.list_folders(self._state_folder):
            storage.delete(self._state_folder)  # an empty folder may exist as an object

    def _delete_files(self, wanted: Callable[[str], bool]) -> None:
        """Delete the shards and files of scenes whose path in the folder is wanted."""
        for kind in (SHARDS, SCENES):
            for path in filter(wanted, (f"{kind}/{name}" for name in storage.sizes(self.folder / kind))):
                storage.delete(self.folder / path)


def _starts_with(prefix: str) -> Callable[[str], bool]:
    return lambda path: path.partition("/")[2].startswith(prefix)
