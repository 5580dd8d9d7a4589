"""Files anywhere: the same small surface on a disk and, over the real protocol, in a bucket."""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets_io import storage
from datasets_io.errors import UnknownName, Unreachable
from datasets_io.storage import Location, buckets, locate


@pytest.fixture(params=["disk", "bucket"])
def root(request, tmp_path):
    return tmp_path if request.param == "disk" else request.getfixturevalue("bucket")


def test_texts_become_places(tmp_path):
    assert locate("data/x") == Path("data/x")
    assert locate(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    place = locate("s3://bucket//data/x.tar.gz/")
    assert (place.scheme, place.key) == ("s3", "bucket/data/x.tar.gz")
    assert (place.name, place.stem, place.suffix, str(place.parent)) == (
        "x.tar.gz",
        "x.tar",
        ".gz",
        "s3://bucket/data",
    )
    assert str(Location("gs", "bucket") / "a" / "b") == "gs://bucket/a/b"
    assert locate("s3://bucket").parent == locate("s3://bucket")
    assert pickle.loads(pickle.dumps(place)) == place
    assert locate(place) is place


@pytest.mark.parametrize(("text", "words"), [("ftp://x/y", "s3://, gs://"), ("s3://", "names no bucket")])
def test_texts_that_are_no_places_are_refused(text, words):
    with pytest.raises(UnknownName, match=words):
        locate(text)


def test_what_was_written_is_read(root):
    storage.write_text(root / "a/b.txt", "grüße")
    assert storage.read_text(root / "a/b.txt") == "grüße"
    assert storage.size(root / "a/b.txt") == 7
    assert storage.is_file(root / "a/b.txt")
    assert storage.is_folder(root / "a")
    assert not storage.is_folder(root / "a/b.txt")
    assert storage.exists(root / "a")
    assert not storage.exists(root / "a/c")
    storage.write_text(root / "a/b.txt", "another")
    assert storage.read_bytes(str(root / "a/b.txt")) == b"another"


def test_a_file_can_be_read_anywhere_in_it(root):
    content = np.random.default_rng(0).bytes(3_000_000)
    with storage.open_output(root / "x") as file:
        file.write(content[:1_000_000])
        file.write(content[1_000_000:])
    with storage.open_input(root / "x", buffer=4096) as file:
        for start, count in [(2_999_990, 100), (0, 10), (1_000_000, 5000), (1_000_100, 3)]:
            file.seek(start)
            assert file.read(count) == content[start : start + count]
        assert file.seek(-4, 2) == 2_999_996
        assert file.read() == content[-4:]


def test_a_failed_write_leaves_the_old_content(root):
    storage.write_text(root / "x", "old")
    with contextlib.suppress(ZeroDivisionError), storage.open_output(root / "x") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert storage.read_text(root / "x") == "old"
    assert [Path(name).name for name in storage.list_files(root)] == ["x"]


def test_listing_deleting_and_versions(root):
    for name in ("a/2.csv", "a/1.csv", "a/1.txt", "a/deep/0.csv"):
        storage.write_text(root / name, name)
    names = [str(root / name) for name in ("a/1.csv", "a/2.csv")]
    assert storage.list_files(root / "a", [".csv"]) == names
    assert storage.list_files(root / "a", [".csv"], recursive=True) == [*names, str(root / "a/deep/0.csv")]
    assert storage.list_files(root / "a/1.csv") == [names[0]]
    assert storage.list_folders(root / "a") == [root / "a/deep"]
    assert storage.list_folders(root / "nothing") == []
    before = storage.versions(root / "a")
    assert [(name, count) for name, count, _ in before] == [
        ("/1.csv", 7),
        ("/1.txt", 7),
        ("/2.csv", 7),
        ("/deep/0.csv", 12),
    ]
    assert storage.versions(root / "a") == before
    storage.write_text(root / "a/1.csv", "a/one.csv")
    assert storage.versions(root / "a") != before
    storage.delete(root / "a/1.csv")
    assert storage.list_files(root / "a", [".csv"]) == names[1:]
    storage.delete(root / "a")
    assert not storage.exists(root / "a")
    storage.delete(root / "a")


def test_what_vanishes_while_its_folder_is_listed_is_left_out(tmp_path, monkeypatch):
    for name in ("kept", "vanishing"):
        storage.write_text(tmp_path / name, name)
    (tmp_path / "sub").mkdir()
    asked, opened = Path.is_file, os.scandir

    def ask(path):
        there = asked(path)
        if path.name == "vanishing":
            path.unlink(missing_ok=True)
        return there

    def scan(path):
        if os.path.basename(path) == "sub":
            os.rmdir(path)
        return opened(path)

    monkeypatch.setattr(Path, "is_file", ask)
    assert storage.sizes(tmp_path) == {"kept": 4}
    monkeypatch.setattr(os, "scandir", scan)
    assert storage.list_files(tmp_path, recursive=True) == [str(tmp_path / "kept")]


def test_what_is_not_there_is_named(root):
    for attempt in (storage.read_text, storage.size, storage.list_files, storage.versions):
        with pytest.raises(UnknownName, match="nothing-here") as caught:
            attempt(root / "nothing-here")
        assert f"Looked in {root}" in str(caught.value)
    assert not storage.exists(root / "nothing-here")


def test_a_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(UnknownName, match="no bucket 'no-such-bucket'"):
        storage.write_text("s3://no-such-bucket/x", "")


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("server", ["refusing", "silent", "unknown"])
def test_a_bucket_out_of_reach_is_an_error_within_seconds(server, request, monkeypatch):
    address = {"refusing": "http://127.0.0.1:1", "unknown": "http://no-such-host.invalid"}.get(server)
    address = address or request.getfixturevalue("silent")
    monkeypatch.setattr(buckets, "_REQUEST_S", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        storage.read_text("s3://bucket/x")
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert address in message
    assert "AWS_ENDPOINT_URL=" in message
    assert "very-secret" not in message


def test_wrong_credentials_are_said_without_saying_them(bucket, monkeypatch):
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)  # from now on it looks who asks
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    for attempt in (storage.read_text, storage.exists, lambda place: storage.write_text(place, "x")):
        with pytest.raises(Unreachable, match="refuses access") as caught:
            attempt(bucket / "x")
        assert "AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is set" in str(caught.value)
        assert "nobody" not in str(caught.value)
        assert "a secret" not in str(caught.value)


def test_google_s_buckets_out_of_reach_are_an_error_too(monkeypatch):
    monkeypatch.setattr(buckets, "_REQUEST_S", 0.4)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:1") as caught:
        storage.read_text("gs://bucket/x")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)


def test_a_full_disk_is_an_error_that_leaves_the_old_content(tmp_path):
    code = """
import resource, signal, sys
from datasets_io import storage
from datasets_io.errors import NoSpace
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    storage.write_text(sys.argv[1], "x" * 100_000)
except NoSpace as error:
    print(error)
"""
    storage.write_text(tmp_path / "x", "old")
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=True
    )
    assert "cannot be written: File too large" in out.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"
