"""Downloads against a real server on this machine: whole, broken off, changed meanwhile, absent."""

import gc
import hashlib
import http.server
import io
import json
import socket
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets_io.errors import Corrupt, Exists, Offline, UnknownName, UserError
from datasets_io.sources import download
from datasets_io.sources.catalogue import resolve_source
from datasets_io.storage.locks import lock_place

NAME, FILE = "hopper-medium-v2", "gym_mujoco_v2/hopper_medium-v2.hdf5"


def hdf5(seed, size):
    """A file of HDF5 of somewhat more than `size` bytes."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["x"] = np.frombuffer(np.random.default_rng(seed).bytes(size), np.uint8)
    return content.getvalue()


CONTENT = hdf5(0, 3_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file with ranges; may break off, and may forget what ranges or tags are."""

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if self.path != f"/offline_rl/{FILE}":
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(server.content).hexdigest()[:8]}"'
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        start = 0
        if asked and server.ranges and condition in (None, tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if asked and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        if server.tags:
            self.send_header("ETag", tag)
        for name, value in ({"Content-Length": len(server.content) - start} | server.headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        body = server.content[start:]
        if server.break_after:
            body = body[: server.break_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.content = [], CONTENT
        server.ranges = server.tags = True
        server.break_after = []
        server.headers, server.redirect = {}, ""
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("OFF2ON_D4RL_MIRROR", f"http://127.0.0.1:{server.server_port}/offline_rl/")
        monkeypatch.setenv("OFF2ON_CACHE", str(tmp_path / "cache"))
        yield server
        server.shutdown()
        thread.join()


def ranges(server):
    return [request.get("Range") for request in server.requests]


def test_a_file_is_downloaded_once_and_its_checksum_recorded(server, tmp_path):
    calls = []
    path = download.fetch(NAME, progress=lambda *call: calls.append(call))
    assert path == tmp_path / "cache" / "d4rl" / f"{NAME}.hdf5"
    assert path.read_bytes() == CONTENT
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["bytes"] == len(CONTENT)
    assert record["url"].endswith(FILE)
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert len(calls) > 1
    assert resolve_source(f"d4rl/{NAME}").path == path
    assert len(server.requests) == 1
    assert sorted(file.name for file in path.parent.iterdir()) == [f"{NAME}.hdf5", f"{NAME}.json"]


@pytest.mark.parametrize("tags", [True, False])
def test_a_connection_that_breaks_off_is_taken_up_where_it_ended(server, tags):
    server.tags = tags
    server.break_after = [1_000_000, 700_000]
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1700000-"]


def test_a_server_without_ranges_is_asked_from_the_start(server):
    server.ranges = False
    server.break_after = [1_000_000]
    assert download.fetch(NAME).read_bytes() == CONTENT


def test_what_came_is_kept_for_the_next_run(server, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 2)
    server.break_after = [1_000_000, 0, 0]
    with pytest.raises(Offline, match="1,000,000 bytes are kept"):
        download.fetch(NAME)
    del server.requests[:]
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000000-"]


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changed_meanwhile_is_taken_anew(server, monkeypatch, tags):
    server.tags = tags
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.break_after = [1_000_000, 0]
    with pytest.raises(Offline):
        download.fetch(NAME)
    monkeypatch.setattr(download, "_ATTEMPTS", 3)
    server.content = hdf5(1, 2_000_000)
    assert download.fetch(NAME).read_bytes() == server.content


def test_a_part_that_was_already_whole_is_not_asked_for_again(server, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.break_after = [1_000_000, 0]
    with pytest.raises(Offline):
        download.fetch(NAME)
    part = tmp_path / "cache" / "d4rl" / f"{NAME}.part"
    part.write_bytes(CONTENT)  # killed after the last byte, before the renaming
    assert download.fetch(NAME).read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_built_upon(server, tmp_path):
    part = tmp_path / "cache" / "d4rl" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    assert download.fetch(NAME).read_bytes() == CONTENT


def test_a_cached_file_that_was_changed_is_not_used(server):
    path = download.fetch(NAME)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt, match=f"rm {path}"):
        download.fetch(NAME)


def test_a_server_that_lacks_the_file_says_so_with_the_ways_out(server, monkeypatch):
    monkeypatch.setenv("OFF2ON_D4RL_MIRROR", f"http://127.0.0.1:{server.server_port}/elsewhere")
    with pytest.raises(Offline, match=rf"(?s)404.*off2on data add {NAME} PATH.*OFF2ON_D4RL_MIRROR"):
        download.fetch(NAME)


def test_without_a_network_the_error_says_so_with_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("OFF2ON_CACHE", str(tmp_path))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OFF2ON_D4RL_MIRROR", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Offline, match=rf"(?s)cannot be downloaded.*off2on data add {NAME} PATH"):
            download.fetch(NAME)


def test_two_processes_do_not_write_one_part(server, tmp_path):
    with lock_place(tmp_path / "cache" / "d4rl" / f"{NAME}.hdf5"), pytest.raises(Exists, match="process"):
        download.fetch(NAME)
    assert not server.requests
    assert not (tmp_path / "cache").exists()


def test_an_unknown_id_is_refused_before_anything_is_asked(server):
    with pytest.raises(UnknownName, match="nearest: hopper-medium-v2"):
        download.fetch("hoper-medium-v2")
    assert not server.requests
    assert not Path(download.cache_root()).exists()


def test_the_servers_address_is_d4rls(monkeypatch):
    monkeypatch.delenv("OFF2ON_D4RL_MIRROR", raising=False)
    assert download.url_of(NAME) == f"http://rail.eecs.berkeley.edu/datasets/offline_rl/{FILE}"


def cached(tmp_path):
    """The files of the cache; its folders are gone if it is empty."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


SIDE_FILES = [b"", b"{", b"null", b"[]", b"{}", b'{"sha256": 3}', b"\xff\xfe\x00", b"[" * 10**5]


@pytest.mark.parametrize("content", SIDE_FILES)
def test_a_damaged_record_counts_as_absent(server, tmp_path, content):
    record = download.fetch(NAME).with_suffix(".json")
    whole = record.read_bytes()
    record.write_bytes(content)
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert record.read_bytes() == whole
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", SIDE_FILES)
def test_a_part_with_a_damaged_side_file_is_not_built_upon(server, tmp_path, content):
    part = tmp_path / "cache" / "d4rl" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    part.with_suffix(".part.json").write_bytes(content)
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert ranges(server) == [None]
    assert cached(tmp_path) == [f"{NAME}.hdf5", f"{NAME}.json"]


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><p>Sign in", b"", b"PK\3\4" + bytes(1000), CONTENT[:-1000]]
)
@pytest.mark.parametrize("kind", ["application/octet-stream", "text/html; charset=utf-8"])
def test_what_is_no_hdf5_does_not_get_its_name(server, tmp_path, content, kind):
    server.content, server.headers = content, {"Content-Type": kind}
    for _ in range(2):
        with pytest.raises(Corrupt) as refused:
            download.fetch(NAME)
        assert cached(tmp_path) == []
        assert not (tmp_path / "cache").exists()
    assert server.requests
    server.content, server.headers = CONTENT, {}
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert refused.value.exit_code == 3


def test_a_page_in_between_does_not_cost_what_was_received(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.break_after = [1_000_000, 0]
    with pytest.raises(Offline):
        download.fetch(NAME)
    server.ranges, server.headers = False, {"Content-Type": "text/html"}
    with pytest.raises(Corrupt):
        download.fetch(NAME)
    server.ranges, server.headers = True, {}
    del server.requests[:]
    assert download.fetch(NAME).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000000-"]


MIRRORS = [
    "rail.example", "x", "//host/x", "ftp://host/x", "file:///etc", "http://", "http:///x", "http://host:port/x",
    "http://host:99999", "http://host:0", "http://[::1/x", "http://a b/x", "http://h\u00e9/x", "http://h\n/x",
    "http://user:password@host/x", "http:// host", "javascript:alert(1)", "http://host?token=abcdefghij",
]  # fmt: skip


@pytest.mark.parametrize("mirror", MIRRORS)
def test_an_address_that_is_none_names_the_setting(monkeypatch, tmp_path, mirror):
    monkeypatch.setenv("OFF2ON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OFF2ON_D4RL_MIRROR", mirror)
    with pytest.raises(UserError, match=r"^OFF2ON_D4RL_MIRROR is ") as refused:
        download.fetch(NAME)
    assert "password@" not in str(refused.value)
    assert "abcdefghij" not in str(refused.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'a' * 64}.invalid", "127.0.0.1:1"])
def test_a_host_that_is_not_reached_is_offline_and_names_the_setting(monkeypatch, tmp_path, host):
    monkeypatch.setenv("OFF2ON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OFF2ON_D4RL_MIRROR", f"http://{host}/x")
    with pytest.raises(Offline, match="OFF2ON_D4RL_MIRROR"):
        download.fetch(NAME)
    assert not (tmp_path / "cache").exists()


# urllib leaves the connection of before to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "target", ["/loop", "file:///etc/passwd", "http://[::1/x", "http://host:port/", "http://"]
)
def test_a_redirection_that_leads_nowhere_is_offline(server, tmp_path, target):
    server.redirect = target
    with pytest.raises(Offline):
        download.fetch(NAME)
    gc.collect()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("length", ["x", "-1", "\u00b2", "1e9", "9" * 40])
def test_a_length_that_is_no_number_is_ignored(server, length):
    server.headers = {"Content-Length": length}
    assert download.fetch(NAME).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_told(server, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cache"):
        download.fetch(NAME)
