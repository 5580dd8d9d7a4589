"""The lock of a run: one process at a time writes its folder.

The lock is a file beside the folder, because a run in a bucket may be fetched anew into its folder. The
system releases it when the process ends, also after a kill; the file stays then, and tells that the run has
stopped. Of processes on several machines it excludes the second only on a disk that they share.
"""

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from datasets_io.errors import Exists, Unreachable, UserError
from datasets_io.storage import Place
from datasets_io.storage.locks import LockOwner, exclusive_lock, is_locked, lock_file, lock_owner, lock_place
from off2on.runs.metadata import RunMetadata, read_metadata

T = TypeVar("T")

logger = logging.getLogger(__name__)
RUNNING, INTERRUPTED = "running", "interrupted"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Error numbers of a disk without locks."""


@contextmanager
def lock_run(folder: Path, place: Place, wait_s: float = 1.0) -> Iterator[None]:
    """Lock a run, which need not exist, against every other process that would train it.

    On a disk without locks the run is not locked.

    Args:
        folder: Its local folder. Missing parents are made, and removed if they stay empty.
        place: Its location, for the message.
        wait_s: Seconds to wait for the other process to end.

    Raises:
        Exists: Another process trains it.
        Unreachable: The folder may not be written.
    """
    parent = lock_file(folder).parent
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        with _lock(folder, place, wait_s):
            try:
                yield
            finally:
                if not _lacks_end(folder):
                    lock_file(folder).unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # they are not empty, which is what is wanted
            for path in made:
                path.rmdir()


def _lock(folder: Path, place: Place, wait_s: float) -> ExitStack:
    """Return the held lock."""
    file, last, held = lock_file(folder), time.monotonic() + wait_s, ExitStack()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unreachable(f"{file.parent} cannot be made: {error.strerror}.") from None
    while True:
        try:
            held.enter_context(where_possible(exclusive_lock(file)))
        except Exists:
            if time.monotonic() > last:
                raise _being_trained(folder, place) from None
            time.sleep(0.05)
        else:
            return held


@contextmanager
def wait_for_lock(folder: Path) -> Iterator[None]:
    """Lock a folder, which need not exist; wait while another process has locked it.

    On a disk without locks it is not locked.

    Raises:
        Unreachable: The folder may not be written.
    """
    told = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(where_possible(lock_place(folder)))
            except Exists as error:
                if not told:
                    logger.warning("waiting: %s", error.what)
                told = True
                time.sleep(0.2)
            else:
                break
        yield


@contextmanager
def where_possible(lock: AbstractContextManager[T]) -> Iterator[T | None]:
    """Hold a lock, and yield what it yields; on a disk without locks, hold none, and yield None."""
    found: T | None = None
    with ExitStack() as held:
        try:
            found = held.enter_context(lock)
        except Unreachable as error:
            if getattr(error.__context__, "errno", None) not in NO_LOCKS:
                raise
        yield found


def refuse_trained(folder: Path, place: Place) -> None:
    """Raise `Exists` if another process trains the run in a folder; takes no lock."""
    if is_trained_elsewhere(folder):
        raise _being_trained(folder, place)


def is_trained_elsewhere(folder: Path) -> bool:
    """Return True if another process of this machine trains the run."""
    return is_locked(lock_file(folder)) and lock_owner(lock_file(folder)) != LockOwner.this()


def has_stopped(folder: Path) -> bool:
    """Return True if a process that trained the run ended without writing its status."""
    return lock_file(folder).exists() and not is_trained_elsewhere(folder) and _lacks_end(folder)


def status_now(folder: Path, metadata: RunMetadata) -> str:
    """Return the status of a run: interrupted, if its process ended without writing that."""
    file = lock_file(folder)
    ended = metadata.status == RUNNING and file.exists() and not is_locked(file)
    return INTERRUPTED if ended else metadata.status


def _lacks_end(folder: Path) -> bool:
    try:
        return read_metadata(folder).status == RUNNING
    except UserError:
        return False


def _being_trained(folder: Path, place: Place) -> Exists:
    file = lock_file(folder)
    since = ""
    with suppress(OSError):  # it has just ended
        since = f" (since {datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec='seconds')})"
    return Exists(
        f"{place} is being trained by {lock_owner(file) or 'another process'}{since}.",
        "Wait until it has finished, or stop it. --seed or --out make another run.",
        f"off2on report {place}",
    )
