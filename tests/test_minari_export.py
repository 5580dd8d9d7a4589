"""Data sets written in Minari's formats, and read back."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from jumps import jumps
from minari_sets import COLUMNS, FORMATS, SPACES, add, create, equal, nested

from datasets_io import Shards
from datasets_io.errors import BadValues, Exists, UserError
from datasets_io.export import export_minari
from datasets_io.sources.minari import OFF2ON_KEY
from off2on.cli import main

minari = pytest.importorskip("minari", reason="minari is not installed")


pytestmark = pytest.mark.usefixtures("minari_root")


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("name", ["wide", "toy-cartpole", "nested"])
def test_there_and_back(tmp_path: Path, data_root: Path, data_format: str, name: str):
    if name == "nested":
        create("lab/first-v0", nested(infos=True), **SPACES)
        first = add("lab/first-v0", tmp_path, infos="success,pose/q")
    else:
        first = Shards(data_root / name)
    folder = export_minari(first, "lab/back-v0", data_format)
    assert sorted(path.name for path in folder.parents[1].iterdir()) == ["lab"]  # nothing half-written
    again = add("lab/back-v0", tmp_path)
    extras = [] if name != "nested" else ["success", "pose/q"]
    equal(first, again, COLUMNS + extras)
    assert (again.env_id, again.env_options) == (first.env_id, first.env_options)
    assert (again.observation_space, again.action_space) == (first.observation_space, first.action_space)
    assert again.nested_observation_space == first.nested_observation_space
    assert again.manifest.description == first.manifest.description
    data = minari.load_dataset("lab/back-v0")  # Minari's own readers find it as any other
    assert data.total_steps == first.rows
    assert "lab/back-v0" in minari.list_local_datasets()
    if first.env_id:
        assert data.recover_environment().spec.id == first.env_id


def test_a_folder_that_cannot_be_made_is_no_defect(tmp_path: Path, data_root: Path, monkeypatch: Any):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/a", Path("/proc/nope")):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        with pytest.raises(UserError, match=str(folder)):
            export_minari(Shards(data_root / "toy-pendulum"), "toy-v0")


def test_an_export_is_whole_or_not_at_all(
    tmp_path: Path, minari_root: Path, data_root: Path, monkeypatch: Any
):
    toy = Shards(data_root / "toy-pendulum")
    with pytest.raises(UserError, match="is not a valid id of Minari"):
        export_minari(toy, "pendulum")
    export_minari(toy, "toy-v0")
    with pytest.raises(Exists, match="toy-v1"):
        export_minari(toy, "toy-v0")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_minari(toy, "toy-v1", progress=stop)
    assert [path.name for path in minari_root.iterdir()] == ["toy-v0"]


def test_rows_that_do_not_follow_each_other_cannot_be_exported(tmp_path: Path):
    with pytest.raises(BadValues, match="do not follow each other"):
        export_minari(jumps(tmp_path), "jumps-v0")


def test_the_command_exports(minari_root: Path, data_root: Path, monkeypatch: Any, capsys: Any):
    words = ["data", "export", str(data_root / "wide"), "my-lab/wide-v0", "--format", "arrow"]
    monkeypatch.setattr(sys, "argv", ["off2on", *words])
    assert main() == 0
    assert "12 episodes" in capsys.readouterr().out
    assert (
        json.loads((minari_root / "my-lab/wide-v0/data/metadata.json").read_text())[OFF2ON_KEY]["env"] is None
    )
