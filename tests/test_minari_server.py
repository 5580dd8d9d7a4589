"""Data sets of Minari by id: from its folder, from a server that speaks as Hugging Face's, or not at all."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from gymnasium.spaces import Box

from datasets_io import Shards
from datasets_io.errors import UnknownData
from datasets_io.sources import minari_server

minari = pytest.importorskip("minari", reason="minari is not installed")
pytest.importorskip("huggingface_hub", reason="Minari's server is reached with huggingface_hub")

from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's folder, and ours beside it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    return tmp_path / "minari"


def create(name: str) -> None:
    """Five episodes of three steps in Minari's folder."""
    ends = np.array([False, False, True])
    one = EpisodeBuffer(None, None, None, np.zeros((4, 2)), np.zeros((3, 1)), np.ones(3), ends, ends)
    spaces = {"observation_space": Box(-1, 1, (2,)), "action_space": Box(-1, 1, (1,))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nobody is named as its author
        minari.create_dataset_from_buffers(name, [one] * 5, **spaces)


class Hub(BaseHTTPRequestHandler):
    """As much of Hugging Face's server as Minari asks for, over a folder of data sets."""

    root: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path == "/api/datasets":
            wanted = query.get("search", [""])[0]
            found = [folder.name for folder in self.root.iterdir() if wanted in folder.name]
            self.answer([{"id": f"farama-minari/{name}"} for name in found])
        elif path.startswith("/api/"):
            group, _, rest = path.removeprefix("/api/datasets/farama-minari/").partition("/")
            files = [file for file in sorted((self.root / group).rglob("*")) if file.is_file()]
            names = [str(file.relative_to(self.root / group)) for file in files]
            if rest.startswith("tree"):
                facts = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in names]
                self.answer(facts)
            else:
                siblings = [{"rfilename": name} for name in names]
                self.answer({"id": group, "sha": self.commit, "siblings": siblings})
        else:
            group, _, rest = path.removeprefix("/datasets/farama-minari/").partition("/resolve/")
            file = self.root / group / rest.partition("/")[2]
            self.answer(file.read_bytes() if file.is_file() else None, body)

    def answer(self, content: Any, body: bool = True) -> None:
        """JSON, or the bytes of a file, or that there is none."""
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        content = content or b""
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        tag = hashlib.sha256(content).hexdigest()
        for name, value in {"Content-Length": len(content), "ETag": f'"{tag}"'}.items():
            self.send_header(name, str(value))
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """A server of what lies in the folder hub."""
    Hub.root = tmp_path / "hub"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def off2on(*words: str, tmp_path: Path, endpoint: str) -> Any:
    """The command, in a process of its own, as the client reads its address when it is imported."""
    environ = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    # The client waits longer and longer between its attempts to reach a server, half a minute in all.
    code = "import sys, time; time.sleep = lambda s: None; from off2on.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120)


def test_remote_data_sets_are_downloaded(tmp_path: Path, root: Path, hub: str):
    create("toy/remote-v0")
    (tmp_path / "hub").mkdir()
    (root / "toy").rename(tmp_path / "hub" / "toy")
    listing = {"datasets": ["toy/remote-v0"]}
    (tmp_path / "hub" / "toy" / "namespace_metadata.json").write_text(json.dumps(listing))
    done = off2on("data", "add", "minari/toy/remote-v0", tmp_path=tmp_path, endpoint=hub)
    assert done.returncode == 0, done.stderr
    assert "5 episodes" in done.stdout
    assert "Farama" not in done.stdout  # Minari's own words go elsewhere
    assert (root / "toy" / "remote-v0" / "data" / "main_data.hdf5").is_file()
    shards = Shards(tmp_path / "data" / "toy-remote-v0")
    assert shards.manifest.source["options"]["name"] == "toy/remote-v0"

    (root / "toy" / "remote-v0" / "data" / "main_data.hdf5").unlink()  # as if the download had broken off
    again = off2on("data", "add", "minari/toy/remote-v0", "--overwrite", tmp_path=tmp_path, endpoint=hub)
    assert again.returncode == 0, again.stderr

    wrong = off2on("data", "add", "minari/toy/remot-v0", tmp_path=tmp_path, endpoint=hub)
    assert wrong.returncode == 3
    assert "Minari has no data set 'toy/remot-v0'" in wrong.stderr
    assert "nearest: toy/remote-v0" in wrong.stderr
    assert str(root) in wrong.stderr
    assert "on the server of Minari" in wrong.stderr


def test_an_unreachable_server_is_said_to_be(tmp_path: Path, root: Path):
    create("toy/here-v0")
    done = off2on("data", "add", "minari/toy/her-v0", tmp_path=tmp_path, endpoint="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "the server of Minari cannot be reached" in done.stderr
    assert "nearest: toy/here-v0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("data/*"))


HALF = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'{"total_episodes": "many"}',
    b'{"total_episodes": -1}',
    b"\xff",
    b"[" * 10**5,
]


@pytest.mark.parametrize("metadata", HALF)
def test_a_copy_with_damaged_metadata_counts_as_absent(
    root: Path, monkeypatch: pytest.MonkeyPatch, metadata: bytes
):
    create("toy/half-v0")
    folder = root / "toy/half-v0"
    assert minari_server.fetch("toy/half-v0") == folder  # complete: nothing is asked for
    (folder / "data/metadata.json").write_bytes(metadata)
    asked = []
    monkeypatch.setattr(
        minari, "download_dataset", lambda name, force_download: asked.append((name, force_download))
    )
    assert minari_server.fetch("toy/half-v0") == folder
    assert asked == [("toy/half-v0", True)]


@pytest.mark.parametrize(
    "name", ["", "..", "../x-v0", "/etc/x-v0", "x", "toy/x", "a b-v0", "x-v0/../../y-v0", "x\0-v0"]
)
def test_what_is_no_id_of_minari_is_unknown_and_no_path(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    create("toy/here-v0")
    (tmp_path / "x-v0/data").mkdir(parents=True)
    monkeypatch.setattr(minari, "list_remote_datasets", lambda prefix: {"toy/there-v0": None})
    monkeypatch.setattr(minari, "list_local_datasets", lambda: 1 / 0)  # as with a damaged one
    with pytest.raises(UnknownData):
        minari_server.fetch(name)
