"""Lines to try for data sets that exist or are damaged: they keep the options, and work."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from command import off2on

from datasets_io import Shards
from datasets_io.errors import Corrupt
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.again import line_to_add_again
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.tabular import Table
from datasets_io.sources.toy import ToyPendulum


def suggested(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("  try: off2on ")]
    return shlex.split(line.removeprefix("  try: off2on "))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a folder with the data set `trips`, of a table with an empty cell."""
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["x", "u", "r"])
    table["trip"] = np.arange(20) // 5
    table.loc[2, "x"] = np.nan
    table.to_csv(tmp_path / "log.csv", index=False)
    words = "--name trips --nan drop-episode --columns obs=x actions=u rewards=r episode=trip"
    done = off2on(tmp_path, "data", "add", "log.csv", *words.split())
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_deleted_shard_is_missing_and_the_line_adds_the_data_again(lab: Path) -> None:
    before = Shards(lab / "data" / "trips").manifest.content_hash
    (shard,) = (lab / "data" / "trips" / "shards").iterdir()
    shard.unlink()
    shown = off2on(lab, "data", "show", "trips")
    assert f"{shard.name} is missing." in shown.stderr
    done = off2on(lab, *suggested(shown))
    assert done.returncode == 0, done.stderr
    assert Shards(lab / "data" / "trips").manifest.content_hash == before


def test_a_shortened_shard_is_not_missing(lab: Path) -> None:
    (shard,) = (lab / "data" / "trips" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=r"has [\d,]+ bytes\.\n.*truncated"):
        Shards(lab / "data" / "trips")


def test_the_line_for_another_name_keeps_the_options(lab: Path) -> None:
    words = (
        "data add log.csv --name trips --nan drop-episode --columns obs=x actions=u rewards=r episode=trip"
    )
    line = suggested(off2on(lab, *words.split()))
    assert [*words.replace("--name trips ", "").split(), "--name", "trips-2"] == line
    assert off2on(lab, *line).returncode == 0


def test_options_of_generated_data_are_kept(tmp_path: Path) -> None:
    shards = ingest(ToyPendulum(episodes=2, seed=3), None, tmp_path, name="toy-pendulum")
    line = line_to_add_again(shards.manifest)
    assert line == "off2on data add toy-pendulum episodes=2 seed=3 --overwrite"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ""),
        ({"env": "Pendulum-v1"}, " --env Pendulum-v1"),
        ({"keep_next_obs": True}, " keep_next_obs=true"),
    ],
)
def test_options_of_a_file_of_d4rl_are_kept(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        for name, width in (("observations", 3), ("actions", 1), ("next_observations", 3)):
            file[name] = np.linspace(-1, 1, 10 * width).reshape(10, width).astype(np.float32)
        file["rewards"], file["terminals"] = np.ones(10), np.arange(10) % 5 == 4
    name = "kitchen-complete-v0"
    shards = ingest(D4RL(name=name, **options), tmp_path / "x.hdf5", tmp_path, name=name)
    assert line_to_add_again(shards.manifest) == f"off2on data add {name} {tmp_path}/x.hdf5{said} --overwrite"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (Table(), ""),
        (Table("obs=obs actions=actions"), " --columns obs=obs actions=actions"),
        (Table(licence="CC BY 4.0"), " 'licence=CC BY 4.0'"),
        (Table("obs=obs episode=episode", licence="MIT"), " --columns obs=obs episode=episode licence=MIT"),
        (Table("obs=obs", continuous=True), " --columns obs=obs continuous=true"),
        (Table(bounds="-1:1"), " bounds=-1:1"),
    ],
)
def test_options_of_a_table_are_kept(tmp_path: Path, table: Table, said: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text("obs,actions,rewards,episode\n0,0.5,1,a\n1,0.5,1,a\n2,0.25,1,a\n")
    shards = ingest(table, file, tmp_path / "data", name="log", store_new_obs=True)
    line = line_to_add_again(shards.manifest)
    assert line == f"off2on data add {file} --name log{said} --store-next-obs --overwrite"
    done = off2on(tmp_path, *shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr
    again = Shards(shards.path).manifest
    assert (again.content_hash, again.licence) == (shards.manifest.content_hash, table.licence)


def test_no_line_is_suggested_if_the_table_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("obs,actions,rewards,episode\n0,0.5,1,a\n1,0.5,1,a\n2,0.25,1,a\n")
    shards = ingest(Table(), file, tmp_path / "data", name="log")
    assert line_to_add_again(shards.manifest) == f"off2on data add {file} --name log --overwrite"
    file.unlink()
    assert line_to_add_again(shards.manifest) == ""
