"""Define locations in buckets and connect to buckets, through `pyarrow.fs`.

Settings are those of the tools of the providers: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL or ~/.aws; GOOGLE_APPLICATION_CREDENTIALS.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import RawIOBase
from pathlib import PurePosixPath
from typing import Any

from datasets_io.storage.errors import convert_errors

SCHEMES = ("s3", "gs")

# Timeouts in seconds, and attempts: a server that does not respond is reported within about 15 s.
_CONNECT_S, _REQUEST_S, _ATTEMPTS = 3, 4, 3
_ENDPOINTS, _REGIONS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("AWS_REGION", "AWS_DEFAULT_REGION")
_IDENTITY = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
_EMULATOR = "STORAGE_EMULATOR_HOST"


@dataclass(frozen=True, order=True)
class Location:
    """File or folder in a bucket. It can be sent to Ray workers; each opens its own connection.

    Args:
        scheme: `s3` or `gs`.
        key: `bucket/folder/name`, without slashes at its ends.
    """

    scheme: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str) -> "Location":
        return Location(self.scheme, "/".join(part for part in f"{self.key}/{name}".split("/") if part))

    @property
    def name(self) -> str:
        """Last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """Name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """Suffix, such as `.parquet`, or an empty text."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "Location":
        """Parent folder; that of a bucket is the bucket itself."""
        return Location(self.scheme, self.key.rpartition("/")[0] or self.key)


class BucketFile(RawIOBase):
    """File of a bucket, open for reading; client errors are converted to errors of this package.

    Args:
        place: Location of the file.

    Raises:
        UnknownName: The file does not exist.
        Unreachable: The bucket does not respond, or refuses access.
    """

    def __init__(self, place: Location) -> None:
        self._place = place
        with convert_errors(place):
            self._file = connect(place).open_input_file(place.key)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, up to the end of the file."""
        with convert_errors(self._place):
            return int(self._file.readinto(buffer))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the offset; no data are fetched yet."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the current offset."""
        return int(self._file.tell())

    def readable(self) -> bool:
        """Return True: the file is open for reading."""
        return True

    def seekable(self) -> bool:
        """Return True: reads can start at any offset."""
        return True

    def close(self) -> None:
        """Close the file."""
        if not self.closed and hasattr(self, "_file"):  # else opening failed
            self._file.close()
        super().close()


def file_info(place: Location) -> Any:
    """Return pyarrow's `FileInfo` of a file or folder."""
    with convert_errors(place):
        return connect(place).get_file_info(place.key)


def list_infos(place: Location, recursive: bool) -> list[Any]:
    """Return the `FileInfo` of all entries of a folder; none if it does not exist."""
    from pyarrow.fs import FileSelector

    with convert_errors(place):
        selector = FileSelector(place.key, recursive=recursive, allow_not_found=True)
        infos: list[Any] = connect(place).get_file_info(selector)
    return infos


def connect(place: Location) -> Any:
    """Return the `pyarrow.fs.FileSystem` in which the key of the location is a path."""
    with convert_errors(place):
        if place.scheme == "gs":
            return _gcs(os.environ.get(_EMULATOR))
        identity = tuple(os.environ.get(name) for name in _IDENTITY)
        return _s3(place.key.partition("/")[0], _first(_ENDPOINTS), _first(_REGIONS), identity)


def _first(names: Sequence[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@lru_cache
def _s3(bucket: str, endpoint: str, region: str, identity: Any) -> Any:
    """Create one pool of connections per set of settings; the client finds the credentials."""
    from pyarrow import fs

    scheme, _, address = endpoint.rpartition("://")
    return fs.S3FileSystem(
        region=region or ("us-east-1" if address else fs.resolve_s3_region(bucket)),
        scheme=scheme or "https",
        endpoint_override=address.rstrip("/") or None,
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


@lru_cache
def _gcs(emulator: str | None) -> Any:
    from datetime import timedelta

    from pyarrow import fs

    limit = timedelta(seconds=_REQUEST_S * _ATTEMPTS)
    if emulator is None:
        return fs.GcsFileSystem(retry_time_limit=limit)
    scheme, _, address = emulator.rpartition("://")
    return fs.GcsFileSystem(
        anonymous=True, scheme=scheme or "http", endpoint_override=address, retry_time_limit=limit
    )
