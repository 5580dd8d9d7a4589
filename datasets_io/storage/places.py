"""Read and write files on this machine or in a bucket (`s3://`, `gs://`).

A path on this machine is a `pathlib.Path`, one in a bucket a `Location` with the same basic interface; the
functions here take either, or text.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from datasets_io.errors import UnknownName, UserError
from datasets_io.storage.buckets import SCHEMES, BucketFile, Location, connect, file_info
from datasets_io.storage.errors import convert_errors, convert_full_disk
from datasets_io.storage.redaction import has_credentials, redact

READ_AHEAD = 2**20
"""Bytes per request: HDF5 and zip read their indices a few bytes at a time, a request takes 20-100 ms."""

Place = Path | Location


def locate(where: str | Place) -> Place:
    """Parse a location: a path, `file://…`, `s3://bucket/key` or `gs://bucket/key`.

    Raises:
        UnknownName: The scheme is unknown, or the bucket is missing, or it is no path.
        UserError: The location contains a key or a password, which would be stored in logs and manifests.
    """
    if isinstance(where, Path | Location):
        return where
    if "\0" in where:
        raise UnknownName(f"{where!r} is no path.", "Expected text without a null character.")
    if "://" in where and has_credentials(where):
        raise UserError(
            f"{redact(where)} contains a user, a password or a signature.",
            "Credentials are read from environment variables, which are not stored.",
            "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
        )
    scheme, separator, rest = where.partition("://")
    if not separator:
        return Path(where)
    if scheme == "file":
        return Path(unquote(urlsplit(where).path))
    if scheme not in SCHEMES:
        raise UnknownName(
            f"{where} has an unknown scheme.", f"Expected: a path, file://, {'://, '.join(SCHEMES)}://."
        )
    if not rest.strip("/"):
        raise UnknownName(f"{where!r} names no bucket.", "", f"{scheme}://BUCKET/FOLDER")
    return Location(scheme, "/".join(part for part in rest.split("/") if part))


def absolute(where: str | Place) -> Place:
    """Return the absolute location, valid in processes with another current folder."""
    place = locate(where)
    return place.absolute() if isinstance(place, Path) else place


def open_input(where: str | Place, buffer: int = READ_AHEAD) -> BufferedReader:
    """Open a file for reading; it can seek, also in a bucket, where only the parts read are fetched.

    Args:
        where: The file.
        buffer: Least number of bytes fetched by a read from a bucket.

    Raises:
        UnknownName: The file does not exist.
        Unreachable: The bucket does not respond, or refuses access.
    """
    place = locate(where)
    if isinstance(place, Location):
        return BufferedReader(BucketFile(place), buffer)
    with convert_errors(place):
        return place.open("rb")


def filesystem(where: str | Place) -> tuple[Any, str]:
    """Return a `pyarrow.fs.FileSystem` and the path in it, for readers of pyarrow."""
    from pyarrow.fs import LocalFileSystem

    place = locate(where)
    return (LocalFileSystem(), str(place)) if isinstance(place, Path) else (connect(place), place.key)


@contextmanager
def open_output(where: str | Place) -> Iterator[BinaryIO]:
    """Open a file for writing; it appears under its name, complete, only if the block succeeds.

    Missing parent folders are created.

    Raises:
        NoSpace: The disk is full.
        Unreachable: The bucket does not respond, or refuses access.
    """
    place = locate(where)
    scratch = temporary_path_for(place)
    with convert_errors(scratch.parent):  # without a folder, the file could not even be deleted
        scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        with convert_errors(scratch.parent):
            file = scratch.open("wb")
        with convert_full_disk(place), file:
            yield file
        publish(scratch, place)
    finally:
        scratch.unlink(missing_ok=True)


def temporary_path_for(place: Place) -> Path:
    """Return a new path on this machine for a file that is being written, until `publish` moves it."""
    folder = place.parent if isinstance(place, Path) else Path(tempfile.gettempdir())
    return folder / f".{uuid.uuid4().hex}.tmp"


def publish(scratch: Path, place: Place) -> None:
    """Move a finished file to its final location atomically.

    A bucket shows an object only after its upload is complete, so a killed process leaves no partial file.

    Raises:
        NoSpace: The disk is full.
        Unreachable: The bucket does not respond, or refuses access.
    """
    with convert_errors(place):
        if isinstance(place, Path):
            with scratch.open("rb") as file:
                os.fsync(file.fileno())  # else a power failure could keep the name and lose the content
            os.replace(scratch, place)
            return
        from pyarrow import fs

        # In one call: a stream closed by an exception would leave a truncated object.
        fs.copy_files(
            str(scratch), place.key, fs.LocalFileSystem(), connect(place), chunk_size=8 * READ_AHEAD
        )
        scratch.unlink()


def copy(source: Place, target: Place) -> None:
    """Copy a file atomically: as a hard link where the file system supports it, else as a copy."""
    with convert_errors(target):
        if isinstance(source, Location):
            connect(source).copy_file(source.key, filesystem(target)[1])
            return
        assert isinstance(target, Path)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = temporary_path_for(target)
        try:
            os.link(source, scratch)
        except OSError:  # a file system without links
            shutil.copyfile(source, scratch)
        os.replace(scratch, target)


def read_bytes(where: str | Place) -> bytes:
    """Read a whole file; see `open_input`."""
    with open_input(where) as file:
        return file.read()


def read_text(where: str | Place) -> str:
    """Read a whole UTF-8 text; see `open_input`."""
    return read_bytes(where).decode()


def write_text(where: str | Place, text: str) -> None:
    """Write a text in UTF-8 atomically; see `open_output`."""
    with open_output(where) as file:
        file.write(text.encode())


def is_file(where: str | Place) -> bool:
    """Return True if the file exists."""
    place = locate(where)
    return _ask(place, Path.is_file) if isinstance(place, Path) else bool(file_info(place).is_file)


def is_folder(where: str | Place) -> bool:
    """Return True if the folder exists; in a bucket: if it holds an object."""
    place = locate(where)
    return _ask(place, Path.is_dir) if isinstance(place, Path) else file_info(place).type.name == "Directory"


def exists(where: str | Place) -> bool:
    """Return True if a file or a folder exists."""
    place = locate(where)
    return _ask(place, Path.exists) if isinstance(place, Path) else file_info(place).type.name != "NotFound"


def _ask(place: Path, question: Callable[[Path], bool]) -> bool:
    with convert_errors(place):
        try:
            return question(place)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise


def size(where: str | Place) -> int:
    """Return the size of a file in bytes.

    Raises:
        UnknownName: The file does not exist.
    """
    place = locate(where)
    with convert_errors(place):
        if isinstance(place, Path):
            return place.stat().st_size
        if not (info := file_info(place)).is_file:
            raise FileNotFoundError(place.key)
        return int(info.size)


def delete(where: str | Place) -> None:
    """Delete a file, or a folder with its content; a missing one is not an error."""
    place = locate(where)
    with convert_errors(place):
        if isinstance(place, Path):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        elif (kind := file_info(place).type.name) == "Directory":
            connect(place).delete_dir(place.key)
        elif kind == "File":
            connect(place).delete_file(place.key)
