"""Manifests and shards of strangers: what does not fit together is refused by the name of the field."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from datasets_io.errors import Corrupt, UserError
from datasets_io.ingestion.part_report import PartReport
from datasets_io.shards.manifest import Manifest
from datasets_io.shards.reading import Shards
from off2on.commands.data import data

Change = Callable[[dict[str, Any]], object]


def put(path: str, value: Any) -> Change:
    """put("files/0/rows", 3): sets this value."""

    def change(plain: Any) -> None:
        *above, key = path.split("/")
        for part in above:
            plain = plain[int(part)] if isinstance(plain, list) else plain[part]
        plain[int(key) if isinstance(plain, list) else key] = value

    return change


def drop(path: str) -> Change:
    def change(plain: Any) -> None:
        *above, key = path.split("/")
        for part in above:
            plain = plain[int(part)] if isinstance(plain, list) else plain[part]
        del plain[key]

    return change


NUMBERS = {"type": "Box", "shape": [3], "low": -1, "high": 1, "dtype": "float32"}
CHOICES = {"type": "Discrete", "n": 3, "start": 0, "dtype": "int64"}


@pytest.fixture(scope="module")
def plain(toy: Shards) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(toy.manifest.to_json())
    return whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop("name"), "lacks name"),
        (drop("files/0/bytes"), "files[0].bytes"),
        (put("files", {}), "files"),
        (put("files", []), "rows"),
        (put("files/0/name", "../../etc/passwd"), "files[0].name"),
        (put("files/0/name", ".."), "files[0].name"),
        (put("files/0/name", "a\0b"), "files[0].name"),
        (put("files/0/name", None), "files[0].name"),
        (put("files/0/rows", 10**12), "rows"),
        (put("files/0/groups", [1]), "rows of part-00000.parquet"),
        (put("files/0/groups", [-5, 1005]), "files[0].groups[0]"),
        (put("files/0/sha256", "x"), "files[0].sha256"),
        (put("rows", 10**15), "rows"),
        (put("rows", -5), "rows"),
        (put("rows", "many"), "rows"),
        (put("rows", 10**400), "rows"),
        (put("returns", []), "returns"),
        (put("returns/3", None), "returns[3]"),
        (put("returns/3", float("nan")), "returns[3]"),
        (put("lengths", [200]), "lengths"),
        (put("lengths/0", -1), "lengths[0]"),
        (put("episodes", 0), "episodes"),
        (put("observation_space", {"type": "Foo"}), "space of obs"),
        (put("observation_space/shape", [7]), "space of obs"),
        (put("observation_space/shape", [10**12]), "space of obs"),
        (put("observation_space/shape", [-3]), "space of obs"),
        (put("observation_space/low", "x"), "space of obs"),
        (put("action_space", {}), "space of actions"),
        (put("action_space/low", "nan"), "space of actions"),
        (put("action_space/low", 5.0), "lower bound"),
        (put("action_space", {"type": "Discrete", "n": 0}), "space of actions"),
        (put("action_space", {"type": "Discrete", "n": 3}), "space of actions"),
        (put("env_id", 7), "env_id"),
        (put("env_options", [1]), "env_options"),
        (put("columns", "x"), "columns"),
        (put("columns", [["obs"]]), "columns[0]"),
        (lambda plain: plain["columns"].pop(4), "rewards"),
        (lambda plain: plain["columns"].append(plain["columns"][0]), "twice"),
        (put("statistics", {}), "statistics of obs"),
        (put("statistics/obs/std", ["a", "b", "c"]), "std of obs"),
        (put("statistics/obs/std", [-1, 1, 1]), "std of obs"),
        (put("statistics/obs/mean", [0]), "mean of obs"),
        (put("faults", [{"a": 1}]), "faults[0]"),
        (put("generations", []), "generations"),
        (put("generations/0/rows", 5), "generations"),
        (put("generations/0/moments", {}), "moments"),
        (put("generations/0/moments/obs/count", 0), "moments"),
        (put("nested_observation_space", {"type": "Dict"}), "nested"),
        (put("nested_observation_space", NUMBERS | {"shape": [10**12]}), "1,000,000,000,000 numbers"),
        (put("nested_observation_space", NUMBERS | {"shape": [2, 10**400]}), "numbers"),
        (put("nested_observation_space", NUMBERS | {"shape": [-1, -3]}), "nested"),
        (put("nested_observation_space", NUMBERS | {"shape": [3.0]}), "nested"),
        (put("nested_observation_space", NUMBERS | {"low": 2}), "nested"),
        (put("nested_observation_space", NUMBERS | {"dtype": "S1000000000"}), "nested"),
        (put("nested_observation_space", NUMBERS | {"dtype": "O"}), "nested"),
        (put("nested_observation_space", CHOICES | {"n": 10**12}), "1,000,000,000,000 numbers"),
        (put("nested_observation_space", CHOICES | {"type": "MultiDiscrete", "n": [10**9] * 3}), "numbers"),
        (put("nested_observation_space", {"type": "MultiBinary", "n": [10**7] * 3}), "numbers"),
        (put("observation_space/low", 10**400), "space of obs"),
        (put("statistics/rewards/mean", "1"), "mean of rewards"),
        (put("statistics/rewards/mean", True), "mean of rewards"),
        (put("statistics/rewards/mean", 10**400), "mean of rewards"),
        (put("lengths/0", 2**70), "rows"),
        (put("files/0/name", "x" * 300), "files[0].name"),
        (put("discount", float("nan")), "discount"),
        (put("discount", "x"), "discount"),
        (put("source", None), "source"),
        (put("schema_version", 9), "schema version 9"),
        (put("schema_version", "2"), "schema version '2'"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(plain: dict[str, Any], change: Change, named: str):
    changed = json.loads(json.dumps(plain))
    change(changed)
    with pytest.raises(Corrupt) as refused:
        Manifest.from_json(json.dumps(changed), "m.json")
    assert named in str(refused.value)
    assert "m.json" in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, b"\xff\xfe\x00", '{"a": '])
def test_text_that_is_no_manifest_is_refused(text: str | bytes):
    with pytest.raises(Corrupt):
        Manifest.from_json(text)


def test_a_manifest_is_read_as_it_was_written(plain: dict[str, Any], toy: Shards):
    assert Manifest.from_json(json.dumps(plain)) == toy.manifest
    assert Manifest.from_json(json.dumps(plain | {"of_a_later_version": 1})) == toy.manifest


@pytest.mark.parametrize(
    "change",
    [
        put("source", {"kind": "Minari", "path": None, "sha256": "", "options": {}}),
        put("source", {"kind": "Minari", "path": None, "sha256": "", "options": {"name": 7}}),
        put("env_options", {"max_episode_steps": "x"}),
        put("env_id", ""),
        put("env_id", "a\0b"),
        put("env_id", "no_such_module:X-v0"),
    ],
)
def test_odd_facts_of_an_environment_or_source_are_shown(copied: Shards, change: Change):
    changed = json.loads(copied.manifest.to_json())
    change(changed)
    (copied.path / "manifest.json").write_text(json.dumps(changed))
    for command in ("show", "check"):
        ran = CliRunner().invoke(data, [command, str(copied.path)])
        assert isinstance(ran.exception, SystemExit | UserError | None)
    assert "no_such_module" not in sys.modules


def test_the_size_of_a_manifest_is_limited(copied: Shards):
    os.truncate(copied.path / "manifest.json", 10**11)  # it takes no space on the disk
    with pytest.raises(Corrupt, match="100,000,000,000 bytes"):
        Shards(copied.path)


@pytest.mark.parametrize(
    "odd",
    [
        {"lengths": [-1], "returns": [0.0]},
        {"terminated": -1},
        {"seen": 10**400},
        {"columns": [["obs"]]},
        {"moments": {"obs": {"count": 1, "mean": 10**400, "m2": 0, "low": 0, "high": 0}}},
        {"ranges": {"obs": {"x": 1}}},
    ],
)
def test_an_odd_report_of_a_part_is_refused(odd: dict[str, Any]):
    whole = json.loads(PartReport().to_json())
    assert PartReport.from_json(json.dumps(whole)) == PartReport()
    with pytest.raises(Corrupt):
        PartReport.from_json(json.dumps(whole | odd))


# Shards.


@pytest.fixture
def copied(toy: Shards, tmp_path: Path) -> Shards:
    return Shards(Path(shutil.copytree(toy.path, tmp_path / "copy")))


def rewrite(shards: Shards, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace the first shard by another that has the listed size."""
    file = shards.files[0]
    assert isinstance(file, Path)
    pq.write_table(change(pq.read_table(file)), file)
    shards.manifest.files[0]["bytes"] = file.stat().st_size
    (shards.path / "manifest.json").write_text(shards.manifest.to_json())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table.slice(0, 200), "row groups"),
        (lambda table: table.drop_columns(["rewards"]), "'rewards'"),
        (lambda table: table.rename_columns(["x", *table.column_names[1:]]), "'eps_id'"),
        (lambda table: table.set_column(4, "rewards", table["t"]), "'rewards'"),
    ],
)
def test_a_shard_that_is_not_as_listed_is_refused(
    copied: Shards, change: Callable[[pa.Table], pa.Table], named: str
):
    rewrite(copied, change)
    with pytest.raises(Corrupt, match=named):
        Shards(copied.path).read_all(["obs", "rewards"])


def test_a_shard_without_the_end_of_its_episode_is_refused(copied: Shards):
    rewrite(
        copied, lambda table: table.set_column(7, "final_obs", pa.nulls(len(table), table["final_obs"].type))
    )
    with pytest.raises(Corrupt, match="does not end"):
        Shards(copied.path).read_all(["obs", "new_obs"])


def test_a_shard_may_be_a_link(copied: Shards, tmp_path: Path):
    file = copied.files[0]
    assert isinstance(file, Path)
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    assert len(Shards(copied.path).read_all(["obs"])["obs"]) == copied.rows


def test_a_file_in_the_place_of_the_shards_is_refused(copied: Shards):
    folder = copied.path / "shards"
    assert isinstance(folder, Path)
    shutil.rmtree(folder)
    folder.write_text("x")
    with pytest.raises(UserError):
        Shards(copied.path)
