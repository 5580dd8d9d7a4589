"""Open HDF5 files: columns within the file itself, read in blocks; links out of it are not followed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.storage import Place

CHUNK_BYTES = 2**27
"""Bytes of a chunk, at most: reading one of its rows unpacks the whole chunk."""
_MAX_LINKS = 16
_LISTED = 40
_FOREIGN = (
    "Expected: data in the file itself. Copy them into it with h5py: file.copy(…, expand_external=True)"
)


class Hdf5Column:
    """A dataset of numbers with one row a step.

    Args:
        dataset: The h5py dataset.
        name: Name for messages, with the file.

    Raises:
        BadValues: Its values are outside the file, or of no type that NumPy has.
        Corrupt: Its header is damaged, or its chunks are too large.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.name, self._data = name, dataset
        with _convert_errors(name):
            plist = dataset.id.get_create_plist()
            outside = dataset.is_virtual or plist.get_external_count() > 0
            chunks = dataset.chunks
            shape = dataset.shape
        if outside:
            raise BadValues(f"{name} has its values in other files (external or virtual).", _FOREIGN)
        self.shape: tuple[int, ...] = () if shape is None else tuple(map(int, shape))
        try:
            self.dtype: Any = dataset.dtype
        except TypeError as error:
            raise BadValues(f"{name} holds no numbers: {error}.") from None
        if (
            chunks is not None
            and (size := self.dtype.itemsize * int(np.prod(chunks, dtype=object))) > CHUNK_BYTES
        ):
            raise Corrupt(
                f"{name} is stored in chunks of {size:,} bytes.",
                f"Expected: at most {CHUNK_BYTES:,}; write it with chunks=True.",
            )

    def read(self, start: int, stop: int) -> Array:
        """Read rows start … stop (exclusive), [stop - start, …].

        Raises:
            Corrupt: They cannot be read.
        """
        with _convert_errors(f"{self.name}, row {start:,},"):
            values: Array = self._data[start:stop]
        if self.dtype.byteorder == ">":
            return values.astype(self.dtype.newbyteorder("="))
        return values

    def value(self) -> Any:
        """Return the value of a scalar dataset of numbers."""
        with _convert_errors(self.name):
            return self._data[()]


class Hdf5File:
    """An open file; use `open_hdf5`."""

    def __init__(self, file: Any, path: Place) -> None:
        self._file, self.path = file, path
        self.bytes = storage.size(path)

    def __contains__(self, key: str) -> bool:
        """Return True if there is a link of this name, wherever it leads."""
        group, _, name = key.rpartition("/")
        with _convert_errors(self.path):
            parent = self._object(group) if group else self._file
            return _has_link(parent, name)

    def column(self, key: str) -> Hdf5Column:
        """Return a dataset.

        Raises:
            MissingColumn: It does not exist.
            BadValues: It is a group, or a link leads nowhere, in a circle or out of the file.
        """
        if key not in self:
            raise MissingColumn(f"{self.path} has no {key!r}.", f"There are: {' '.join(self.names())}")
        with _convert_errors(self.path):
            item = self._object(key)
        if not isinstance(item, h5py.Dataset):
            raise BadValues(f"{self.path}: {key} is a {type(item).__name__.lower()}, not an array.")
        return Hdf5Column(item, f"{self.path}: {key}")

    def columns(self, keys: Sequence[str]) -> dict[str, Hdf5Column]:
        """Return those of the datasets that exist."""
        return {key: self.column(key) for key in keys if key in self}

    def names(self) -> list[str]:
        """Return the names of the datasets, the first of them if there are many."""
        found: list[str] = []

        def visit(name: str | bytes, item: Any) -> bool | None:
            if isinstance(item, h5py.Dataset):  # a name that is no UTF-8 comes as bytes
                found.append(name if isinstance(name, str) else name.decode(errors="backslashreplace"))
            return True if len(found) == _LISTED else None

        with _convert_errors(self.path):
            self._file.visititems(visit)
        return [*sorted(found), "…"] if len(found) == _LISTED else sorted(found)

    def _object(self, key: str) -> Any:
        """Return an object, following soft links within the file only."""
        words, item, links = key.strip("/").split("/"), self._file, 0
        while words:
            word = words.pop(0)
            if not _has_link(item, word):
                if links:
                    raise self._bad_link(key, "leads nowhere")
                return None
            link = item.get(word, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise BadValues(f"{self.path}: {key} is a link to the file {link.filename!r}.", _FOREIGN)
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > _MAX_LINKS:
                    raise self._bad_link(key, "leads in a circle")
                item = self._file if link.path.startswith("/") else item
                words = [part for part in link.path.split("/") if part not in ("", ".")] + words
            else:
                item = item[word]
        return item

    def _bad_link(self, key: str, problem: str) -> BadValues:
        return BadValues(f"{self.path}: {key} is a link that {problem}.", "Expected: an array.")


def _has_link(group: Any, name: str) -> bool:
    """Return True if a group has a link of this name; `in` of h5py would follow it."""
    return isinstance(group, h5py.Group) and bool(name) and group.id.links.exists(name.encode())


@contextmanager
def open_hdf5(path: Place) -> Iterator[Hdf5File]:
    """Open a file for reading.

    Raises:
        UnknownName: The file does not exist, or is no regular file.
        Corrupt: It is not HDF5, or truncated.
    """
    if not storage.is_file(path):
        raise UnknownName(f"there is no file {path}.", f"Looked in {storage.absolute(path).parent}.")
    with _convert_errors(path):
        file = h5py.File(path if isinstance(path, Path) else storage.open_input(path), "r")
    with file:
        yield Hdf5File(file, path)


@contextmanager
def _convert_errors(what: Any) -> Iterator[None]:
    """Convert the exceptions of HDF5 on damaged files to `Corrupt`."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise Corrupt(f"{what} cannot be read as HDF5.", f"{error}") from None
