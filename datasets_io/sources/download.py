"""Download D4RL's files by id: cached, resumed after an interruption, verified at each use."""

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import h5py
from pydantic import NonNegativeInt

from datasets_io import storage
from datasets_io.errors import Corrupt, Offline, UnknownName, UserError
from datasets_io.registry import minari_counterpart, registry
from datasets_io.storage.documents import read_json
from datasets_io.storage.errors import FULL, convert_errors
from datasets_io.storage.locks import lock_place
from datasets_io.storage.redaction import has_credentials, redact

T = TypeVar("T")

MIRROR = "OFF2ON_D4RL_MIRROR"
"""Environment variable with the address of another server."""
SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_ATTEMPTS = 5
_BLOCK = 1 << 20

Progress = Callable[[int, int], None]
"""Function called with bytes so far and in total."""


@dataclass(frozen=True)
class Downloaded:
    """Record of a complete file: its address, size and hash; NAME.json."""

    url: str
    bytes: NonNegativeInt
    sha256: str


@dataclass(frozen=True)
class Validator:
    """Version of the server's file to which a partial file belongs, NAME.part.json.

    Args:
        tag: The server's ETag or date; None if it sent none.
        bytes: Size of the whole file; None if the server did not say.
    """

    tag: str | None
    bytes: NonNegativeInt | None


class _ConnectionLostError(Exception):
    """The connection ended before the file did."""


def cache_root() -> Path:
    """Return the folder of downloads: $OFF2ON_CACHE, else ~/.cache/off2on."""
    return Path(os.environ.get("OFF2ON_CACHE") or Path.home() / ".cache" / "off2on")


def url_of(name: str) -> str:
    """Return the URL of a D4RL id's file; $OFF2ON_D4RL_MIRROR replaces everything up to …/offline_rl.

    Raises:
        UnknownName: The name is not a D4RL id.
        UserError: $OFF2ON_D4RL_MIRROR is not an address.
    """
    entry = registry().get(name)
    if entry is None:
        raise UnknownName(
            f"D4RL has no data set {name!r}.", f"It has {len(registry())}.", given=name, known=registry()
        )
    return f"{_server()}/{entry.file}"


def _server() -> str:
    given = os.environ.get(MIRROR)
    if not given:
        return SERVER
    try:
        parts = urlsplit(given)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of its port, or of an address in brackets
        valid = False
    if not valid or not given.isascii() or not given.isprintable() or " " in given or has_credentials(given):
        raise UserError(
            f"{MIRROR} is {redact(given)!r}.",
            "Expected http:// or https://, a host, perhaps a port, and a folder; no user, no password.",
            f"export {MIRROR}=http://HOST/offline_rl",
        )
    return given.rstrip("/")


def fetch(name: str, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Return the file of a D4RL id, from the cache or the network.

    Args:
        name: "hopper-medium-v2".
        progress: Called with bytes so far and in total.
        timeout: Seconds to wait for the server.

    Returns:
        The HDF5 file; beside it NAME.json holds its address, size and SHA-256.

    Raises:
        Offline: The server cannot be reached, or the connection fails repeatedly; partial data are kept.
        Corrupt: The cached file has changed since its download, or the server sent something else than HDF5.
        UnknownName: The name is not a D4RL id.
        Exists: Another process is downloading it.
        UserError: $OFF2ON_D4RL_MIRROR is not an address.
    """
    url, folder = url_of(name), cache_root() / "d4rl"
    target, part = folder / f"{name}.hdf5", folder / f"{name}.part"
    if _is_whole(target):
        return target
    with lock_place(target):
        if _is_whole(target):  # another process has just downloaded it
            return target
        try:
            _download(name, url, part, progress, timeout)
        except UserError:
            if part.is_file() and not part.stat().st_size:
                _remove(part)
            raise
        known = Downloaded(url, part.stat().st_size, _sha256(part))
        storage.write_text(_record(target), json.dumps(asdict(known), indent=1))
        storage.publish(part, target)
        storage.delete(_validator(part))
    return target


def _is_whole(target: Path) -> bool:
    """Return True if the file was downloaded completely.

    Raises:
        Corrupt: It has changed since.
    """
    record = _read(_record(target), Downloaded)
    if record is None or not target.is_file():
        return False
    if _sha256(target) != record.sha256:
        raise Corrupt(f"{target} is not what was downloaded.", "Its SHA-256 is another one.", f"rm {target}")
    return True


def _read(path: Path, schema: type[T]) -> T | None:
    """Read a side file; None if it is missing, or damaged by a crash."""
    if not path.is_file():
        return None
    try:
        return read_json(path, schema)
    except Corrupt:
        return None


def _download(name: str, url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """Complete the partial file, and check that it is HDF5."""
    with convert_errors(part), part.open("ab") as file:
        _receive(name, url, file, part, progress, timeout)
    try:
        h5py.File(part, "r").close()
    except (OSError, RuntimeError):
        with part.open("rb") as file:
            start = file.read(40)
        size = part.stat().st_size
        _remove(part)
        raise Corrupt(
            f"{url} is no whole HDF5 file: {size:,} bytes that begin with {start!r}.", _alternatives(name)
        ) from None


def _remove(part: Path) -> None:
    part.unlink()
    storage.delete(_validator(part))


def _receive(
    name: str, url: str, file: BinaryIO, part: Path, progress: Progress | None, timeout: float
) -> None:
    """Append to the partial file until it has all bytes."""
    failures = 0
    while True:
        before = part.stat().st_size
        try:
            return _attempt(url, file, part, progress, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise Offline(f"{url} answers {error.code} {error.reason}.", _alternatives(name)) from None
        except (_ConnectionLostError, http.client.HTTPException, OSError, ValueError) as error:
            # URLError is an OSError; a ValueError is one of an address, that of a redirection perhaps.
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            file.flush()
            got = part.stat().st_size
            # After a lost connection the download is retried as long as each attempt makes progress.
            failures = 0 if got > before else failures + 1
            never_reached = isinstance(error, urllib.error.URLError | http.client.InvalidURL | ValueError)
            if failures >= _ATTEMPTS or (never_reached and failures):
                reason = getattr(error, "reason", error)
                kept = f" {got:,} bytes are kept, and the next run goes on from there." if got else ""
                raise Offline(
                    f"{url} cannot be downloaded: {reason}.", f"{_alternatives(name)}{kept}"
                ) from None
            time.sleep(0.1 * failures)


def _alternatives(name: str) -> str:
    pair = minari_counterpart(name)
    return (
        f"With the file at hand: off2on data add {name} PATH. "
        f"From another server: {MIRROR}=http://…/offline_rl."
        + (f" From Minari ({pair.how}): off2on data add minari/{pair.minari}." if pair and pair.same else "")
    )


def _attempt(url: str, file: BinaryIO, part: Path, progress: Progress | None, timeout: float) -> None:
    """Download the missing bytes over one connection, or the whole file if it has changed."""
    have = part.stat().st_size
    before = _read(_validator(part), Validator)
    headers = {"User-Agent": "off2on"}
    if have and before is not None:
        headers["Range"] = f"bytes={have}-"
        if before.tag:
            headers["If-Range"] = before.tag
    elif have:
        file.truncate(0)  # of unknown origin
        have = 0
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if before is not None and have == before.bytes:
            return
        file.truncate(0)
        raise _ConnectionLostError("the server's file has changed") from None
    with answer:
        total = _total(answer, have)
        if answer.status == 206 and before is not None and total not in (before.bytes, None):
            file.truncate(0)
            raise _ConnectionLostError("the server's file has changed")
        if answer.status != 206:
            if answer.headers.get_content_type() == "text/html":  # of a hotel's network, perhaps
                raise Corrupt(
                    f"{url} answers with a page, not with a file.", "What was received before is kept."
                )
            file.truncate(0)
            have = 0
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            # A weak tag must not be sent in If-Range (RFC 9110, 13.1.5).
            tag = None if tag is None or tag.startswith("W/") else tag
            storage.write_text(_validator(part), json.dumps(asdict(Validator(tag, total))))
        while block := answer.read(_BLOCK):
            file.write(block)
            have += len(block)
            if progress is not None:
                progress(have, total or have)
        file.flush()
    if total is not None and have < total:
        raise _ConnectionLostError(f"the server broke off at {have:,} of {total:,} bytes")


def _total(answer: Any, have: int) -> int | None:
    """Return the size of the whole file; None if the response does not give it."""
    if answer.status == 206:
        first, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if not first.startswith(f"{have}-"):
            raise _ConnectionLostError(f"the server sent bytes {first}, not those from {have}")
        return _number(total)
    return _number(answer.headers.get("Content-Length", ""))


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _record(target: Path) -> Path:
    return target.with_suffix(".json")


def _validator(part: Path) -> Path:
    """Return the path, beside the partial file, of the validator (ETag or date) of the server's file."""
    return part.with_suffix(".part.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
