"""Read NumPy's .npz archives by column and block of rows, without loading a whole column."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, Corrupt, UnknownName

_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_COMPRESSION = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ENCRYPTED = 1  # flag of a member


class NpzColumn:
    """One array of an archive, read from its first row on.

    Args:
        file: The archive's member, at its beginning.
        name: Name of the column for messages.
        size: Bytes of the member, as the archive declares them.

    Raises:
        BadValues: The array is not numeric, or not in row-major order.
        Corrupt: Its header is damaged, or declares more than the member has.
    """

    def __init__(self, file: Any, name: str, size: int) -> None:
        self._file, self.name = file, name
        with _convert_errors(name):
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise BadValues(f"{name} is in NumPy's format {version}.", "1.0 or 2.0 was expected.")
            shape, by_columns, self.dtype = _HEADERS[version](file)
            self.shape = tuple(map(int, shape))
        if self.dtype.kind not in "fiub" or not self.shape:
            raise BadValues(
                f"{name} holds {self.dtype} {list(self.shape)}.", "Numbers, a row a step, are expected."
            )
        if by_columns and len(self.shape) > 1:
            raise BadValues(f"{name} is laid out column by column.", "Write np.ascontiguousarray of it.")
        needed = self.dtype.itemsize
        for length in self.shape:
            needed *= length
        if min(self.shape) < 0 or needed > size:
            raise Corrupt(f"{name} declares {self.dtype} {list(self.shape)}, but has {size:,} bytes.")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def read(self, rows: int) -> Array:
        """Read the next rows, [rows, …].

        Raises:
            Corrupt: The rows are missing or damaged.
        """
        wanted = rows * int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with _convert_errors(self.name):
            data = self._file.read(wanted)
            if len(data) < wanted:
                raise EOFError(f"{wanted - len(data):,} bytes are missing")
        values = np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
        return values.astype(self.dtype.newbyteorder("="), copy=False)


class NpzFile:
    """An open archive; use `open_npz`. A column is opened when it is asked for, others are not looked at."""

    def __init__(self, archive: zipfile.ZipFile, path: Any) -> None:
        self._archive, self.path, self.bytes = archive, path, storage.size(path)
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.names = list(self._members)

    def __contains__(self, name: str) -> bool:
        """Return True if the archive has an array of this name."""
        return name in self._members

    def columns(self, names: Sequence[str]) -> dict[str, NpzColumn]:
        """Open those of the arrays that exist, each at its first row.

        Raises:
            BadValues: One is encrypted, compressed otherwise than NumPy does, or holds no numbers.
            Corrupt: One is damaged.
        """
        return {name: self._column(name) for name in names if name in self}

    def _column(self, name: str) -> NpzColumn:
        info, where = self._members[name], f"{self.path}: {name}"
        if info.flag_bits & _ENCRYPTED:
            raise BadValues(
                f"{where} is encrypted.", "Unpack it and write it again with np.savez_compressed."
            )
        if info.compress_type not in _COMPRESSION:
            kind = _OTHER_COMPRESSION.get(info.compress_type, f"method {info.compress_type}")
            raise BadValues(
                f"{where} is compressed by {kind}.", "Write it with np.savez_compressed, which uses deflate."
            )
        with _convert_errors(where):
            member = self._archive.open(info)
        return NpzColumn(member, where, info.file_size)


@contextmanager
def open_npz(path: Any) -> Iterator[NpzFile]:
    """Open an archive.

    Args:
        path: A file on this machine or in a bucket.

    Raises:
        UnknownName: The file does not exist, or is no regular file.
        Corrupt: The file is not an .npz file, or truncated.
    """
    if not storage.is_file(path):
        raise UnknownName(f"there is no file {path}.")
    with storage.open_input(path) as file:
        with _convert_errors(path):
            archive = zipfile.ZipFile(file)
        with archive:
            yield NpzFile(archive, path)


@contextmanager
def _convert_errors(name: Any) -> Iterator[None]:
    """Convert exceptions of zip and NumPy on damaged files to `Corrupt`."""
    try:
        yield
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, struct.error, RuntimeError),
        # Of a header, which NumPy parses as Python literals:
        *(ValueError, TypeError, SyntaxError, tokenize.TokenError, KeyError, OverflowError, MemoryError),
    ) as error:
        raise Corrupt(f"{name} cannot be read as .npz.", f"{error}") from None
