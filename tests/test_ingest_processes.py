"""Check that an ingest is atomic in parallel, after a kill and a resume, and that its memory is bounded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import wait_for

from datasets_io import Source, open_shards
from datasets_io.errors import BadValues, Exists, UnknownName
from datasets_io.ingestion import parallel
from datasets_io.ingestion.ingest import ingest

# Importable from a folder of its own, as a user's would be; Ray's workers must find it there.
SLOW = '''
import os, time
from pathlib import Path
import numpy as np
from datasets_io import Episode, Source

class Slow(Source):
    """Source of six parts; those after the second wait until the file `go` exists."""
    def __init__(self, bad=-1):
        self.bad = bad
    def parts(self, path):
        return [(path, number) for number in range(6)]
    def fingerprint(self, path):
        return "the same data"
    def episodes(self, part):
        path, number = part
        with (path / f"read-{number}").open("a") as log:
            log.write("x")
        while number >= 2 and not (path / "go").exists():
            time.sleep(0.02)
        rng = np.random.default_rng(number)
        for _ in range(3):
            steps = int(rng.integers(2, 9))
            reward = rng.normal(size=steps)
            if number == self.bad:
                yield Episode(np.zeros((steps + 3, 2)), np.zeros((steps, 1)), reward, False)
            yield Episode(rng.normal(size=(steps + 1, 2)), rng.normal(size=(steps, 1)), reward, False)
'''
RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from slow_source_of_a_test import Slow
from datasets_io.ingestion import parallel
from datasets_io.ingestion.ingest import ingest
parallel.PATIENCE_S = 0
ingest(Slow(), Path(sys.argv[2]), Path(sys.argv[3]), name="slow")
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Return the class of the source and the folder that it reads."""
    code, data = tmp_path / "code", tmp_path / "input"
    code.mkdir()
    data.mkdir()
    (code / "slow_source_of_a_test.py").write_text(SLOW)
    monkeypatch.syspath_prepend(code)
    monkeypatch.setattr(parallel, "PATIENCE_S", 0)  # through Ray at once
    from slow_source_of_a_test import Slow

    yield Slow, data
    sys.modules.pop("slow_source_of_a_test")


@pytest.mark.slow
def test_a_killed_ingest_leaves_nothing_that_opens_and_is_resumed(tmp_path, slow, monkeypatch):
    kind, data = slow
    out = tmp_path / "data"
    command = [sys.executable, "-c", RUN, str(tmp_path / "code"), str(data), str(out)]
    child = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    finished = out / "slow.partial" / "parts"
    wait_for(lambda: len(list(finished.glob("0*.json"))) == 2)
    with pytest.raises(Exists, match=f"is being written by process {child.pid} on"):
        ingest(kind(), data, out, name="slow")
    child.send_signal(signal.SIGKILL)
    child.wait()

    assert not (out / "slow").exists()
    for name in (out / "slow", out / "slow.partial"):
        with pytest.raises(UnknownName):
            open_shards(name)
    before = {number: (data / f"read-{number}").stat().st_size for number in (0, 1)}

    (data / "go").touch()
    calls = []
    resumed = ingest(kind(), data, out, name="slow", progress=lambda *call: calls.append(call))
    assert {number: (data / f"read-{number}").stat().st_size for number in (0, 1)} == before  # not read again
    monkeypatch.setattr(parallel, "PATIENCE_S", float("inf"))  # all six parts in this process
    whole = ingest(kind(), data, tmp_path / "other", name="slow")
    assert resumed.manifest.content_hash == whole.manifest.content_hash
    assert calls[-1] == (whole.rows, 6, 6)
    assert sorted(path.name for path in resumed.path.iterdir()) == ["manifest.json", "shards"]
    assert [path.name for path in out.iterdir()] == ["slow"]
    resumed.verify()

    # From one part the same rows come out, in the same order.
    class OnePart(Source):
        def episodes(self, part):
            for number in range(6):
                yield from kind().episodes((data, number))

    single = ingest(OnePart(), None, tmp_path / "third", name="slow")
    for name, values in single.read_all(["obs", "actions", "rewards", "new_obs", "last"]).items():
        np.testing.assert_array_equal(values, whole.read_all([name])[name])
    np.testing.assert_allclose(
        single.manifest.statistics["obs"]["std"], whole.manifest.statistics["obs"]["std"], rtol=1e-12
    )


def test_a_worker_raises_a_user_error_unchanged(tmp_path, slow):
    kind, data = slow
    (data / "go").touch()
    with pytest.raises(BadValues, match=r"3 observations|observations were expected"):
        ingest(kind(bad=4), data, tmp_path / "data", name="slow")
    assert not (tmp_path / "data").exists()


# One process that forks a child for each death, so that everything is imported only once.
CRASHES = """
import os, shutil, signal, sys, traceback
from pathlib import Path
import gymnasium, numpy as np, pandas, pyarrow.parquet
from datasets_io import Episode, Source, open_shards
from datasets_io.errors import UnknownName
from datasets_io.ingestion.ingest import ingest

class Data(Source):
    def __init__(self, value):
        self.value = value
    def parts(self, path):
        return [1, 2]
    def episodes(self, part):
        for _ in range(3):
            yield Episode(np.full((4, 1), part + self.value), np.ones((3, 1)), np.ones(3), terminated=True)

def run(folder, value, steps):
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    try:
        left = [steps]
        def dying(function):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return call
        os.replace, shutil.rmtree, Path.unlink = map(dying, (os.replace, shutil.rmtree, Path.unlink))
        ingest(Data(value), None, folder, name="x", overwrite=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

def content(folder):
    shards = open_shards(folder)
    shards.verify()
    return shards.manifest.content_hash

hashes = []
for value in (0, 7):
    assert run(Path(sys.argv[1]) / f"value{value}", value, 1000) == 0
    hashes.append(content(Path(sys.argv[1]) / f"value{value}" / "x"))
for steps in range(100):
    folder = Path(sys.argv[1]) / str(steps)
    assert run(folder, 0, 1000) == 0
    status = run(folder, 7, steps)
    if (folder / "x").exists():
        assert content(folder / "x") in hashes
    try:
        open_shards(folder / "x.partial")
        raise SystemExit("a partial folder was opened")
    except UnknownName:
        pass
    if status == 0:
        break
    assert status == signal.SIGKILL
    assert run(folder, 7, 1000) == 0
    assert content(folder / "x") == hashes[1]
    assert os.listdir(folder) == ["x"]
print(steps)
"""


@pytest.mark.slow
def test_a_crash_at_any_step_leaves_the_old_data_or_the_new_or_none(tmp_path):
    """Kill the ingest before its n-th change to the folder, for every n; then run it again to the end."""
    script = [sys.executable, "-c", CRASHES, str(tmp_path)]
    out = subprocess.run(script, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) > 10


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path):
    """Ingest a million rows as one part, in a process with too little memory to hold them."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from datasets_io import Episode, Source
from datasets_io.ingestion.ingest import ingest
import pandas, gymnasium, h5py
class Long(Source):
    def __init__(self, count):
        self.count = count
    def episodes(self, part):
        for _ in range(self.count):
            obs, actions = np.ones((1001, 40), np.float32), np.ones((1000, 8), np.float32)
            yield Episode(obs, actions, np.ones(1000), False)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
ingest(Long(100), None, Path(sys.argv[1]), name="a")
before = peak()
ingest(Long(600), None, Path(sys.argv[1]), name="b")
print(peak() - before)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    grown = int(out.stdout)
    assert grown < 40, f"{grown} MB more for 600,000 rows (115 MB) than for 100,000"
    assert len(list(Path(tmp_path / "b" / "shards").iterdir())) == 6
