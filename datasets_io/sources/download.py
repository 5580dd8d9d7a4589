"""Download D4RL's files by id: cached, resumed after an interruption, verified at each use."""

import fcntl
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from datasets_io.errors import Corrupt, Exists, Offline, UnknownName
from datasets_io.registry import minari_counterpart, registry

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_ATTEMPTS = 5
_BLOCK = 1 << 20

Progress = Callable[[int, int], None]
"""Function called with bytes so far and in total."""


class _ConnectionLostError(Exception):
    """The connection ended before the file did."""


def cache_root() -> Path:
    """Return the folder of downloads: $OFF2ON_CACHE, else ~/.cache/off2on."""
    return Path(os.environ.get("OFF2ON_CACHE") or Path.home() / ".cache" / "off2on")


def url_of(name: str) -> str:
    """Return the URL of a D4RL id's file; $OFF2ON_D4RL_MIRROR replaces everything up to …/offline_rl.

    Raises:
        UnknownName: The name is not a D4RL id.
    """
    entry = registry().get(name)
    if entry is None:
        raise UnknownName(
            f"D4RL has no data set {name!r}.", f"It has {len(registry())}.", given=name, known=registry()
        )
    return f"{(os.environ.get('OFF2ON_D4RL_MIRROR') or SERVER).rstrip('/')}/{entry.file}"


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
        Corrupt: The cached file has changed since its download.
        UnknownName: The name is not a D4RL id.
    """
    url, target = url_of(name), cache_root() / "d4rl" / f"{name}.hdf5"
    record = target.with_suffix(".json")
    if target.is_file() and record.is_file():
        if _sha256(target) != json.loads(record.read_text())["sha256"]:
            raise Corrupt(
                f"{target} is not what was downloaded.", "Its SHA-256 is another one.", f"rm {target}"
            )
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Exists(f"another process is downloading {part}.", "Wait for it, or stop it.") from None
        _download(name, url, file, part, progress, timeout)
    known = {"url": url, "bytes": part.stat().st_size, "sha256": _sha256(part)}
    record.write_text(json.dumps(known, indent=1))
    os.replace(part, target)
    _validator(part).unlink(missing_ok=True)
    return target


def _download(
    name: str, url: str, file: BinaryIO, part: Path, progress: Progress | None, timeout: float
) -> None:
    """Append to the partial file until it is complete."""
    failures = 0
    while True:
        before = part.stat().st_size
        try:
            return _attempt(url, file, part, progress, timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise Offline(f"{url} answers {error.code} {error.reason}.", _alternatives(name)) from None
        except (_ConnectionLostError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            file.flush()
            got = part.stat().st_size
            # After a lost connection the download is retried as long as each attempt makes progress.
            failures = 0 if got > before else failures + 1
            never_reached = isinstance(error, urllib.error.URLError)
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
        "From another server: OFF2ON_D4RL_MIRROR=http://…/offline_rl."
        + (f" From Minari ({pair.how}): off2on data add minari/{pair.minari}." if pair and pair.same else "")
    )


def _attempt(url: str, file: BinaryIO, part: Path, progress: Progress | None, timeout: float) -> None:
    """Download the missing bytes over one connection, or the whole file if it has changed."""
    have = part.stat().st_size
    before = json.loads(_validator(part).read_text()) if _validator(part).is_file() else {}
    headers = {"User-Agent": "off2on"}
    if have and before:
        headers["Range"] = f"bytes={have}-"
        if before["tag"]:
            headers["If-Range"] = before["tag"]
    elif have:
        file.truncate(0)  # of unknown origin
        have = 0
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if have == before.get("bytes"):
            return
        file.truncate(0)
        raise _ConnectionLostError("the server's file has changed") from None
    with answer:
        total = _total(answer, have)
        if answer.status == 206 and total not in (before.get("bytes"), None):
            file.truncate(0)
            raise _ConnectionLostError("the server's file has changed")
        if answer.status != 206:
            file.truncate(0)
            have = 0
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            # A weak tag must not be sent in If-Range (RFC 9110, 13.1.5).
            tag = None if tag is None or tag.startswith("W/") else tag
            _validator(part).write_text(json.dumps({"tag": tag, "bytes": total}))
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
        return int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _validator(part: Path) -> Path:
    """Return the path, beside the partial file, of the validator (ETag or date) of the server's file."""
    return part.with_suffix(".part.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
