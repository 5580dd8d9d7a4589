"""An ingest of Waymo shards that is killed and run again, and its memory: real processes."""

import signal
import subprocess
import sys

from processes import wait_for
from waymo_records import real_record
from waymo_shards import damaged, names, shard

from datasets_io import open_shards
from datasets_io.ingestion import parallel
from datasets_io.ingestion.ingest import ingest
from datasets_io.waymo import Waymo
from datasets_io.waymo.schema import message

RUN = """
import sys
from pathlib import Path
from datasets_io.ingestion.ingest import ingest
from datasets_io.waymo import Waymo
ingest(Waymo(vehicles="moving"), sys.argv[1], Path(sys.argv[2]), name="cars")
"""


def renamed(data, name):
    changed = message("Scenario").FromString(data)
    changed.scenario_id = name
    return changed.SerializeToString()


def test_killed_in_the_middle_and_run_again_it_is_the_same(tmp_path, monkeypatch):
    """The real scene under other names in 6 shards, one record damaged; killed after at least two."""
    data = real_record("scenario")
    for number in range(6):
        shard(
            tmp_path / "in" / f"t.tfrecord-0000{number}-of-00006",
            *(renamed(data, f"{number}-{k}") for k in range(2)),
        )
    third = tmp_path / "in" / "t.tfrecord-00003-of-00006"
    third.write_bytes(damaged(data) + third.read_bytes())
    out = tmp_path / "data"
    command = [sys.executable, "-c", RUN, str(tmp_path / "in"), str(out)]
    child = subprocess.Popen(command, start_new_session=True)
    finished = out / "cars.partial" / "parts"
    wait_for(lambda: len(list(finished.glob("0*.json"))) >= 2, child, every=0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (out / "cars").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in finished.glob("0*.json")}
    assert 2 <= len(kept) < 6

    monkeypatch.setattr(parallel, "PATIENCE_S", 0)  # the rest through Ray
    written = []
    source = Waymo(vehicles="moving")
    resumed = ingest(source, tmp_path / "in", out, name="cars", progress=lambda *call: written.append(call))
    monkeypatch.setattr(parallel, "PATIENCE_S", float("inf"))
    whole = ingest(source, tmp_path / "in", tmp_path / "other", name="cars")
    assert written[0][1] >= len(kept)  # those were not read again
    assert resumed.manifest.files == whole.manifest.files
    assert resumed.manifest.scene_files == whole.manifest.scene_files
    assert resumed.manifest.content_hash == whole.manifest.content_hash
    assert (resumed.path / "quarantine.csv").read_text() == (whole.path / "quarantine.csv").read_text()
    assert sorted(path.name for path in resumed.path.iterdir()) == [
        "manifest.json",
        "quarantine.csv",
        "scenes",
        "shards",
    ]
    shards = open_shards(out / "cars")
    assert list(dict.fromkeys(names(shards))) == [f"{number}-{k}" for number in range(6) for k in range(2)]
    assert (
        len({name for file in shards.files for name in shards.read(file, ["eps_id"])["eps_id"]})
        == shards.episodes
    )
    resumed.verify()


def test_memory_does_not_grow_with_a_shard(tmp_path):
    """A shard of 40 records of 1 MB goes through a process that may not hold half of them."""
    data = real_record("scenario")
    few, many = (
        shard(tmp_path / f"{count}.tfrecord", *(renamed(data, str(number)) for number in range(count)))
        for count in (6, 40)
    )
    code = """
import resource, sys
from datasets_io.waymo import Waymo
def peak(file):
    for episode in Waymo().episodes(file):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak(sys.argv[1])
print(peak(sys.argv[2]) - before)
"""
    command = [sys.executable, "-c", code, str(few), str(many)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(out.stdout) < 20, f"{out.stdout} MB more for 40 records than for 6"
