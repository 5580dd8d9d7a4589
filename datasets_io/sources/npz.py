"""Read NumPy's .npz archives by column and block of rows, without loading a whole column."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, Corrupt


class NpzColumn:
    """One array of an archive, read from its first row on.

    Args:
        file: The archive's member, at its beginning.
        name: Name of the column for messages.

    Raises:
        BadValues: The array is not numeric, or not in row-major order.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:
            raise BadValues(f"{name} is in NumPy's format {version}.", "1.0 or 2.0 was expected.")
        self.shape, by_columns, self.dtype = header(file)
        if self.dtype.kind not in "fiub" or not self.shape:
            raise BadValues(
                f"{name} holds {self.dtype} {list(self.shape)}.", "Numbers, a row a step, are expected."
            )
        if by_columns and len(self.shape) > 1:
            raise BadValues(f"{name} is laid out column by column.", "Write np.ascontiguousarray of it.")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.shape[0])

    def read(self, rows: int) -> Array:
        """Read the next rows, [rows, …].

        Raises:
            Corrupt: The rows are missing or damaged.
        """
        wanted = rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with _convert_errors(self._name):
            data = self._file.read(wanted)
            if len(data) < wanted:
                raise EOFError(f"{wanted - len(data):,} bytes are missing")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])


@contextmanager
def open_npz(path: Any) -> Iterator[dict[str, NpzColumn]]:
    """Open an archive; the context is a dictionary of its columns by name.

    Args:
        path: A file on this machine or in a bucket.

    Raises:
        UnknownName: The file does not exist.
        Corrupt: The file is not an .npz file, or truncated.
        BadValues: An array is not numeric with one row per step.
    """
    with storage.open_input(path) as file:
        with _convert_errors(path):
            archive = zipfile.ZipFile(file)
            members = [(name.removesuffix(".npy"), archive.open(name)) for name in archive.namelist()]
            columns = {name: NpzColumn(member, f"{path}: {name}") for name, member in members}
        with archive:
            yield columns


@contextmanager
def _convert_errors(name: Any) -> Iterator[None]:
    """Convert exceptions of zip and NumPy on damaged files to `Corrupt`."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise Corrupt(f"{name} cannot be read as .npz.", f"{error}") from None
