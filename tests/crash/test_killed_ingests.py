"""Kill `data add`, `--append`, `--overwrite` and downloads at random moments, and run them again."""

import http.server
import io
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from kills import KILLS, Ended, contents, left_processes, moments, run

from datasets_io import Shards, storage
from datasets_io.shards.manifest import MANIFEST_FILE

pytestmark = [pytest.mark.crash, pytest.mark.timeout(4 * 3600)]

PARTS, ROWS = 10, 60_000
KINDS = {
    "add": ["data", "add", "x", "more"],
    "append": ["data", "add", "new", "more", "--append", "x"],
    "overwrite": ["data", "add", "x", "more", "--overwrite"],
}
# In this process, also on a busy machine: workers of Ray that are killed with it have a test of their own.
MAIN = (
    "import sys; from datasets_io.ingestion import parallel; parallel.PATIENCE_S = float('inf'); "
    "from off2on.cli import main; sys.exit(main())"
)
COLUMNS = ["obs=a,b,c", "actions=u", "rewards=r", "terminated=end"]
DONE = ("exists", "already contains")
"""What the second run says if the first one had ended its work before it was killed."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two folders of tables: `some`, of one, and `more`, of ten."""
    folder = tmp_path_factory.mktemp("tables")
    for name, count in (("some", 1), ("more", PARTS)):
        (folder / name).mkdir()
        for part in range(count):
            rng = np.random.default_rng([count, part])
            frame = pd.DataFrame(rng.normal(size=(ROWS, 5)).round(6), columns=list("abcur"))
            frame.assign(end=np.arange(ROWS) % 100 == 99).to_csv(folder / name / f"{part}.csv", index=False)
    return folder


def off2on(words: list[str], folder: Path, root: Any, after: float | None = None) -> Ended:
    environment = {"OFF2ON_DATA": str(root), "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    return run([sys.executable, "-c", MAIN, *words, "--columns", *COLUMNS], folder, environment, after)


def prepare(folder: Path, root: Any, kind: str) -> None:
    """Write what is there before the command, and files of others beside it."""
    if kind != "add":
        done = off2on(["data", "add", "x", "some"], folder, root)
        assert done.code == 0, done.output
    for name in ("notes.txt", "y/notes.txt", ".hidden", "x.txt"):
        storage.write_text(root / name, "mine")


def plain(root: Any) -> dict[str, Any]:
    """Every file by its path, without keys of buckets; a manifest without its times and those keys."""
    files = {name.removeprefix(f"{root}/"): name for name in storage.list_files(root, recursive=True)}
    found: dict[str, Any] = {}
    for path, name in files.items():
        content: Any = storage.read_bytes(name)
        if path.endswith("manifest.json"):
            text = re.sub(r'"created": "[^"]+"', "", content.decode())
            content = re.sub(r"[0-9a-f]{8}-part", "part", text)
        found[re.sub(r"[0-9a-f]{8}-part", "part", path)] = content
    return found


def opened(root: Any) -> str:
    """Return the hash of the data set, each of whose files is checked; nothing if there is none."""
    if not storage.is_file(root / "x" / MANIFEST_FILE):
        return ""
    shards = Shards(root / "x")
    shards.verify()
    return shards.manifest.content_hash


@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_ingest(request: pytest.FixtureRequest, tmp_path: Path, tables: Path, place: str, kind: str):
    for name in ("some", "more"):
        (tmp_path / name).symlink_to(tables / name)

    def fresh(number: int) -> Any:
        root = tmp_path / f"data{number}"
        if place == "bucket":
            root = request.getfixturevalue("bucket") / f"data{number}"
        prepare(tmp_path, root, kind)
        return root

    whole = fresh(0)
    before = opened(whole)
    first = off2on(KINDS[kind], tmp_path, whole)
    assert first.code == 0, first.output
    expected, after = plain(whole), opened(whole)
    killed = unfinished = 0
    for number, moment in enumerate(moments(14, first.seconds), 1):
        root = fresh(number)
        ended = off2on(KINDS[kind], tmp_path, root, moment)
        killed += ended.killed
        assert left_processes(ended.mark) == {}
        # Between the two renames of a replacement there is none; the next command puts it back.
        missing = kind == "overwrite" and place == "disk" and (root / "x.old.partial").exists()
        assert missing or opened(root) in (before, after), moment
        unfinished += opened(root) != after
        again = off2on(KINDS[kind], tmp_path, root)
        assert again.code == 0 or (again.code == 2 and any(it in again.output for it in DONE)), again.output
        assert plain(root) == expected, moment
        if place == "disk":
            assert set(contents(root)) == set(contents(whole)), moment
            shutil.rmtree(root)
    sys.stdout.write(
        f"{kind}, {place}: {killed} of {KILLS} killed, {unfinished} before the data set was published\n"
    )
    assert killed


class Slow(http.server.BaseHTTPRequestHandler):
    """Serves `CONTENT` in about two seconds, also from an offset."""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        for offset in range(start, len(CONTENT), 1 << 20):
            try:
                self.wfile.write(CONTENT[offset : offset + (1 << 20)])
            except OSError:  # it was killed
                return
            time.sleep(0.1)

    def log_message(self, *_: Any) -> None:
        pass


def hdf5() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["x"] = np.frombuffer(np.random.default_rng(0).bytes(20 << 20), np.uint8)
    return content.getvalue()


CONTENT = hdf5()


@pytest.fixture
def mirror() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_killed_download(tmp_path: Path, mirror: str):
    code = "from datasets_io.sources.download import fetch; fetch('hopper-medium-v2')"

    def fetch(number: int, after: float | None = None) -> Ended:
        environment = {"OFF2ON_D4RL_MIRROR": mirror, "OFF2ON_CACHE": str(tmp_path / f"cache{number}")}
        return run([sys.executable, "-c", code], tmp_path, environment, after)

    first = fetch(0)
    assert first.code == 0, first.output
    killed = resumed = 0
    for number, moment in enumerate(moments(15, first.seconds), 1):
        killed += fetch(number, moment).killed
        folder = tmp_path / f"cache{number}/d4rl"
        part = folder / "hopper-medium-v2.part"
        resumed += part.is_file() and part.stat().st_size > 0
        again = fetch(number)
        assert again.code == 0, again.output
        assert (folder / "hopper-medium-v2.hdf5").read_bytes() == CONTENT
        assert sorted(path.name for path in folder.iterdir()) == [
            "hopper-medium-v2.hdf5",
            "hopper-medium-v2.json",
        ]
        assert json.loads((folder / "hopper-medium-v2.json").read_text())["bytes"] == len(CONTENT)
        shutil.rmtree(folder)
    sys.stdout.write(f"download: {killed} of {KILLS} killed, {resumed} with a part that was resumed\n")
    assert killed
