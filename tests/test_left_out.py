"""Episodes that are left out for NaN are counted, with their rows, where the data are added and shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from gymnasium.spaces import Discrete
from random_walks import only

from datasets_io import Shards
from datasets_io.diagnosis import diagnose_shards, diagnose_source
from datasets_io.errors import BadValues
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources import table_files
from datasets_io.sources.tabular import Table
from off2on.commands.data import data

COLUMNS = ("obs=x", "actions=u", "rewards=r", "episode=trip")


def frame() -> pd.DataFrame:
    """Return four episodes of five rows; three have an empty cell in their third row."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(20, 3)), columns=["x", "u", "r"])
    table["trip"] = np.arange(20) // 5
    table.loc[[2, 12], "x"] = np.nan
    table.loc[7, "u"] = np.nan
    return table


@pytest.fixture
def left_out(tmp_path: Path) -> Shards:
    return ingest(Table(" ".join(COLUMNS)), frame(), tmp_path, name="trips", nan="drop-episode")


def test_the_manifest_counts_episodes_and_rows(left_out: Shards) -> None:
    (fault,) = [it for it in left_out.manifest.faults if it.kind == "left_out"]
    assert str(fault) == "3 of 4 episodes left out for NaN (15 of 20 rows)"
    assert (left_out.episodes, left_out.rows) == (1, 4)


def test_lost_transitions_of_episodes_that_were_left_out_are_not_counted(left_out: Shards) -> None:
    (fault,) = [it for it in left_out.manifest.faults if it.kind == "no_final_obs"]
    assert (fault.count, fault.first_row) == (1, 19)


def test_files_of_a_folder_are_counted_together(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number, part in frame().groupby("trip"):
        part.to_csv(tmp_path / "raw" / f"{number}.csv", index=False)
    shards = ingest(
        Table(" ".join(COLUMNS)), tmp_path / "raw", tmp_path / "data", name="x", nan="drop-episode"
    )
    assert "3 of 4 episodes left out for NaN (15 of 20 rows)" in map(str, shards.manifest.faults)


def choices(kind: str, tmp_path: Path) -> Any:
    """Return a table of 20 choices, in memory or in a file, of which one is empty."""
    table = {name: frame()["r"] for name in "xr"} | {"trip": np.arange(20) // 5}
    cells = [None if row == 7 else row % 3 for row in range(20)]
    if kind == "list":
        return table | {"u": cells}
    whole = pd.DataFrame(table | {"u": pd.array(cells, dtype="Int64")})
    if kind == "frame":
        return whole
    path = tmp_path / f"t.{kind}"
    (whole.to_csv if kind == "csv" else whole.to_parquet)(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["list", "frame", "csv", "parquet"])
def test_choices_stay_choices_beside_an_empty_one(tmp_path: Path, kind: str) -> None:
    table, source = choices(kind, tmp_path), Table(" ".join(COLUMNS))
    with pytest.raises(BadValues, match=r"actions +1 NaN or infinite rows, first at row 7"):
        ingest(source, table, tmp_path, name="x")
    assert only(diagnose_source(source, table, "x", ""), "finite").rows == (7,)
    shards = ingest(source, table, tmp_path, name="x", nan="drop-episode")
    assert (shards.action_space, shards.episodes) == (Discrete(3), 3)
    taken = [row % 3 for row in range(20) if row // 5 != 1 and row % 5 != 4]
    assert shards.read_all(["actions"])["actions"].tolist() == taken


def test_a_block_with_fractions_makes_no_choices_of_another(tmp_path: Path, monkeypatch: Any) -> None:
    path = choices("parquet", tmp_path)
    table = pd.read_parquet(path).astype({"u": str})
    table.loc[[7, 15], "u"] = [None, "0.5"]
    table.to_parquet(path)
    monkeypatch.setattr(table_files, "BLOCK_ROWS", 10)
    actions = [episode.actions for episode in Table(" ".join(COLUMNS)).episodes(path)]
    np.testing.assert_array_equal(actions[1][:, 0], [2, 0, np.nan, 2, 0])


def test_data_without_nan_have_no_such_fault(tmp_path: Path) -> None:
    table = frame().fillna(0.0)
    shards = ingest(Table(" ".join(COLUMNS)), table, tmp_path, name="trips", nan="drop-episode")
    assert {fault.kind for fault in shards.manifest.faults} == {"no_final_obs"}


def test_the_check_of_the_data_set_warns(left_out: Shards) -> None:
    (found,) = [it for it in diagnose_shards(left_out).findings if "episodes left out" in it.what]
    assert (found.severity, found.what) == ("warning", "3 of 4 episodes left out for NaN (15 of 20 rows)")


def test_the_command_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
    frame().to_csv("trips.csv", index=False)
    words = ["add", "trips.csv", "--nan", "drop-episode", "--columns", *COLUMNS]
    added: Result = CliRunner().invoke(data, words)
    assert added.exit_code == 0, added.output
    assert "warning    3 of 4 episodes left out for NaN (15 of 20 rows)\n" in added.stdout
    assert "4 rows kept\n" in added.stdout
    shown: Result = CliRunner().invoke(data, ["show", "trips"])
    assert "3 of 4 episodes left out for NaN (15 of 20 rows)" in shown.stdout


def test_the_lines_of_the_page_data_split_episodes_at_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "platform" / "docs" / "data.md").read_text()
    frame().to_csv("trips.csv", index=False)
    exec(page.partition('title="split at gaps"}\n')[2].partition("```")[0], {})
    shards = ingest(Table(" ".join(COLUMNS)), tmp_path / "trips-split.csv", tmp_path / "data", name="x")
    assert shards.manifest.lengths == [1, 1, 1, 1, 1, 1, 4]  # 2 + 2 rows, without the last of each
