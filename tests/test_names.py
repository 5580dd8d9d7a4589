"""Names of data sets at every door, and old folders whose names are no longer valid."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from datasets_io import open_shards
from datasets_io.errors import Exists, UnknownName, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.toy import ToyPendulum
from datasets_io.storage.names import is_valid_name
from off2on.cli import off2on as command

CSV = "obs,actions,rewards,terminated\n" + "".join(f"0.{i},0.{i},1.0,{i == 9}\n" for i in range(10))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with its data sets in data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFF2ON_DATA", "data")
    return tmp_path


def off2on(*words: str) -> Any:
    return CliRunner().invoke(command, words)


@pytest.mark.parametrize(
    ("file", "name"),
    [("a@1.csv", "a-1"), ("-dash.csv", "dash"), ("my réseau.csv", "my-reseau"), ("x.csv", "x")],
)
def test_a_file_gives_a_valid_name(here: Path, file: str, name: str):
    (here / file).write_text(CSV)
    added = off2on("data", "add", "--", file)
    assert added.exit_code == 0, added.output
    assert [folder.name for folder in (here / "data").iterdir()] == [name]
    assert open_shards(name).rows == 10


@pytest.mark.parametrize("name", ["..", "", "a/b", "-x", ".x", "a@1", "x" * 101])
def test_an_invalid_name_is_refused_before_the_data_are_read(here: Path, name: str):
    added = off2on("data", "add", "no-such-file.csv", "--name", name, "--overwrite")
    assert isinstance(added.exception, UserError)
    assert not isinstance(added.exception, UnknownName)  # of the file
    assert is_valid_name(added.exception.try_.removeprefix("--name "))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["toy-pendulum", "maze-umaze", "ogbench-cube-single-play-task1"])
def test_a_path_after_a_generated_name_is_refused(here: Path, name: str):
    assert resolve_source(name, options={"seed": "3"}).path is None
    (here / "my log.csv").write_text(CSV)
    added = off2on("data", "add", name, "my log.csv")
    assert isinstance(added.exception, UserError)
    assert f"{name} is generated" in added.exception.what
    assert [path.name for path in here.iterdir()] == ["my log.csv"]
    assert off2on(*shlex.split(added.exception.try_)[1:]).exit_code == 0
    assert open_shards("my-data").rows == 10


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_compressed_table_is_told_with_the_line_that_unpacks_it(here: Path, suffix: str):
    for words in ((f"x.csv{suffix}", None), ("mine", f"x.csv{suffix}")):
        with pytest.raises(UserError, match="compressed") as refused:
            resolve_source(*words)
        assert f"x.csv{suffix}" in refused.value.try_
        assert refused.value.try_.endswith("off2on data add x.csv")


@pytest.mark.parametrize("old", ["a@1", "-dash", "my data", "é"])
def test_an_old_folder_is_opened_after_the_renaming_that_is_told(here: Path, old: str):
    shards = ingest(ToyPendulum(episodes=1), None, "data", name="x")
    shards.path.rename(shards.path.with_name(old))
    for door in (["data", "show"], ["data", "check"], ["data", "export"]):
        opened = off2on(*door, "--", old, *(["my-lab/x-v0"] if door[1] == "export" else []))
        assert type(opened.exception) is UserError, opened.output
    command, dashes, source, target = shlex.split(opened.exception.try_)
    assert (command, dashes) == ("mv", "--")
    Path(source).rename(target)
    assert open_shards(Path(target).name).rows == shards.rows


def test_a_path_opens_a_folder_of_any_name(here: Path):
    shards = ingest(ToyPendulum(episodes=1), None, "data", name="x")
    shards.path.rename(here / "my data")
    pinned = f"{here / 'my data'}@0-0"  # as the runs of before have it
    np.testing.assert_array_equal(open_shards(pinned).returns, shards.returns)


def test_a_name_that_nothing_has_is_unknown(here: Path):
    for name in ("a@1", "-dash", "x" * 5000, "a\0b"):
        with pytest.raises(UnknownName):
            open_shards(name)


@pytest.mark.parametrize("minari_id", ["-lab/x-v0", "my-lab/-x-v0", "é/x-v0", f"{'x' * 101}-v0", "../x-v0"])
def test_export_takes_valid_names_only(here: Path, monkeypatch: pytest.MonkeyPatch, minari_id: str):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    from datasets_io.export import export_minari

    shards = ingest(ToyPendulum(episodes=1), None, "data", name="x")
    with pytest.raises(UserError, match="is not a valid"):
        export_minari(shards, minari_id)
    assert [path.name for path in here.iterdir()] == ["data"]


def test_an_export_leaves_nothing_of_a_killed_one(here: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "minari"))
    from datasets_io.export import export_minari

    (here / "minari/.my-lab-x-v0.partial/data").mkdir(parents=True)
    shards = ingest(ToyPendulum(episodes=1), None, "data", name="x")
    export_minari(shards, "my-lab/x-v0")
    assert [path.name for path in (here / "minari").iterdir()] == ["my-lab"]
    assert [path.name for path in (here / "minari/my-lab").iterdir()] == ["x-v0"]
    with pytest.raises(Exists):
        export_minari(shards, "my-lab/x-v0")
