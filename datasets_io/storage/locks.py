"""Lock files and data sets, on a disk or in a bucket, for one process.

A disk has locks, which the system releases when their process ends. Object stores have none, and `pyarrow.fs`
offers no conditional write. There, a process that locks a data set writes an object of its own and then lists
those of all. Listings of S3 and Google Cloud Storage are consistent: of two processes the later one sees the
object of the other and gives way; if both begin in the same moment, both may give way. An object counts until
it is older than `STALE_S`; its process refreshes it. That of a process of this machine that has ended counts
no longer. A process that stood still for longer than `STALE_S` has lost its lock without notice: whoever
publishes a data set checks last that it is still what it was at first.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from datasets_io.errors import Exists, Unreachable, UserError
from datasets_io.storage.buckets import Location, list_infos
from datasets_io.storage.documents import parse_json, read_json
from datasets_io.storage.errors import convert_errors
from datasets_io.storage.places import Place, delete, is_file, write_text

STALE_S = 600.0
"""Age in seconds from which the lock object of another machine counts no longer."""
REFRESH_S = 60.0
"""Seconds between two refreshes of a lock object."""


@dataclass(frozen=True)
class LockOwner:
    """Process that holds a lock.

    Args:
        host: Name of its machine.
        pid: Its id on that machine.
    """

    host: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]

    @classmethod
    def this(cls) -> "LockOwner":
        """Return this process."""
        return cls(socket.gethostname(), os.getpid())

    def to_json(self) -> str:
        """Return the owner as JSON text."""
        return json.dumps(asdict(self))

    def has_ended(self) -> bool:
        """Return True if it was a process of this machine and has ended."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is another user's
            pass
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def lock_place(place: Place) -> Iterator[None]:
    """Lock a folder or a file, which need not exist, against every other process that would write it.

    Args:
        place: The folder or file. Missing parents are made, and removed if they stay empty.

    Raises:
        Exists: Another process is writing it.
        Unreachable: The bucket does not answer, or the folder may not be written.
    """
    under_way = f"{place} is being written"
    if isinstance(place, Location):
        with _lock_object(place, under_way):
            yield
        return
    path, file = place.resolve(), lock_file(place)
    made = [parent for parent in path.parents if not parent.exists()]
    with convert_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(file, under_way=under_way, remove=True):
            yield
    finally:
        with suppress(OSError):  # they are not empty, which is what is wanted
            for parent in made:
                parent.rmdir()


def has_lock(place: Place) -> bool:
    """Return True if there is a lock, held by a process or left by a killed one."""
    if isinstance(place, Path):
        return os.path.lexists(lock_file(place))
    names = (Location(place.scheme, info.path).name for info in list_infos(place.parent, recursive=False))
    return any(name.startswith(_object_prefix(place)) for name in names)


def lock_file(place: Path) -> Path:
    """Return the path of the file that locks a folder or a file: it lies beside it."""
    path = place.resolve()
    return path.with_name(f".{path.name}.lock")


def _object_prefix(place: Location) -> str:
    return f".{place.name}.lock-"


@contextmanager
def exclusive_lock(
    path: Path, refusal: UserError | None = None, *, under_way: str = "", remove: bool = False
) -> Iterator[int]:
    """Lock a file for this process and for processes that inherit the file.

    Args:
        path: Path of the file; it is created if it is missing.
        refusal: Error that is raised instead of `Exists`.
        under_way: What the other process is doing, for the message of `Exists`.
        remove: Remove the file at the end.

    Yields:
        The file descriptor.

    Raises:
        Exists: Another process has locked the file.
        Unreachable: The file may not be written.
    """
    descriptor = _locked(path, refusal, under_way or f"{path.parent} is being written")
    try:
        with suppress(OSError):  # a full disk: the lock holds, only messages lack its owner
            os.ftruncate(descriptor, 0)
            os.write(descriptor, LockOwner.this().to_json().encode())
        yield descriptor
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, refusal: UserError | None, under_way: str) -> int:
    while True:
        with convert_errors(path):
            # Not through a link: it may lead to a file of somebody else's.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        if _try_to_lock(descriptor, path):
            if _is_still(descriptor, path):
                return descriptor
            os.close(descriptor)  # the holder of before has removed the file
        else:
            owner = _owner(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise refusal or _busy(under_way, owner)


def is_locked(path: Path) -> bool:
    """Return True if a process, also this one, holds the lock of a file.

    For that moment the file has a shared lock: whoever locks a file that is looked at must try twice.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    finally:
        os.close(descriptor)
    return False


def lock_owner(path: Path) -> LockOwner | None:
    """Return the process that locked a file last; None if the file does not tell."""
    with suppress(OSError), path.open("rb") as file:
        return _owner(file.read(4096))
    return None


def _try_to_lock(descriptor: int, path: Path) -> bool:
    with convert_errors(path):  # of a disk without locks
        try:
            # The system releases the lock when the process ends, also after a crash.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(content: bytes) -> LockOwner | None:
    try:
        return parse_json(content, LockOwner)
    except UserError:
        return None


def _busy(under_way: str, owner: LockOwner | None) -> Exists:
    return Exists(f"{under_way} by {owner or 'another process'}.", "Wait until it has finished, or stop it.")


@contextmanager
def _lock_object(folder: Location, under_way: str) -> Iterator[None]:
    prefix = _object_prefix(folder)
    own = folder.parent / f"{prefix}{uuid.uuid4().hex}"
    text, ended = LockOwner.this().to_json(), threading.Event()
    write_text(own, text)

    def refresh() -> None:
        while not ended.wait(REFRESH_S):
            with suppress(UserError):  # the next one may succeed
                write_text(own, text)

    refreshing = threading.Thread(target=refresh, daemon=True)
    try:
        if (owner := _holder(folder, prefix, own)) is not None:
            raise _busy(under_way, owner)
        refreshing.start()
        yield
    finally:
        ended.set()
        if refreshing.is_alive():
            refreshing.join()  # else it could write the object once more
        with suppress(Unreachable):  # then it ages
            delete(own)


def _holder(folder: Location, prefix: str, own: Location) -> LockOwner | None:
    """Return the owner of another lock object that counts; objects that do not count are removed."""
    infos = {Location(folder.scheme, info.path): info for info in list_infos(folder.parent, recursive=False)}
    now = infos[own].mtime_ns if own in infos else time.time_ns()  # by the clock of the store, if it lists us
    for place, info in infos.items():
        if place == own or not info.is_file or not place.name.startswith(prefix):
            continue
        try:
            owner = read_json(place, LockOwner)
        except UserError:
            if not is_file(place):  # released meanwhile
                continue
            owner = LockOwner("another machine", 1)
        if owner.has_ended() or now - info.mtime_ns > STALE_S * 1e9:
            delete(place)
        else:
            return owner
    return None
