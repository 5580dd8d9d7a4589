"""A folder for the files of Ray, and the check that nothing of Ray is left after a kill."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kills import left_processes
from processes import wait_for

from datasets_io.local_ray import _processes


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Yield a folder for ``RAY_TMPDIR``; its path is short, as those of Ray's sockets must be."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def shared_memory() -> set[str]:
    """Return the names of objects in shared memory that no process uses; others may use theirs."""
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # the process has ended
            used |= set(re.findall(r"/dev/shm/(\S+)", maps.read_text()))
    return set(os.listdir("/dev/shm")) - used


def nothing_left(folder: Path, mark: str, before: set[str], seconds: float = 10) -> None:
    """Wait until no process, no session folder and no new shared memory is left of a killed command.

    Args:
        folder: Its ``RAY_TMPDIR``.
        mark: See `kills.left_processes`.
        before: What `shared_memory` returned before.
        seconds: The longest wait.
    """

    def left() -> list[object]:
        processes = [*left_processes(mark).values(), *_processes(str(folder))]
        return [*processes, *folder.iterdir(), *(shared_memory() - before)]

    wait_for(lambda: not left(), seconds=seconds, said=lambda: str(left()))
