import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.errors import UserError
from datasets_io.sources.minari import Minari

minari = pytest.importorskip("minari", reason="minari is not installed")

BOX = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1, -1], "high": [1, 1]}
SPACES = {
    "observation_space": {
        "type": "Dict",
        "subspaces": {"a": BOX, "b": {"type": "Discrete", "n": 3, "start": 0}},
    },
    "action_space": BOX,
}
SPEC = {
    "id": "CartPole-v1",
    "entry_point": "lab:Env",
    "kwargs": {"a": 1},
    "additional_wrappers": [{"name": "W"}],
}
METADATA = {
    "total_episodes": 2,
    "total_steps": 6,
    "minari_version": minari.__version__,
    "data_format": "hdf5",
    "description": "two episodes",
    "off2on": {"env": "CartPole-v1", "env_options": {}, "columns": [], "nested": None},
}
COLUMNS = {
    "observations/a": np.zeros((4, 2), np.float32),
    "observations/b": np.array([0, 1, 2, 0]),
    "actions": np.zeros((3, 2), np.float32),
    "rewards": np.arange(3.0),
    "terminations": np.array([False, False, True]),
    "truncations": np.array([False, False, False]),
}
WRONG = [
    None,
    np.zeros((4, 3)),
    np.zeros((0, 2)),
    np.zeros(3, "S4"),
    np.float64(1.0),
    np.zeros((3, 2, 2, 2)),
    np.full(3, np.nan),
    h5py.SoftLink("/episode_1"),
    h5py.SoftLink("/nowhere"),
    h5py.ExternalLink("main_data.hdf5", "/episode_1/rewards"),
]


def write(folder: Path, metadata: Any, spaces: Any = SPACES, spec: Any = SPEC) -> Path:
    """Write a data set of two episodes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if isinstance(metadata, dict):
        texts = (
            {name: json.dumps(space) for name, space in spaces.items()} if isinstance(spaces, dict) else {}
        )
        metadata = {**metadata, **texts, "env_spec": json.dumps(spec)}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for number in range(2):
            for name, values in COLUMNS.items():
                file[f"episode_{number}/{name}"] = values
            file[f"episode_{number}"].attrs["total_steps"] = 3
    return folder


def read(folder: Path) -> Any:
    """Read all episodes, or return the error."""

    def episodes() -> Any:
        source = Minari("lab/x-v0")
        found = [episode for part in source.parts(folder) for episode in source.episodes(part)]
        for episode in found:
            episode.check()
        return found

    found = read_or_refused(episodes)
    assert isinstance(found, UserError) or all(len(episode.actions) == 3 for episode in found)
    return found


def test_the_valid_data_set(tmp_path: Path):
    assert [episode.obs.shape for episode in read(write(tmp_path / "x", METADATA))] == [(4, 5)] * 2


@fuzz
@given(metadata=changed(METADATA))
def test_changed_metadata(metadata: Any, tmp_path: Path):
    read(write(tmp_path / "x", metadata))


@fuzz
@given(spaces=changed(SPACES), spec=changed(SPEC))
def test_changed_spaces_and_environments(spaces: Any, spec: Any, tmp_path: Path):
    read(write(tmp_path / "x", {**METADATA, "off2on": {}}, spaces, spec))


@fuzz
@given(name=st.sampled_from([*COLUMNS, "observations", ""]), index=st.integers(0, len(WRONG) - 1))
def test_changed_columns(name: str, index: int, tmp_path: Path):
    folder, path, value = write(tmp_path / "x", METADATA), f"episode_0/{name}".rstrip("/"), WRONG[index]
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file[path]
        if value is not None:
            file[path] = value
    assert isinstance(read(folder), UserError)


@fuzz
@given(data=st.data())
def test_damaged_files(data: st.DataObject, tmp_path: Path):
    folder = write(tmp_path / "x", METADATA)
    file = folder / data.draw(st.sampled_from(["main_data.hdf5", "metadata.json"]))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    read(folder)


def test_declared_sizes_are_checked_first(tmp_path: Path):
    folder = write(tmp_path / "x", METADATA)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_0/actions"]
        file.create_dataset("episode_0/actions", (10**10, 2), "f8", chunks=(1000, 2))
    assert "declares" in str(read(folder))
    for shape in ([10**9], [-1], [2, 10**6, 10**6]):
        spaces = {**SPACES, "action_space": {**BOX, "shape": shape, "low": -1, "high": 1}}
        assert isinstance(read(write(folder, METADATA, spaces)), UserError)
