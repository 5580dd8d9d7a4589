"""Files and folders wherever they lie: on this machine, or in a bucket (`s3://`, `gs://`) with `pyarrow.fs`.

A place on this machine is a `pathlib.Path`, one in a bucket a `Location` with the same small surface; the
functions here take either, or text. Buckets are found as their own tools find them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL or ~/.aws; GOOGLE_APPLICATION_CREDENTIALS.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from datasets_io.errors import UnknownName
from datasets_io.storage_errors import explained, writing

SCHEMES = ("s3", "gs")
READ_AHEAD = 2**20
"""Bytes fetched at once: HDF5 and zip read their indices a few bytes at a time, a request takes 20-100 ms."""

# Three attempts of these many seconds: what does not answer is reported within about 15 s.
_CONNECT_S, _SILENCE_S, _ATTEMPTS = 3, 5, 3
_ENDPOINTS, _REGIONS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("AWS_REGION", "AWS_DEFAULT_REGION")
_IDENTITY = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
_EMULATOR = "STORAGE_EMULATOR_HOST"


@dataclass(frozen=True, order=True)
class Location:
    """A file or folder in a bucket. It travels to Ray's workers; each opens its own connection.

    Args:
        scheme: `s3` or `gs`.
        key: `bucket/folder/name`, without slashes at its ends.
    """

    scheme: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> "Location":
        return Location(self.scheme, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """`.parquet`, or nothing."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "Location":
        """The folder it lies in; a bucket's is the bucket itself."""
        return Location(self.scheme, self.key.rpartition("/")[0] or self.key)


Place = Path | Location


def locate(where: str | Path | Location) -> Place:
    """A text as a place: a path, `file://…`, `s3://bucket/key` or `gs://bucket/key`.

    Raises:
        UnknownName: Another scheme, or no bucket.
    """
    if isinstance(where, Path | Location):
        return where
    scheme, separator, rest = where.partition("://")
    if not separator:
        return Path(where)
    if scheme == "file":
        return Path(unquote(urlsplit(where).path))
    if scheme not in SCHEMES:
        raise UnknownName(f"{where} is nowhere.", f"A place is a path, file://, {'://, '.join(SCHEMES)}://.")
    if not rest.strip("/"):
        raise UnknownName(f"{where!r} names no bucket.", "", f"{scheme}://BUCKET/FOLDER")
    return Location(scheme, "/".join(part for part in rest.split("/") if part))


def absolute(where: str | Path | Location) -> Place:
    """The same place for a process with another current folder."""
    place = locate(where)
    return place.absolute() if isinstance(place, Path) else place


def open_input(where: str | Path | Location, buffer: int = READ_AHEAD) -> BinaryIO:
    """Opens a file for reading; it can seek, also in a bucket, where only what is read is fetched.

    Args:
        where: The file.
        buffer: Bytes that a read in a bucket fetches at least.

    Raises:
        UnknownName: There is no such file.
        Unreachable: The bucket does not answer, or does not let us in.
    """
    place = locate(where)
    with explained(place):
        if isinstance(place, Path):
            return place.open("rb")
        return cast(BinaryIO, BufferedReader(_Object(place, _filesystem(place)), buffer))


class _Object(RawIOBase):
    """An object of a bucket, whose errors are ours whenever they come."""

    def __init__(self, place: Location, system: Any) -> None:
        self._place, self._file = place, system.open_input_file(place.key)

    def readinto(self, buffer: Any) -> int:
        with explained(self._place):
            return int(self._file.readinto(buffer))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def open_output(where: str | Path | Location) -> Iterator[BinaryIO]:
    """A file to write, which appears under its name when the block ends well, whole, or not at all.

    Folders above it are made.

    Raises:
        NoSpace: The disk is full.
        Unreachable: The bucket does not answer, or does not let us in.
    """
    place = locate(where)
    scratch = scratch_for(place)
    try:
        with explained(scratch.parent):
            scratch.parent.mkdir(parents=True, exist_ok=True)
            file = scratch.open("wb")
        with writing(scratch), file:
            yield file
        publish(scratch, place)
    finally:
        scratch.unlink(missing_ok=True)


def scratch_for(place: Place) -> Path:
    """A new name on this machine under which a file may be written until `publish` puts it in its place."""
    folder = place.parent if isinstance(place, Path) else Path(tempfile.gettempdir())
    return folder / f".{uuid.uuid4().hex}.tmp"


def publish(scratch: Path, place: Place) -> None:
    """Puts a finished file in its place in one step; whoever looks sees the old one, the new one or none.

    A bucket shows an object only when its upload was completed, so a process that dies in it leaves nothing.

    Raises:
        NoSpace: The disk is full.
        Unreachable: The bucket does not answer, or does not let us in.
    """
    with explained(place):
        if isinstance(place, Path):
            with scratch.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut could keep the name and lose what it names
            os.replace(scratch, place)
            return
        from pyarrow import fs

        # In one call: a stream that an exception closes would pass for whole.
        fs.copy_files(
            str(scratch), place.key, fs.LocalFileSystem(), _filesystem(place), chunk_size=8 * READ_AHEAD
        )
        scratch.unlink()


def read_bytes(where: str | Path | Location) -> bytes:
    """All of a file; see `open_input`."""
    with explained(locate(where)), open_input(where) as file:
        return file.read()


def read_text(where: str | Path | Location) -> str:
    """All of a text in UTF-8; see `open_input`."""
    return read_bytes(where).decode()


def write_text(where: str | Path | Location, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; see `open_output`."""
    with open_output(where) as file:
        file.write(text.encode())


def is_file(where: str | Path | Location) -> bool:
    """Whether there is a file."""
    place = locate(where)
    return place.is_file() if isinstance(place, Path) else bool(_info(place).is_file)


def is_folder(where: str | Path | Location) -> bool:
    """Whether there is a folder; in a bucket: whether anything lies below it."""
    place = locate(where)
    return place.is_dir() if isinstance(place, Path) else _kind(place) == "Directory"


def exists(where: str | Path | Location) -> bool:
    """Whether there is a file or a folder."""
    place = locate(where)
    return place.exists() if isinstance(place, Path) else _kind(place) != "NotFound"


def size(where: str | Path | Location) -> int:
    """Bytes of a file.

    Raises:
        UnknownName: There is no such file.
    """
    place = locate(where)
    with explained(place):
        if isinstance(place, Path):
            return place.stat().st_size
        if not (info := _info(place)).is_file:
            raise FileNotFoundError(place.key)
        return int(info.size)


def list_files(
    where: str | Path | Location, suffixes: Sequence[str] = (), recursive: bool = False
) -> list[str]:
    """The files of a folder, in the order of their names; of a file, itself.

    Args:
        where: The folder.
        suffixes: Only names that end so.
        recursive: Those of its folders too.

    Raises:
        UnknownName: There is nothing.
        Unreachable: The bucket does not answer, or does not let us in.
    """
    return [str(place) for place, _, _ in _listed(locate(where), suffixes, recursive)]


def list_folders(where: str | Path | Location) -> list[Place]:
    """The folders directly in a folder, in the order of their names; none if it is not there."""
    place = locate(where)
    if isinstance(place, Path):
        return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    found = _select(place, recursive=False)
    return sorted(Location(place.scheme, info.path) for info in found if info.type.name == "Directory")


def delete(where: str | Path | Location) -> None:
    """Deletes a file, or a folder with all that it holds; what is not there is no error."""
    place = locate(where)
    with explained(place):
        if isinstance(place, Path):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        elif (kind := _kind(place)) == "Directory":
            _filesystem(place).delete_dir(place.key)
        elif kind == "File":
            _filesystem(place).delete_file(place.key)


def versions(where: str | Path | Location) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change (ns) of a file or of every file below a folder.

    They stand for its content in a bucket, whose objects never change without their time, and reading which
    would take as long as using them.

    Raises:
        UnknownName: There is nothing.
    """
    place = locate(where)
    return [
        (str(file).removeprefix(str(place)), count, time) for file, count, time in _listed(place, (), True)
    ]


def _listed(place: Place, suffixes: Sequence[str], recursive: bool) -> list[tuple[Place, int, int]]:
    found: list[tuple[Place, int, int]]
    with explained(place):
        if isinstance(place, Path):
            inside = [place] if place.is_file() else place.rglob("*") if recursive else place.iterdir()
            paths = [path for path in inside if path.is_file()]
            if not paths and not place.exists():
                raise FileNotFoundError(str(place))
            found = [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        else:
            here = _info(place)
            if here.type.name == "NotFound":
                raise FileNotFoundError(place.key)
            infos = [here] if here.is_file else _select(place, recursive)
            found = [
                (Location(place.scheme, info.path), info.size, info.mtime_ns)
                for info in infos
                if info.is_file
            ]
    return sorted(one for one in found if not suffixes or one[0].name.endswith(tuple(suffixes)))


def _select(place: Location, recursive: bool) -> list[Any]:
    from pyarrow.fs import FileSelector

    with explained(place):
        selector = FileSelector(place.key, recursive=recursive, allow_not_found=True)
        infos: list[Any] = _filesystem(place).get_file_info(selector)
    return infos


def _info(place: Location) -> Any:
    with explained(place):
        return _filesystem(place).get_file_info(place.key)


def _kind(place: Location) -> str:
    return str(_info(place).type.name)


def filesystem(where: str | Path | Location) -> tuple[Any, str]:
    """What pyarrow's own readers take: a `pyarrow.fs.FileSystem` and the path in it."""
    from pyarrow.fs import LocalFileSystem

    place = locate(where)
    return (LocalFileSystem(), str(place)) if isinstance(place, Path) else (_filesystem(place), place.key)


def _filesystem(place: Location) -> Any:
    with explained(place):
        if place.scheme == "gs":
            return _gcs(os.environ.get(_EMULATOR))
        who = tuple(os.environ.get(name) for name in _IDENTITY)
        return _s3(place.key.partition("/")[0], _first(_ENDPOINTS), _first(_REGIONS), who)


def _first(names: Sequence[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@lru_cache
def _s3(bucket: str, endpoint: str, region: str, who: Any) -> Any:
    """One connection pool for each set of settings; the credentials themselves are the client's to find."""
    from pyarrow import fs

    scheme, _, address = endpoint.rpartition("://")
    return fs.S3FileSystem(
        region=region or ("us-east-1" if address else fs.resolve_s3_region(bucket)),
        scheme=scheme or "https",
        endpoint_override=address.rstrip("/") or None,
        connect_timeout=_CONNECT_S,
        request_timeout=_SILENCE_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


@lru_cache
def _gcs(emulator: str | None) -> Any:
    from datetime import timedelta

    from pyarrow import fs

    limit = timedelta(seconds=_SILENCE_S * _ATTEMPTS)
    if emulator is None:
        return fs.GcsFileSystem(retry_time_limit=limit)
    scheme, _, address = emulator.rpartition("://")
    return fs.GcsFileSystem(
        anonymous=True, scheme=scheme or "http", endpoint_override=address, retry_time_limit=limit
    )
