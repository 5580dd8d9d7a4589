"""Episodes that are left out for NaN are counted, with their rows, where the data are added and shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from datasets_io import Shards
from datasets_io.diagnosis import diagnose_shards
from datasets_io.ingestion.ingest import ingest
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
