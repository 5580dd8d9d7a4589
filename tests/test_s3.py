"""Data sets in a bucket, over the real protocol: written, read, listed, checked, learned from, killed."""

import json
import os
import signal
import subprocess
import sys

import forked
import h5py
import numpy as np
import pandas as pd
import pytest
from processes import wait_for

from datasets_io import Episode, Source, open_shards, storage
from datasets_io.errors import BadValues, Corrupt, Exists, UnknownName, Unreachable
from datasets_io.ingestion import workspace
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.reading import data_folders
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.table_files import open_table
from datasets_io.sources.tabular import Table


class Numbers(Source):
    """Three parts of two episodes each, all of one value; part 1 may be bad."""

    def __init__(self, value=0.0, bad=False, scenes=False):
        self.value, self.bad, self.scenes = value, bad, scenes

    def parts(self, path):
        return [0, 1, 2]

    def episodes(self, part):
        for number in range(2):
            obs = np.full((4, 2), self.value + part + number / 10)
            actions = np.zeros((2 if self.bad and part == 1 else 3, 1))
            scene = (f"scene {part}", {"road": np.full((2, 2), part)}) if self.scenes else None
            yield Episode(obs, actions, np.ones(3), terminated=True, scene=scene)


def names(folder):
    return [name.removeprefix(f"{folder}/") for name in storage.list_files(folder, recursive=True)]


def test_a_data_set_in_a_bucket_equals_one_on_a_disk(bucket, tmp_path):
    ours = ingest(Numbers(scenes=True), None, bucket / "data", name="x")
    disk = ingest(Numbers(scenes=True), None, tmp_path, name="x")
    assert ours.manifest.content_hash == disk.manifest.content_hash
    columns = ["obs", "new_obs", "last", "rewards"]
    for name, values in open_shards(f"{bucket}/data/x").read_all(columns).items():
        np.testing.assert_array_equal(values, disk.read_all([name])[name])
    ours.verify()
    kinds = {name.partition("/")[0] for name in names(bucket / "data/x")}
    assert kinds == {"manifest.json", "shards", "scenes"}
    assert not storage.exists(bucket / "data/x.partial")
    from datasets_io.shards.scenes import Scenes

    scenes = Scenes(ours.env_options["scenes"])
    np.testing.assert_array_equal(scenes.read("scene 2")["road"], np.full((2, 2), 2))


def test_names_are_looked_up_in_the_bucket(bucket, monkeypatch):
    monkeypatch.setenv("OFF2ON_DATA", f"{bucket}/data")
    ingest(Numbers(), None, bucket / "data", name="x")
    assert open_shards("x").rows == 18
    assert data_folders(bucket / "data") == [bucket / "data/x"]
    with pytest.raises(UnknownName, match="nearest: x"):
        open_shards("xx")


def test_an_existing_data_set_is_only_replaced_on_request_and_at_once(bucket):
    first = ingest(Numbers(), None, bucket, name="x")
    with pytest.raises(Exists, match="--overwrite"):
        ingest(Numbers(), None, bucket, name="x")
    with pytest.raises(BadValues):
        ingest(Numbers(7, bad=True), None, bucket, name="x", overwrite=True)
    open_shards(bucket / "x").verify()
    before = names(bucket)

    class Looking(Numbers):
        def episodes(self, part):
            open_shards(bucket / "x").verify()
            seen.append(open_shards(bucket / "x").manifest.content_hash)
            yield from super().episodes(part)

    seen: list[str] = []
    second = ingest(Looking(7), None, bucket, name="x", overwrite=True)
    assert seen == 3 * [first.manifest.content_hash]
    assert second.read_all(["obs"])["obs"].min() == 7
    after = names(bucket)
    assert len(after) == len(before) == 4
    assert set(after) & set(before) == {"x/manifest.json"}


def test_refused_data_leave_nothing_in_the_bucket(bucket):
    with pytest.raises(BadValues, match="2 actions"):
        ingest(Numbers(bad=True), None, bucket, name="x")
    assert names(bucket) == []


def test_what_was_abandoned_is_removed_later(bucket, monkeypatch):
    class Interrupted(Numbers):
        def episodes(self, part):
            if part == 2:
                raise KeyboardInterrupt
            return super().episodes(part)

    with pytest.raises(KeyboardInterrupt):
        ingest(Interrupted(), None, bucket, name="x")
    assert len([name for name in names(bucket) if name.startswith("x/shards/")]) == 2
    ingest(Numbers(1), None, bucket, name="x")
    assert len(names(bucket / "x/shards")) == 5  # nobody knows yet that the other one will not come back
    monkeypatch.setattr(workspace, "ABANDONED_S", -10)
    ingest(Numbers(2), None, bucket, name="x", overwrite=True)
    assert len(names(bucket / "x/shards")) == 3
    assert names(bucket / "x") == names(bucket / "x")
    assert not [name for name in names(bucket) if name.startswith("x.partial")]
    open_shards(bucket / "x").verify()


RUN = """
import sys, time
from pathlib import Path
import numpy as np
from datasets_io import Episode, Source
from datasets_io.ingestion import parallel
from datasets_io.ingestion.ingest import ingest

parallel.PATIENCE_S = float("inf")  # never through Ray, whose workers have other arguments

class Slow(Source):
    def parts(self, path):
        return [0, 1, 2, 3]
    def fingerprint(self, path):
        return "the same"
    def episodes(self, part):
        folder = Path(sys.argv[1])
        while part >= 2 and not (folder / "go").exists():
            time.sleep(0.02)
        with (folder / f"read-{part}").open("a") as log:
            log.write("x")
        yield Episode(np.full((4, 2), part), np.zeros((3, 1)), np.ones(3), terminated=True)

print(ingest(Slow(), folder := sys.argv[1], sys.argv[2], name="slow").manifest.content_hash)
"""


@pytest.mark.slow
def test_a_killed_ingest_into_a_bucket_goes_on(bucket, tmp_path):
    def command(out):
        return [sys.executable, "-c", RUN, str(tmp_path), str(out)]

    child = subprocess.Popen(command(bucket), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: len([name for name in names_or_none(bucket) if "/parts/" in name]) >= 2, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(UnknownName):
        open_shards(bucket / "slow")
    (tmp_path / "go").touch()
    resumed = subprocess.run(command(bucket), capture_output=True, text=True, check=True)
    assert [(tmp_path / f"read-{part}").read_text() for part in range(4)] == ["x"] * 4  # each read once
    whole = subprocess.run(command(tmp_path / "disk"), capture_output=True, text=True, check=True)
    assert resumed.stdout == whole.stdout
    open_shards(bucket / "slow").verify()
    assert {name.partition("/")[0] for name in names(bucket)} == {"slow"}


def names_or_none(folder):
    return names(folder) if storage.exists(folder) else []


def test_generations_are_added_in_a_bucket(bucket):
    shards = ingest(Numbers(), None, bucket, name="x")
    longer = append(Numbers(5), None, shards)
    assert (longer.rows, open_shards(f"{bucket}/x@0").rows) == (36, 18)
    longer.verify()
    assert longer.read_all(["obs"])["obs"][-1, 0] == pytest.approx(7.1)
    assert not [name for name in names(bucket) if "incoming" in name]


def test_a_damaged_shard_in_a_bucket_is_found(bucket):
    shards = ingest(Numbers(), None, bucket, name="x")
    content = bytearray(storage.read_bytes(shards.files[1]))
    content[40] ^= 1
    with storage.open_output(shards.files[1]) as file:
        file.write(content)
    with pytest.raises(Corrupt, match="has changed"):
        open_shards(bucket / "x").verify()
    with storage.open_output(shards.files[1]) as file:
        file.write(content[:-1])
    with pytest.raises(Corrupt, match="The manifest lists"):
        open_shards(bucket / "x")
    content[-8:] = bytes(8)  # of the same size, but its end is no Parquet
    with storage.open_output(shards.files[1]) as file:
        file.write(content)
    with pytest.raises(Corrupt, match="cannot be read as Parquet"):
        open_shards(bucket / "x").read_all(["obs"])


def test_a_bucket_that_goes_away_while_data_are_written_keeps_what_was_finished(bucket, monkeypatch):
    class Cut(Numbers):
        def episodes(self, part):
            if part == 1:
                monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            return super().episodes(part)

    address = os.environ["AWS_ENDPOINT_URL"]
    with pytest.raises(Unreachable, match="cannot be reached"):
        ingest(Cut(), None, bucket, name="x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert len([name for name in names(bucket) if name.startswith("x.partial/")]) == 2  # plan, one report


def test_sources_are_read_from_a_bucket(bucket, tmp_path):
    rng = np.random.default_rng(0)
    columns = {"observations": rng.normal(size=(400, 3)), "actions": rng.uniform(-1, 1, (400, 2))}
    columns |= {"rewards": rng.normal(size=400), "terminals": np.arange(400) % 50 == 49}
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    frame = pd.DataFrame({f"x{i}": columns["observations"][:, i] for i in range(3)})
    frame = frame.assign(u=columns["actions"][:, 0], r=columns["rewards"], end=columns["terminals"])
    frame.to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "tables").mkdir()
    frame.to_parquet(tmp_path / "tables/log.parquet")
    for file in ("log.hdf5", "log.csv", "tables/log.parquet"):
        with storage.open_output(bucket / file) as copy:
            copy.write((tmp_path / file).read_bytes())
    table = Table("obs=x0,x1,x2 actions=u rewards=r terminated=end")
    for source, file in ((D4RL(), "log.hdf5"), (table, "log.csv"), (table, "tables")):
        ours = ingest(source, f"{bucket}/{file}", tmp_path / "ours", name="x", overwrite=True)
        disk = ingest(source, tmp_path / file, tmp_path / "disk", name="x", overwrite=True)
        assert ours.manifest.content_hash == disk.manifest.content_hash
        assert ours.manifest.source["path"] == f"{bucket}/{file}"
    changed = table.fingerprint(bucket / "tables")
    with storage.open_output(bucket / "tables/log.parquet") as copy:
        copy.write(b"another")
    assert table.fingerprint(bucket / "tables") != changed
    with pytest.raises(UnknownName, match="nothing"):
        ingest(D4RL(), bucket / "nothing.hdf5", tmp_path, name="y")
    with pytest.raises(UnknownName, match="nothing"):
        open_table(f"{bucket}/nothing.csv")


def off2on(cwd, *words):
    return forked.run(cwd, *words, env=os.environ, timeout=240)


@pytest.mark.slow
def test_the_command_line_works_in_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("OFF2ON_DATA", f"{bucket}/data")
    few = ["hidden=8,8", "--updates=20", "--eval-every=20", "--threads=1"]
    for words, said in [
        (["data", "add", "toy-pendulum", "episodes=3"], f"{bucket}/data/toy-pendulum"),
        (["data", "list"], "toy-pendulum"),
        (["data", "show", "toy-pendulum", "--json"], '"rows": 600'),
        (["data", "check", f"{bucket}/data/toy-pendulum"], "verified"),
        (["train", "iql", f"{bucket}/data/toy-pendulum", *few], "run"),
    ]:
        done = off2on(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout, words
    about = (tmp_path / "runs/toy-pendulum/iql-s0/run.yaml").read_text()
    assert f"{bucket}/data/toy-pendulum" in about
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    done = off2on(tmp_path, "data", "list")
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "try: export AWS_ACCESS_KEY_ID" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_window_slides_over_shards_in_a_bucket(bucket, wide):
    import torch

    from off2on.algorithms.iql import IQL
    from off2on.replay.offline_rows import OfflineRows
    from off2on.replay.transforms import Transforms

    for file in storage.list_files(wide.path, recursive=True):
        with storage.open_output(bucket / "wide" / file.removeprefix(str(wide.path))) as copy:
            copy.write(storage.read_bytes(file))

    def window(shards):
        return OfflineRows(
            shards,
            IQL.columns,
            Transforms.of(shards, IQL.Hyperparameters()),
            discount=0.99,
            budget=60 * 60,
            capacity=0,
            partition=(0, 1),
            device=torch.device("cpu"),
            seed=0,
        )

    ours, disk = window(open_shards(bucket / "wide")), window(wide)
    assert ours.streams
    for _ in range(12):
        ours.slide(40)
        disk.slide(40)
        assert torch.equal(ours.rows.data, disk.rows.data)


def test_the_manifest_is_plain_json_in_the_bucket(bucket):
    ingest(Numbers(), None, bucket, name="x")
    assert json.loads(storage.read_text(bucket / "x/manifest.json"))["rows"] == 18
