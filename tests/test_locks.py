"""One process at a time writes a data set, on a disk and in a bucket."""

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from stored_files import contents_of

from datasets_io import Shards, open_shards, storage
from datasets_io.errors import Exists, Unreachable
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.manifest import MANIFEST_FILE
from datasets_io.sources.toy import ToyPendulum
from datasets_io.storage import locks
from datasets_io.storage.locks import exclusive_lock, lock_place


class Short(ToyPendulum):
    """One episode; `during` is called while it is read."""

    def __init__(self, seed: int = 0, during: Any = None) -> None:
        super().__init__(seed=seed, episodes=1)
        self.__dict__["during"] = during

    def episodes(self, part: Any) -> Any:
        if self.during is not None:
            self.during()
        yield from super().episodes(part)


def names(any_root: Any) -> list[str]:
    return [name.removeprefix(f"{any_root}/") for name in storage.list_files(any_root, recursive=True)]


def test_the_slower_of_two_replaces_nothing(any_root: Any):
    """Both began when there was nothing; the lock lets only one of them write."""
    first: list[Any] = []

    def other() -> None:
        with pytest.raises(Exists) as refused:
            ingest(Short(1), None, any_root, name="x")
        first.append(refused.value)

    shards = ingest(Short(0, other), None, any_root, name="x")
    assert f"process {os.getpid()} on" in first[0].what
    assert open_shards(any_root / "x").manifest.content_hash == shards.manifest.content_hash


class Faster(Short):
    """Meanwhile another process has written the data set, before this one locked it."""

    def fingerprint(self, path: Any) -> str:
        if self.during is not None:
            self.during()
        return "the same"

    def episodes(self, part: Any) -> Any:
        yield from ToyPendulum(seed=1, episodes=1).episodes(part)


def test_what_was_written_before_the_lock_is_not_replaced(any_root: Any):
    written: list[Shards] = []
    slow = Faster(1, lambda: written.append(ingest(Short(), None, any_root, name="x")))
    with pytest.raises(Exists):
        ingest(slow, None, any_root, name="x")
    assert open_shards(any_root / "x").manifest.content_hash == written[0].manifest.content_hash
    assert len(names(any_root)) == 2


@pytest.mark.parametrize("door", ["add", "overwrite", "append"])
def test_a_change_by_one_without_the_lock_is_found_before_the_publication(any_root: Any, door: str):
    def change() -> None:
        manifest = any_root / "x" / MANIFEST_FILE
        text = storage.read_text(manifest) if storage.is_file(manifest) else json.dumps(LISTING)
        storage.write_text(manifest, text + "\n")
        changed.update(contents_of(any_root / "x"))

    changed: dict[str, bytes] = {}
    if door != "add":
        ingest(Short(), None, any_root, name="x")
    doors: dict[str, Any] = {
        "append": lambda: append(Short(1, change), None, Shards(any_root / "x")),
        "overwrite": lambda: ingest(Short(1, change), None, any_root, name="x", overwrite=True),
    }
    with pytest.raises(Exists):
        doors.get(door, doors["overwrite"])()
    left = {name: content for name, content in contents_of(any_root / "x").items() if "incoming" not in name}
    assert left == {name: content for name, content in changed.items() if name in left}
    assert set(left) == {name for name in changed if "incoming" not in name and ("/g0001-" not in name)}


LISTING = {"schema_version": 2, "name": "x", "files": []}


def test_appending_and_overwriting_wait_for_each_other(any_root: Any):
    shards = ingest(Short(), None, any_root, name="x")
    tried: list[str] = []

    def overwrite() -> None:
        with pytest.raises(Exists):
            ingest(Short(2), None, any_root, name="x", overwrite=True)
        tried.append("overwrite")

    def add() -> None:
        with pytest.raises(Exists):
            append(Short(3), None, shards)
        tried.append("append")

    append(Short(1, overwrite), None, shards).verify()
    ingest(Short(2, add), None, any_root, name="x", overwrite=True).verify()
    assert tried == ["overwrite", "append"]
    assert not [name for name in names(any_root) if "incoming" in name or "lock" in name]


def test_a_lock_file_names_its_owner_and_is_never_followed(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".x.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(Unreachable), lock_place(tmp_path / "x"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
    (tmp_path / ".x.lock").unlink()
    for content in (b"", b"{", b'{"host": "h", "pid": -1}', b"\xff" * 10**6):
        with (tmp_path / ".x.lock").open("wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            other.write(content)
            other.flush()
            with pytest.raises(Exists, match="another process"), lock_place(tmp_path / "x"):
                pass
        with lock_place(tmp_path / "x"):  # nobody holds it: what is in it does not count
            assert json.loads((tmp_path / ".x.lock").read_text())["pid"] == os.getpid()
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_many_threads_hold_a_lock_one_after_the_other(tmp_path: Path):
    """It is removed after each use; nobody locks a file that is no longer there."""
    inside, most, done = [0], [0], []

    def work() -> None:
        while len(done) < 200:
            try:
                with exclusive_lock(tmp_path / "lock", remove=True):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
                    done.append(None)
            except Exists:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not (tmp_path / "lock").exists()


def test_lock_objects_of_processes_that_have_ended_or_do_not_refresh_do_not_count(
    bucket: storage.Location, monkeypatch: pytest.MonkeyPatch
):
    def other(text: str) -> storage.Location:
        place = bucket / ".x.lock-0"
        storage.write_text(place, text)
        return place

    ended = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(ended, 0)
    here = locks.LockOwner.this().host
    place = other(json.dumps({"host": here, "pid": ended}))
    with lock_place(bucket / "x"):
        assert not storage.exists(place)
    for text in (json.dumps({"host": "elsewhere", "pid": 7}), "", "{", "null"):
        place = other(text)
        with pytest.raises(Exists), lock_place(bucket / "x"):
            pass
        assert storage.exists(place)
        with lock_place(bucket / "xx"):  # of another data set
            pass
    monkeypatch.setattr(locks, "STALE_S", -10.0)
    with lock_place(bucket / "x"):
        assert not storage.exists(place)
    assert names(bucket) == []


def test_a_lock_object_is_refreshed_while_it_is_held(
    bucket: storage.Location, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "REFRESH_S", 0.01)
    written = threading.Event()
    real = locks.write_text

    def write(place: Any, text: str) -> None:
        real(place, text)
        if threading.current_thread() is not threading.main_thread():
            written.set()

    monkeypatch.setattr(locks, "write_text", write)
    with lock_place(bucket / "x"):
        assert written.wait(10)
    assert names(bucket) == []
