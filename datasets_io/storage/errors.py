"""Convert errors of disks and buckets to errors that a user can correct."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasets_io.errors import NoSpace, UnknownName, Unreachable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a full disk."""
_CLIENTS = ("AWS Error", "google::cloud")
_REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE",
    "TOKEN",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "HTTP STATUS 401",
    "HTTP STATUS 403",
)


@contextmanager
def convert_errors(place: Any) -> Iterator[None]:
    """Convert an `OSError` about a location to an error of this package; others pass unchanged.

    Raises:
        UnknownName: The file, folder or bucket does not exist.
        NoSpace: The disk is full.
        Unreachable: The bucket does not respond, or refuses access; or the system refuses it (no permission,
            a file in the place of a folder, a read-only disk …).
    """
    try:
        yield
    except OSError as error:
        found = _of(place, error)
        if found is None:
            raise
        raise found from None


@contextmanager
def convert_full_disk(place: Any) -> Iterator[None]:
    """Convert the error of a full disk; other errors pass unchanged.

    Raises:
        NoSpace: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _full(place, error) from None
        raise


def _full(place: Any, error: OSError) -> NoSpace:
    reason = os.strerror(error.errno or errno.ENOSPC)  # the text of pyarrow is longer and less specific
    return NoSpace(f"{place} cannot be written: {reason}.", "Free some space and run the command again.")


def _of(place: Any, error: OSError) -> Exception | None:
    if error.errno in FULL:
        return _full(place, error)
    if isinstance(place, Path):
        if isinstance(error, FileNotFoundError):
            return UnknownName(
                f"there is no file or folder {place}.", f"Looked in {place.absolute().parent}."
            )
        # Without a number it is an error of a library about the content of a file.
        return Unreachable(f"{place}: {os.strerror(error.errno)}.") if error.errno else None
    text, bucket = str(error), place.key.partition("/")[0]
    if isinstance(error, FileNotFoundError):
        return UnknownName(f"there is no {place}.", f"Looked in {place.parent}.")
    if "NO_SUCH_BUCKET" in text:
        return UnknownName(f"there is no bucket {bucket!r}.", f"Looked on {_server(place)}.")
    if not any(client in text for client in _CLIENTS):
        return None  # an error inside an open file
    if any(word in text.upper() for word in _REFUSED):
        return Unreachable(
            f"{_server(place)} refuses access to {place}.", _credentials(place), _example(place)
        )
    return Unreachable(f"{place} cannot be reached.", f"{_server(place)}: {_short(text)}", _example(place))


def _server(place: Any) -> str:
    if place.scheme == "gs":
        return os.environ.get("STORAGE_EMULATOR_HOST") or "Google Cloud Storage"
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return address.rpartition("@")[2] if address else "Amazon S3"  # a password may stand before the @


def _credentials(place: Any) -> str:
    """List the names of the credentials that are set, without their values."""
    if place.scheme == "gs":
        there = "is" if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") else "is not"
        return f"GOOGLE_APPLICATION_CREDENTIALS {there} set."
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return ", ".join(f"{name} is {'' if os.environ.get(name) else 'not '}set" for name in names) + "."


def _example(place: Any) -> str:
    if place.scheme == "gs":
        return "export GOOGLE_APPLICATION_CREDENTIALS=key.json"
    return "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=us-east-1 AWS_ENDPOINT_URL=https://HOST"


def _short(text: str) -> str:
    """Extract the reason from a message of a client library."""
    return text.rpartition("Details: ")[2].partition(" error_info=")[0].strip()[-200:].rstrip(".") + "."
