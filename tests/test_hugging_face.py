"""Data sets of Hugging Face: folders of datasets 5.2.0 (see helpers/make_hf_datasets.py), and faulty copies.

Each has 3 episodes of 4, 3 and 5 rows, of which the first ends terminated. Files end inside of episodes.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command import off2on
from malicious import MARKER, MaliciousPickle

from datasets_io import Shards, storage
from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, UnknownName, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.source import Source
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.hugging_face import HuggingFace
from datasets_io.sources.tabular import Table

FILES = Path(__file__).parent / "fixtures" / "hf_datasets"
KINDS = ("disk", "splits", "hub")


def read(source: Source, folder: Any) -> list[Episode]:
    return [episode for part in source.parts(folder) for episode in source.episodes(part)]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES / "disk", tmp_path / "mine"))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_become_episodes(kind: str):
    first, second, third = read(HuggingFace(), FILES / kind)
    np.testing.assert_array_equal(first.obs, [[0, t, 0.5] for t in range(4)])
    np.testing.assert_allclose(second.actions, [[t / 10, -1] for t in range(3)], rtol=1e-6)
    np.testing.assert_array_equal(third.rewards, np.arange(5) + 0.25)
    assert [episode.terminated for episode in (first, second, third)] == [True, False, False]


def test_all_forms_give_the_same_data(tmp_path: Path):
    hashes = {
        ingest(HuggingFace(), FILES / kind, tmp_path, name=kind).manifest.content_hash for kind in KINDS
    }
    assert len(hashes) == 1


def test_columns_and_matrices_can_be_chosen():
    first, *_ = read(HuggingFace("obs=pose"), FILES / "disk")
    np.testing.assert_array_equal(first.obs, [[t, 1, 2, 3] for t in range(4)])
    assert first.obs_shape == (2, 2)
    with pytest.raises(BadValues, match="column 'note' holds 'x'"):
        read(HuggingFace("rewards=note"), FILES / "disk")


@pytest.mark.parametrize("kind", ["splits", "hub"])
def test_splits(kind: str):
    source = HuggingFace()
    source.parts(FILES / kind)
    assert [fault.detail for fault in source.faults] == ["train was read; other splits: test"]
    assert read(HuggingFace(split="test"), FILES / kind)[0].obs[0, 0] == 10
    with pytest.raises(UnknownName, match="no split 'tset'") as error:
        HuggingFace(split="tset").parts(FILES / kind)
    assert error.value.nearest == "test"


def test_a_saved_data_set_without_splits_has_none(disk: Path):
    with pytest.raises(UnknownName, match="is one split: it has none named 'train'"):
        HuggingFace(split="train").parts(disk)


def test_files_that_are_not_listed_are_caches(disk: Path):
    shutil.copy(disk / "data-00000-of-00002.arrow", disk / "cache-0123456789abcdef.arrow")
    assert len(read(HuggingFace(), disk)) == 3


def test_the_folder_is_recognised_with_and_without_a_name(tmp_path: Path):
    for kind in KINDS:
        for found, name in (
            (resolve_source(str(FILES / kind)), kind),
            (resolve_source("a", FILES / kind), "a"),
        ):
            assert (type(found.source), found.path, found.name) == (HuggingFace, FILES / kind, name)
    flat = shutil.copytree(FILES / "hub" / "data", tmp_path / "flat")
    assert isinstance(resolve_source("a", flat).source, HuggingFace)
    with pytest.raises(UnknownName, match="no data set of Hugging Face"):
        HuggingFace().parts(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command(tmp_path: Path, kind: str):
    done = off2on(tmp_path, "data", "add", FILES / kind)
    assert done.returncode == 0, done.stderr
    shards = Shards(tmp_path / "data" / kind)
    assert (shards.episodes, shards.rows) == (3, 4 + 2 + 4)  # the last rows of two lack what follows


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_in_a_bucket(bucket: storage.Location, kind: str):
    for file in (FILES / kind).rglob("*.*"):
        with storage.open_output(bucket / str(file.relative_to(FILES))) as out:
            out.write(file.read_bytes())
    found = resolve_source(str(bucket / kind))
    assert (type(found.source), found.name) == (HuggingFace, kind)
    for ours, theirs in zip(read(found.source, found.path), read(HuggingFace(), FILES / kind), strict=True):
        np.testing.assert_array_equal(ours.obs, theirs.obs)


def test_one_file_is_a_table(tmp_path: Path):
    file = FILES / "splits" / "train" / "data-00000-of-00001.arrow"
    found = resolve_source("mine", file)
    assert type(found.source) is Table
    assert len(read(found.source, file)) == 3
    with pa.memory_map(str(file)) as opened:
        table = pa.ipc.open_stream(opened).read_all()
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as writer:  # as Polars and Feather write it
        writer.write_table(table, max_chunksize=5)
    np.testing.assert_array_equal(read(Table(), tmp_path / "x.arrow")[2].obs, read(Table(), file)[2].obs)


def test_missing_files_are_refused(disk: Path, tmp_path: Path):
    (disk / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(Corrupt, match=r"has no file data-00001-of-00002\.arrow"):
        HuggingFace().parts(disk)
    hub = Path(shutil.copytree(FILES / "hub", tmp_path / "hub"))
    (hub / "data" / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(Corrupt, match="has 1 of 2 files of 'train'"):
        HuggingFace().parts(hub)


@pytest.mark.parametrize("name", ["../disk/data-00000-of-00002.arrow", "/etc/passwd", "x.pkl"])
def test_files_of_other_folders_are_refused(disk: Path, name: str):
    (disk / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(Corrupt, match=r"state\.json: _data_files\[0\]\.filename"):
        HuggingFace().parts(disk)


def test_a_choice_of_rows_is_refused(disk: Path):
    state = json.loads((disk / "state.json").read_text())
    indices = [{"filename": "indices.arrow"}]
    (disk / "state.json").write_text(json.dumps({**state, "_indices_data_files": indices}))
    with pytest.raises(UserError, match="by a list of indices") as error:
        HuggingFace().parts(disk)
    assert "flatten_indices" in str(error.value)


def test_missing_columns_are_refused_with_the_nearest_name(disk: Path, tmp_path: Path):
    done = off2on(tmp_path, "data", "add", "x", disk, "--columns", "obs=pos")
    assert done.returncode == 3
    assert "data-00000-of-00002.arrow: there is no column 'pos'" in done.stderr
    assert "nearest: pose." in done.stderr
    assert "try: off2on data add x " + str(disk) + " --columns obs=pose" in done.stderr
    assert not (tmp_path / "data" / "x").exists()


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_columns_of_pickles_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: Callable[..., Any]
):
    import ray.data  # noqa: F401  (with it come types of columns that unpickle their cells)

    monkeypatch.chdir(tmp_path)
    kind = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    cells = pa.array([pickle.dumps(MaliciousPickle())], pa.large_binary())
    table = pa.table([cells], pa.schema([pa.field("obs", pa.large_binary(), metadata=kind)]))
    with new("x.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(Corrupt, match="Python objects"):
        read(Table("obs=obs actions=obs rewards=obs episode=obs"), tmp_path / "x.arrow")
    assert not (tmp_path / MARKER).exists()


def test_damaged_files_are_refused(disk: Path, tmp_path: Path):
    file = disk / "data-00001-of-00002.arrow"
    content = file.read_bytes()
    for damaged in (content[:-600], b"", b"no arrow at all", content[:8] + b"\xff" * 40 + content[48:]):
        file.write_bytes(damaged)
        done = off2on(tmp_path, "data", "add", "x", disk)
        assert done.returncode == 3, done.stderr
        assert "data-00001-of-00002.arrow" in done.stderr
        assert not (tmp_path / "data" / "x").exists()
