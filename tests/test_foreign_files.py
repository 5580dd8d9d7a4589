"""Files of others run nothing, and a checkpoint of somebody else is told."""

import json
import os
import pickle
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import off2on
from malicious import MARKER, TOUCH_MARKER, MaliciousPickle

from datasets_io import Shards
from datasets_io.errors import Corrupt
from datasets_io.export import export_minari
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.minari import Minari
from datasets_io.sources.ogbench import OGBench
from datasets_io.sources.tabular import Table
from datasets_io.storage.parquet import open_parquet
from datasets_io.waymo.source import Waymo
from off2on.errors import UserError
from off2on.training.plan import Plan
from off2on.training.resume import untrusted_reason
from off2on.training.train import train


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which harm would show."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def objects(rows: int) -> pa.Table:
    """A table with a column of pickles, of the type by which Ray Data knows them."""
    kind = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    fields = [
        pa.field("rewards", pa.large_binary(), metadata=kind),
        pa.field("obs", pa.list_(pa.float64())),
        pa.field("actions", pa.list_(pa.float64())),
        pa.field("episode", pa.int64()),
    ]
    columns = [[pickle.dumps(MaliciousPickle())] * rows, [[1.0, 2.0]] * rows, [[0.5]] * rows, [0] * rows]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.table(arrays, schema=pa.schema(fields))


@pytest.mark.parametrize("name", ["buffer.pkl", "buffer.pickle", "buffer.PKL", "buffer.pkl.gz"])
def test_a_pickle_is_refused_with_the_place_of_the_lines_that_export_it(here: Path, name: str):
    Path(name).write_bytes(pickle.dumps(MaliciousPickle()))
    for words in (["data", "add", name], ["data", "add", "mine", name], ["data", "check", name]):
        done = off2on(here, *words)
        assert done.returncode == 3
        assert f"{name} is a pickle" in done.stderr
        assert "can run any code" in done.stderr
        assert "Stable-Baselines3 of platform/docs/data.md" in done.stderr
    assert not Path(MARKER).exists()
    assert not Path("data").exists()


def test_a_table_runs_nothing(here: Path):
    import ray.data  # noqa: F401  (with it come types of columns that unpickle their cells)

    pq.write_table(objects(2), "mine.parquet")
    with pytest.raises(Corrupt, match=r"'rewards' of mine\.parquet.*Python objects"):
        ingest(Table(), "mine.parquet", here / "data", name="mine")
    assert not Path(MARKER).exists()
    pd.read_parquet("mine.parquet")["rewards"].to_numpy()
    assert Path(MARKER).exists(), "pandas alone would run it"


def test_types_of_columns_are_not_unpickled(here: Path):
    import ray.data  # noqa: F401

    for name in ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.py_extension_type"):
        kind = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(MaliciousPickle())}
        field = pa.field("obs", pa.list_(pa.float64()), metadata=kind)
        pq.write_table(pa.table([pa.array([[1.0]])], schema=pa.schema([field])), "typed.parquet")
        with suppress(Corrupt):
            open_parquet("typed.parquet", "typed.parquet").read()
        assert not Path(MARKER).exists()


def test_shards_run_nothing(toy: Shards, here: Path):
    """A shard of the right size, whose manifest is right about it."""
    import ray.data  # noqa: F401

    shutil.copytree(str(toy.path), "evil")
    manifest = json.loads(Path("evil/manifest.json").read_text())
    shard = Path("evil/shards") / manifest["files"][0]["name"]
    pq.write_table(objects(manifest["files"][0]["rows"]), shard)
    manifest["files"][0]["bytes"] = shard.stat().st_size
    Path("evil/manifest.json").write_text(json.dumps(manifest))
    shards = Shards(Path("evil"))
    with pytest.raises(Corrupt, match="Python objects"):
        shards.read(shards.files[0], ["rewards"])
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("data_format", ["parquet", "arrow"])
def test_minari_runs_nothing(data_format: str, toy: Shards, here: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("minari")
    import ray.data  # noqa: F401

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    folder = export_minari(toy, "lab/toy-v0", data_format)
    path = next((folder / "data" / "0").glob(f"*.{data_format}"))
    with pa.OSFile(str(path), "wb") as file:
        if data_format == "parquet":
            pq.write_table(objects(201), file)
        else:
            with pa.ipc.new_file(file, objects(0).schema) as writer:
                writer.write_table(objects(201))
    with pytest.raises(Corrupt, match="Python objects"):
        ingest(Minari("lab/toy-v0"), folder, here / "data", name="mine")
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("data_format", ["hdf5", "parquet", "arrow"])
@pytest.mark.parametrize("missing", [["observation_space", "action_space"], ["action_space"], []], ids=len)
def test_minari_makes_no_environment_of_a_file(
    data_format: str, missing: list[str], toy: Shards, here: Path, monkeypatch: pytest.MonkeyPatch
):
    """Minari's own reader makes it, if a space is missing."""
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    folder = export_minari(toy, "lab/toy-v0", data_format)
    Path("evil.py").write_text(TOUCH_MARKER)
    monkeypatch.syspath_prepend(here)
    metadata = json.loads((folder / "data/metadata.json").read_text())
    spec = {"id": "Evil-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {MARKER}"}}
    for name in ("off2on", *missing):
        del metadata[name]
    for entry in ("os:system", "evil:Env"):
        metadata["env_spec"] = json.dumps({**spec, "entry_point": entry})
        (folder / "data/metadata.json").write_text(json.dumps(metadata))
        with suppress(Corrupt):  # only HDF5 tells shapes without spaces
            shards = ingest(Minari("lab/toy-v0"), folder, here / "data", name="mine", overwrite=True)
            assert shards.env_id == f"{entry.partition(':')[0]}:Evil-v0"
            assert shards.observation_space.shape == (3,)
            assert shards.action_space.shape == (1,)
            np.testing.assert_array_equal(shards.read_all(["obs"])["obs"], toy.read_all(["obs"])["obs"])
            continue
        assert missing
        assert data_format != "hdf5"
    assert not Path(MARKER).exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("name", ["mine.npz", "mine.hdf5", "mine.tfrecord", "mine.parquet"])
def test_a_pickle_under_another_name_is_not_read(name: str, here: Path):
    Path(name).write_bytes(pickle.dumps(MaliciousPickle()))
    source = {"npz": OGBench(), "hdf5": D4RL(), "tfrecord": Waymo(), "parquet": Table()}[name.split(".")[1]]
    with pytest.raises(UserError):
        ingest(source, name, here / "data", name="mine")
    assert not Path(MARKER).exists()


def test_arrays_of_objects_are_refused(here: Path):
    harm = np.empty(3, object)
    harm[:] = [MaliciousPickle()] * 3
    np.savez("mine.npz", observations=harm, actions=harm, terminals=harm, rewards=np.zeros(3))
    with pytest.raises(UserError, match="object"):
        ingest(OGBench(), "mine.npz", here / "data", name="mine")
    with h5py.File("mine.hdf5", "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = [pickle.dumps(MaliciousPickle(), 0)] * 3
    with pytest.raises(UserError):
        ingest(D4RL(), "mine.hdf5", here / "data", name="mine")
    assert not Path(MARKER).exists()


def test_a_checkpoint_of_somebody_else_is_told(here: Path):
    ours, theirs = here / "runs/x/checkpoints/handover", here / "mail/x/checkpoints/handover"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        (folder / "class_and_ctor_args.pkl").touch()
    assert untrusted_reason(ours) is None
    assert untrusted_reason(theirs) == f"it lies outside {here / 'runs'}"
    assert untrusted_reason(theirs, here / "mail") is None
    (here / "runs/y").symlink_to(theirs)
    assert untrusted_reason(here / "runs/y") == f"it lies outside {here / 'runs'}"
    if os.geteuid() == 0:
        os.chown(ours / "class_and_ctor_args.pkl", 12345, -1)
        assert untrusted_reason(ours) == "another user wrote it"


@pytest.mark.slow
def test_a_run_from_elsewhere_says_so_before_it_is_read(
    toy: Shards, here: Path, capfd: pytest.CaptureFixture[str]
):
    small = {"hidden": "16,16", "batch_size": "16"}
    plan = Plan(
        "td3_bc", "toy-pendulum", small, updates=2, eval_every=2, eval_episodes=1, threads=1, out="mail"
    )
    train(plan)
    assert "pickle" not in capfd.readouterr().err
    train(replace(plan, out="runs", source=str(plan.folder), online=1, strategy="append"))
    assert f"{plan.folder.absolute()}/checkpoints/handover is a pickle" in capfd.readouterr().err
