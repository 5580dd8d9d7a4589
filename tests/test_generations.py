"""Check generations: an addition changes no existing file, and every range of generations can be opened."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import command
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium.spaces import Box, Dict

from datasets_io import Episode, Shards, Source, open_shards
from datasets_io.errors import BadValues, Exists, UnknownName
from datasets_io.flatten import flat_space
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards import manifest
from datasets_io.shards.generations import GenerationRange, parse_generations
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.hugging_face import HuggingFace
from datasets_io.sources.tabular import Table


class Trips(Source):
    """Source of three one-dimensional trips, identified by their rewards."""

    count = 3

    def __init__(self, first: int = 0, width: int = 1) -> None:
        self.first, self.width = first, width

    def episodes(self, part: Any) -> Iterator[Episode]:
        for number in range(self.first, self.first + self.count):
            obs = np.full((6, self.width), number, np.float32)
            yield Episode(obs, np.linspace(-1, 1, 5), np.full(5, float(number)), terminated=number % 2 == 0)


class Many(Trips):
    """Source of five hundred trips."""

    count = 500


@pytest.fixture
def grown(tmp_path: Path) -> Shards:
    """Return a data set with the trips 0–2, 10–12 and 20–22 in generations 0, 1 and 2."""
    shards = ingest(Trips(0), None, tmp_path, name="trips", discount=0.9)
    for first in (10, 20):
        shards = append(Trips(first), None, shards)
    return shards


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("trips", None),
        ("trips@1", GenerationRange("trips", 0, 1)),
        ("data/trips@0", GenerationRange("data/trips", 0, 0)),
        ("trips@1+", GenerationRange("trips", 1, None)),
        ("trips@1-2", GenerationRange("trips", 1, 2)),
        ("me@home", None),
    ],
)
def test_parsing_of_generation_ranges(text: str, wanted: GenerationRange | None):
    assert parse_generations(text) == wanted


def test_every_range_of_generations_can_be_opened(grown: Shards):
    def trips(which: str) -> list[float]:
        shards = open_shards(f"{grown.path}{which}")
        rewards = shards.read_all(["rewards", "ret"])["rewards"]
        assert shards.rows == len(rewards) == 5 * shards.episodes
        assert shards.manifest.statistics["rewards"]["mean"] == pytest.approx(rewards.mean())
        assert shards.manifest.statistics["rewards"]["std"] == pytest.approx(rewards.std())
        assert shards.manifest.terminated == sum(number % 2 == 0 for number in set(rewards))
        return sorted(set(rewards.tolist()))

    assert trips("") == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert trips("@0") == [0, 1, 2]
    assert trips("@1") == [0, 1, 2, 10, 11, 12]
    assert trips("@1+") == [10, 11, 12, 20, 21, 22]
    assert trips("@1-1") == [10, 11, 12]


def test_existing_files_are_not_changed(tmp_path: Path):
    first = ingest(Trips(0), None, tmp_path, name="trips")
    content = {file: file.read_bytes() for file in first.files}
    append(Trips(10), None, first)
    again = open_shards(first.pinned)
    assert again.manifest.content_hash == first.manifest.content_hash
    assert {file: file.read_bytes() for file in again.files} == content
    assert open_shards(first.path).manifest.content_hash != first.manifest.content_hash


def test_episode_ids_are_unique_over_generations(grown: Shards):
    names = {name for file in grown.files for name in grown.read(file, ["eps_id"])["eps_id"]}
    assert len(names) == grown.episodes == 9


def test_an_unknown_generation_is_refused(grown: Shards):
    with pytest.raises(UnknownName, match="has no generation 3") as error:
        open_shards(f"{grown.path}@3")
    assert "It has 0 (" in error.value.expected


def test_other_columns_are_refused_and_leave_nothing(grown: Shards):
    before = sorted(path.name for path in grown.path.rglob("*"))
    with pytest.raises(BadValues, match="differ in their columns"):
        append(Trips(30, width=2), None, grown)
    assert sorted(path.name for path in grown.path.rglob("*")) == before


def test_more_episodes_than_a_manifest_can_list_are_refused_and_leave_nothing(
    grown: Shards, monkeypatch: pytest.MonkeyPatch
):
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in grown.path.parent.rglob("*") if path.is_file()}

    before, listed = files(), (grown.path / "manifest.json").read_text()
    assert '\n "lengths": [5,5,5,5,5,5,5,5,5],\n' in listed
    monkeypatch.setattr(manifest, "MAX_JSON_BYTES", len(listed))
    for attempt in (
        lambda: append(Trips(30), None, grown),
        lambda: ingest(Many(), None, grown.path.parent, name="trips", overwrite=True),
    ):
        with pytest.raises(BadValues, match=r"trips would have \d+ episodes: a manifest of"):
            attempt()
        assert files() == before


def test_another_action_space_is_refused(grown: Shards):
    source = Trips(30)
    source.action_space = Box(-7, 7, (1,))
    with pytest.raises(BadValues, match="differ in their action space"):
        append(source, None, grown)


class Placed(Trips):
    """Source of trips with a position and a speed, each of one number, in an environment."""

    def __init__(
        self, first: int, keys: str, env: str | None, limit: int | None = 9, high: float = 1
    ) -> None:
        self.first, self.width, self.env = first, 2, env
        self.env_options = {"max_episode_steps": limit} if limit else {}
        self.nested_observation_space = Dict([(key, Box(-high, high, (1,))) for key in keys])
        self.observation_space = flat_space(self.nested_observation_space)
        self.action_space = Box(-1, 1, (1,))


class Logged(Placed):
    """Source of such trips that does not know the options of the environment."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, None),
        ({"env": None}, None),
        ({"high": 2}, None),
        ({"keys": "vx"}, "nested observation space"),
        ({"keys": "xw"}, "nested observation space"),
        ({"env": "Pendulum-v2"}, "environment"),
        ({"limit": 8}, "options of the environment"),
        ({"limit": None}, "options of the environment"),
        ({"limit": None, "kind": Logged}, None),
    ],
)
def test_the_same_width_with_another_meaning_is_refused(
    tmp_path: Path, given: dict[str, Any], told: str | None
):
    def trips(first: int, kind: type[Placed] = Placed, **options: Any) -> Placed:
        return kind(first, **{"keys": "xv", "env": "Pendulum-v1"} | options)

    shards = ingest(trips(0), None, tmp_path, name="trips")
    refusal = pytest.raises(BadValues, match=f"differ in their {told}") if told else nullcontext()
    with refusal:
        append(trips(10, **given), None, shards)
    assert len(Shards(shards.path).manifest.generations) == (1 if told else 2)


def test_columns_in_another_order_are_refused(tmp_path: Path):
    table = {"x": [0, 1, 2], "v": [7, 8, 9], "u": [0.1, 0.2, 0.3], "r": [1, 1, 1], "end": [0, 0, 1]}
    shards = ingest(Table("obs=x,v actions=u rewards=r terminated=end"), table, tmp_path, name="trips")
    later = {
        name: [value + 1 for value in values] if name in "xv" else values for name, values in table.items()
    }
    with pytest.raises(BadValues, match="columns of obs have another order than in trips") as error:
        append(Table("obs=v,x actions=u rewards=r terminated=end"), later, shards)
    assert error.value.expected == "new      v,x\nexisting x,v"
    (folder := tmp_path / "hub").mkdir()
    pq.write_table(pa.table(later), folder / "train-00000-of-00001.parquet")
    with pytest.raises(BadValues, match="columns of obs have another order"):
        append(HuggingFace("obs=v,x actions=u rewards=r terminated=end"), folder, shards)
    renamed = {{"x": "place"}.get(name, name): values for name, values in later.items()}
    shards = append(Table("obs=place,v actions=u rewards=r terminated=end"), renamed, shards)
    assert shards.episodes == 2


def test_generated_episodes_are_added_once(grown: Shards):
    with pytest.raises(Exists, match="trips already contains these episodes") as error:
        append(Trips(10), None, grown)
    assert "generation 1" in error.value.expected
    assert not (grown.path / "incoming").exists()


def test_another_split_of_a_folder_is_no_duplicate(tmp_path: Path):
    (folder := tmp_path / "recorded").mkdir()
    for split, value in (("train", 0.25), ("test", 0.5)):
        rows = {"obs": [value] * 3, "action": [value, 0.1, 0.2], "reward": [1.0] * 3, "episode": [0, 0, 1]}
        pq.write_table(pa.table(rows), folder / f"{split}-00000-of-00001.parquet")
    shards = ingest(HuggingFace(), folder, tmp_path, name="split")
    shards = append(HuggingFace(split="test"), folder, shards)
    assert shards.read_all(["obs"])["obs"][:, 0].tolist() == [0.25, 0.5]
    for split in ("test", "train", None):  # of which the last two are the same
        with pytest.raises(Exists, match=f"split already contains {folder}"):
            append(HuggingFace(split=split), folder, shards)


def test_the_same_file_twice_is_refused(tmp_path: Path):
    for name, number in (("a.csv", 1), ("b.csv", 2)):
        rows = [f"{number},{step / 9},1.0,{step == 9}" for step in range(10)]
        (tmp_path / name).write_text("\n".join(["obs,actions,rewards,terminated", *rows]))
    shards = ingest(Table(), tmp_path / "a.csv", tmp_path, name="table")
    shards = append(Table(), tmp_path / "b.csv", shards)
    for name, number in (("a.csv", 0), ("b.csv", 1)):
        with pytest.raises(Exists, match="table already contains") as error:
            append(Table(), tmp_path / name, shards)
        assert f"generation {number}" in error.value.expected
    with pytest.raises(Exists, match="table already contains"):
        append(Table("rewards=obs"), tmp_path / "b.csv", shards)
    frame = pd.DataFrame({"obs": [3.0, 4.0], "actions": [0.0, 0.5], "rewards": 1.0, "terminated": [0, 1]})
    shards = append(Table(), frame, shards)
    with pytest.raises(Exists, match="table already contains these episodes"):
        append(Table(), frame, shards)


def test_the_same_file_with_clipped_actions_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for name, width in (("observations", 11), ("actions", 3)):
            file[name] = np.linspace(-2, 2, 10 * width).reshape(10, width).astype(np.float32)
        file["rewards"], file["terminals"] = np.ones(10), np.arange(10) % 5 == 4
    source = D4RL(name="hopper-medium-v2")  # the environment is found as the file is read
    shards = ingest(source, tmp_path / "x.hdf5", tmp_path, name="hopper")
    with pytest.raises(Exists, match="hopper already contains"):
        append(source, tmp_path / "x.hdf5", shards, clip_actions=True)


KILLED = """
import os, sys
from pathlib import Path
from datasets_io import Shards, storage
from datasets_io.ingestion import appending
from test_generations import Trips
folder, real = Path(sys.argv[1]), storage.write_text
def dies(path, text):
    if path == folder / "manifest.json":
        os._exit(9)
    real(path, text)
storage.write_text = dies
appending.append(Trips(10), None, Shards(folder))
"""


def test_a_crash_before_the_commit_changes_nothing(tmp_path: Path):
    first = ingest(Trips(0), None, tmp_path, name="trips")
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (tests, tests / "helpers")))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(first.path)], env=os.environ | {"PYTHONPATH": path}
    )
    assert killed.returncode == 9
    assert (first.path / "shards" / "g0001-part-00000.parquet").is_file()  # it had come as far as that
    assert Shards(first.path).rows == 15
    assert append(Trips(10), None, first).rows == 30
    assert not (first.path / "incoming").exists()


def test_the_command_appends_and_refuses_options_of_a_new_data_set(tmp_path: Path):
    def off2on(*words: str) -> "subprocess.CompletedProcess[str]":
        return command.off2on(tmp_path, "data", *words, OFF2ON_DATA=tmp_path)

    assert off2on("add", "toy-pendulum", "episodes=2").returncode == 0
    assert off2on("add", "toy-pendulum", "episodes=1", "seed=5", "--append", "toy-pendulum").returncode == 0
    assert open_shards(tmp_path / "toy-pendulum").manifest.generations[1].episodes == 1
    (tmp_path / "log.csv").write_text("a,b,c,actions,rewards,terminated\n0,0,0,1,0,0\n1,0,0,0.5,0,1\n")
    words = ("columns=obs=a,b,c", "--env", "Pendulum-v1")  # some sources need it to be read
    assert off2on("add", "log.csv", "--append", "toy-pendulum", *words).returncode == 0
    for option in (["--overwrite"], ["--discount", "0"]):
        refused = off2on("add", "toy-pendulum", "seed=6", "--append", "toy-pendulum", *option)
        assert refused.returncode == 2
        assert f"{option[0]} cannot be used with --append" in refused.stderr
