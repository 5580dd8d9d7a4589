"""A file of JSON lines that several threads append to, durable and readable after a kill at any moment."""

import json
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from datasets_io.errors import NoSpace, Unreachable
from datasets_io.storage.documents import parse_json
from datasets_io.storage.errors import convert_errors
from off2on.errors import UserError
from off2on.runs.folder import write

T = TypeVar("T")


class LineFile:
    """Appends lines; all threads that wait for the disk at the same time share one `fsync`.

    Args:
        path: The file.
        lines: Its first content, which replaces what is there.

    Attributes:
        lock: Held by whoever appends, or reads what depends on the appended lines.
        is_stale: True if the content must be replaced before more is appended.
    """

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._syncing = threading.Lock()
        self.is_stale = False
        self._appended = self._synced = self._failed = 0
        self._file: int | None = None
        self.replace(lines)

    def append(self, lines: Sequence[str]) -> int:
        """Append lines and return a number for `sync`; either all lines are in the file, or none.

        Raises:
            NoSpace, Unreachable: The disk is full, or fails.
        """
        content = "".join(f"{line}\n" for line in lines).encode()
        with self.lock, convert_errors(self.path):
            assert self._file is not None, "the file is closed"
            size = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, content)
            except OSError:
                os.ftruncate(self._file, size)
                raise
            if written < len(content):  # only a full disk writes a part
                os.ftruncate(self._file, size)
                raise NoSpace(f"{self.path} cannot be written: the disk is full.")
            self._appended += 1
            return self._appended

    def sync(self, number: int) -> None:
        """Return when the lines with this number, and all before them, are on the disk.

        Raises:
            NoSpace, Unreachable: The disk is full, or fails, for all who wait for these lines: the system
                reports a failure once, and another `fsync` would succeed without the lines.
        """
        with self._syncing:
            if number <= self._failed:
                raise Unreachable(f"{self.path} could not be written.")
            if self._synced >= number or self._file is None:
                return  # another thread has waited for these lines too
            appended = self._appended
            try:
                with convert_errors(self.path):
                    os.fsync(self._file)
            except UserError:
                self._failed, self.is_stale = appended, True
                raise
            self._synced = appended

    def replace(self, lines: Iterable[str]) -> None:
        """Replace the content in one step.

        Raises:
            NoSpace, Unreachable: The disk is full, or fails; `is_stale` is True then.
        """
        with self.lock, self._syncing, convert_errors(self.path):
            self.is_stale = True
            write(self.path, "".join(f"{line}\n" for line in lines))
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            if self._file is not None:
                os.close(self._file)
            self._file = file
            _sync_folder(self.path.parent)
            self._synced, self.is_stale = self._appended, False

    def close(self) -> None:
        """Close the file; what is in it is on the disk."""
        with self.lock, self._syncing, convert_errors(self.path):
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
            self._file = None


def _sync_folder(folder: Path) -> None:
    """Have the names of a folder's files on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path, schema: type[T]) -> tuple[list[T], list[bytes]]:
    """Read the lines of a file, which need not exist.

    Returns:
        Objects of the schema, and the lines that are no JSON, as a kill or a damaged disk leaves them.

    Raises:
        UserError: A line is JSON but does not fit the schema; the error names it.
    """
    found: list[T] = []
    damaged: list[bytes] = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else (), 1):
        if _is_json(line):
            found.append(parse_json(line, schema, f"{path}:{number}", UserError))
        elif line:
            damaged.append(line)
    return found, damaged


def _is_json(line: bytes) -> bool:
    try:
        from_json(line)
    except ValueError:
        return False
    return True


def json_line(value: Any) -> str:
    """Return a value as one line of JSON."""
    return json.dumps(value, allow_nan=False)
