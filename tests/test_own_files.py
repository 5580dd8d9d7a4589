"""Only what an ingest wrote is replaced or removed."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kills import contents
from stored_files import contents_of

from datasets_io import open_shards, storage
from datasets_io.errors import Exists, Unreachable, UserError
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.manifest import MANIFEST_FILE
from datasets_io.sources.toy import ToyPendulum
from off2on.cli import off2on


class Short(ToyPendulum):
    """One episode."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed, episodes=1)


FOREIGN = [
    "x/notes.txt", "x/shards/mine.parquet", "x/sub/deep/file", "x/shards/sub/part-00000.parquet", "x/.hidden",
    "x/manifest.json.bak", "x/parts/a.json", "x/incoming/thesis.tex", "x/shards/g0001-part-00000.parquet~",
]  # fmt: skip


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("data_set", [True, False])
def test_a_folder_with_files_of_others_is_not_replaced(tmp_path: Path, path: str, data_set: bool):
    check_not_replaced(tmp_path, path, data_set)


@pytest.mark.parametrize("data_set", [True, False])
def test_a_folder_in_a_bucket_with_files_of_others_is_not_replaced(bucket: storage.Location, data_set: bool):
    check_not_replaced(bucket, FOREIGN[0], data_set)


def check_not_replaced(any_root: Any, path: str, data_set: bool) -> None:
    if data_set:
        ingest(Short(), None, any_root, name="x")
    storage.write_text(any_root / path, "mine")
    before = contents_of(any_root)
    with pytest.raises(Exists) as refused:
        ingest(Short(1), None, any_root, name="x", overwrite=True)
    assert path.removeprefix("x/") in str(refused.value) or not data_set
    assert contents_of(any_root) == before


@pytest.mark.parametrize(
    "manifest", ["", "{", "[]", "null", '{"name": "a web app"}', '{"schema_version": 2}', "\0\xff"]
)
def test_a_folder_whose_manifest_is_not_ours_is_not_replaced(tmp_path: Path, manifest: str):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/manifest.json").write_text(manifest)
    before = contents(tmp_path)
    with pytest.raises(Exists):
        ingest(Short(1), None, tmp_path, name="x", overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["x.partial/notes.txt", "x.old.partial/notes.txt", "x.partial/shards/a.csv"])
def test_a_folder_of_others_is_no_workspace(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(Exists):
        ingest(Short(), None, tmp_path, name="x")
    assert contents(tmp_path) == before


def test_a_file_in_the_place_of_a_folder_is_kept(tmp_path: Path):
    for name in ("x", "y.partial", "z.old.partial", "any_root"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    for name in "xyz":
        with pytest.raises(Exists):
            ingest(Short(), None, tmp_path, name=name, overwrite=True)
    with pytest.raises(Unreachable):
        ingest(Short(), None, tmp_path / "any_root", name="x")
    assert contents(tmp_path) == before


def test_a_data_set_behind_a_link_is_replaced_where_it_is(tmp_path: Path):
    (tmp_path / "data").mkdir()
    ingest(Short(), None, tmp_path / "large", name="x")
    (tmp_path / "data/x").symlink_to(tmp_path / "large/x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    (tmp_path / "data/y").symlink_to(tmp_path / "mine")
    new = ingest(Short(1), None, tmp_path / "data", name="x", overwrite=True)
    assert (tmp_path / "data/x").is_symlink()
    assert open_shards(tmp_path / "large/x").manifest.content_hash == new.manifest.content_hash
    with pytest.raises(Exists):
        ingest(Short(1), None, tmp_path / "data", name="y", overwrite=True)
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["notes.txt", "x", "x", "y"]


@pytest.mark.parametrize("door", ["ingest", "command"])
def test_what_is_left_of_one_that_was_killed_after_the_publication_is_removed(
    any_root: Any, door: str, monkeypatch: pytest.MonkeyPatch
):
    ingest(Short(), None, any_root, name="x")
    storage.write_text(any_root / ".y.lock-1", "of another data set")
    before = names(any_root)
    if isinstance(any_root, Path):
        (any_root / ".x.lock").write_text("{}")
        ingest(Short(1), None, any_root, name="old").path.rename(any_root / "x.old.partial")
    else:
        ended = os.spawnlp(os.P_NOWAIT, "true", "true")
        os.waitpid(ended, 0)
        owner = {"host": socket.gethostname(), "pid": ended}
        storage.write_text(any_root / ".x.lock-1", json.dumps(owner))
    if door == "command":
        monkeypatch.setenv("OFF2ON_DATA", str(any_root))
        done = CliRunner().invoke(off2on, ["data", "add", "toy-pendulum", "--name", "x"])
        assert isinstance(done.exception, Exists)
    else:
        with pytest.raises(Exists):
            ingest(Short(), None, any_root, name="x")
    assert names(any_root) == before


def test_an_old_data_set_is_replaced(tmp_path: Path):
    shards = ingest(Short(), None, tmp_path, name="x")
    plain = json.loads((shards.path / MANIFEST_FILE).read_text())
    (shards.path / MANIFEST_FILE).write_text(json.dumps(plain | {"schema_version": 1}))
    (shards.path / "lock").touch()  # as older versions left it
    ingest(Short(1), None, tmp_path, name="x", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["manifest.json", "shards"]


STATES = [b"", b"{", b"null", b"[]", b'{"files": 3}', b"\xff\xfe", b'{"moments": {"obs": {}}}', b"[" * 10**5]


@pytest.mark.parametrize("state", STATES)
def test_damaged_state_of_a_killed_ingest_counts_as_absent(tmp_path: Path, state: bytes):
    check_damaged_state(tmp_path / "data", state)


def test_damaged_state_in_a_bucket_counts_as_absent(bucket: storage.Location):
    check_damaged_state(bucket / "data", b"{")


def check_damaged_state(any_root: Any, state: bytes) -> None:
    class Killed(Short):
        def parts(self, path: Any) -> list[Any]:
            return [*super().parts(path), "second"]

        def episodes(self, part: Any) -> Any:
            if part == "second" and not finish:
                raise KeyboardInterrupt
            yield from super().episodes(0)

    finish = False
    with pytest.raises(KeyboardInterrupt):
        ingest(Killed(), None, any_root, name="x")
    states = [name for name in storage.list_files(any_root, recursive=True) if name.endswith(".json")]
    assert len(states) == 2  # the plan and a report
    for name in states:
        with storage.open_output(name) as file:
            file.write(state)
    finish = True
    whole = ingest(Killed(), None, any_root.parent / "other", name="x")
    assert ingest(Killed(), None, any_root, name="x").manifest.content_hash == whole.manifest.content_hash
    assert {name.partition("/")[0] for name in names(any_root)} == {"x"}
    assert len(names(any_root)) == 3


def names(any_root: Any) -> list[str]:
    return [name.removeprefix(f"{any_root}/") for name in storage.list_files(any_root, recursive=True)]


def test_the_report_of_a_part_that_is_whole_is_used_and_a_damaged_one_is_not(tmp_path: Path):
    read: list[Any] = []

    class Parts(ToyPendulum):
        def parts(self, path: Any) -> list[Any]:
            return [0, 1, 2]

        def episodes(self, part: Any) -> Any:
            if part == 2 and len(read) == 2:
                raise KeyboardInterrupt
            read.append(part)
            yield from super().episodes(part)

    with pytest.raises(KeyboardInterrupt):
        ingest(Parts(episodes=1), None, tmp_path, name="x")
    (tmp_path / "x.partial/parts/00001.json").write_text("{")
    ingest(Parts(episodes=1), None, tmp_path, name="x").verify()
    assert read == [0, 1, 1, 2]


def test_a_killed_overwrite_is_finished(tmp_path: Path):
    """Between its two renames, and after them."""
    for final in (False, True):
        any_root = tmp_path / str(final)
        old = ingest(Short(), None, any_root, name="x")
        (any_root / "x").rename(any_root / "x.old.partial")
        if final:
            ingest(Short(2), None, any_root / "elsewhere", name="x").path.rename(any_root / "x")
            (any_root / "elsewhere").rmdir()
        if not final:
            with pytest.raises(Exists):
                ingest(Short(1), None, any_root, name="x")
            assert open_shards(any_root / "x").manifest.content_hash == old.manifest.content_hash
        ingest(Short(1), None, any_root, name="x", overwrite=True).verify()
        assert [path.name for path in any_root.iterdir()] == ["x"]


def test_appending_removes_what_a_killed_one_left(any_root: Any):
    shards = ingest(Short(), None, any_root, name="x")
    left = [f"shards/g0001-part-{number:05d}.parquet" for number in range(3)]
    left += ["scenes/g0001-part-00000.parquet", f".{'0' * 32}.tmp", f"shards/.{'0' * 32}.tmp"]
    for name in [*left, "incoming/0001.partial/plan.json", "notes.txt"]:
        storage.write_text(any_root / "x" / name, "half")
    assert append(Short(1), None, shards).rows == 2 * shards.rows
    left = names(any_root / "x")
    assert len(left) == 4  # the manifest, two shards, and what is not ours
    assert "notes.txt" in left


def test_a_refused_ingest_leaves_nothing(any_root: Any):
    class Refused(Short):
        def episodes(self, part: Any) -> Any:
            raise UserError("no")

    with pytest.raises(UserError, match="no"):
        ingest(Refused(), None, any_root / "a" / "b", name="x")
    assert contents_of(any_root) == {}
    assert isinstance(any_root, storage.Location) or not any_root.exists()
    shards = ingest(Short(), None, any_root, name="x")
    before = contents_of(any_root)
    with pytest.raises(UserError, match="no"):
        append(Refused(), None, shards)
    assert contents_of(any_root) == before
