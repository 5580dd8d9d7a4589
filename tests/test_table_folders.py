"""Folders of tables: side files are left out, and an episode that goes on in another file stays one."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_tables import COLUMNS, ROWS, cell, check_good, parquet, read, text, write

from datasets_io.errors import BadValues, MissingColumn, UserError
from datasets_io.sources.tabular import Table


def test_side_files_of_other_programs_are_skipped_and_named(tmp_path: Path):
    write(tmp_path, text())
    for name in ("_metadata.parquet", "_SUCCESS", ".DS_Store", "._t.csv", "README.md", ".part-0.csv.crc"):
        (tmp_path / name).write_bytes(b"")
    source = Table(COLUMNS)
    assert [Path(part).name for part in source.parts(tmp_path)] == ["t.csv"]
    (fault,) = source.faults
    assert (fault.kind, fault.count) == ("skipped", 6)
    assert "_SUCCESS" in fault.detail


def test_a_file_of_a_folder_without_a_column_is_named(tmp_path: Path):
    write(tmp_path, text())
    (tmp_path / "u.csv").write_text(text().replace("x,v,", "y,v,"))
    with pytest.raises(MissingColumn) as refused:
        read(tmp_path)
    assert "u.csv" in str(refused.value)


def test_files_with_other_columns_are_refused_and_both_named(tmp_path: Path):
    header, _, rows = text().partition("\n")
    usual = header.replace("x,v,u,r,trip", "x,obs,actions,rewards,episode")
    (tmp_path / "a.csv").write_text(f"{usual}\n{rows}".replace("crashed", "terminated"))
    (tmp_path / "b.csv").write_text(f"{usual}\n{rows}".replace("crashed", "done"))
    with pytest.raises(MissingColumn, match=r"a\.csv and .*b\.csv .* terminated"):
        Table().parts(tmp_path)


def test_tables_of_subfolders_are_not_left_out_in_silence(tmp_path: Path):
    write(tmp_path, text())
    for below in (".cache", "_delta_log"):
        (tmp_path / below).mkdir()
        (tmp_path / below / "t.parquet").write_bytes(b"")
    assert len(Table(COLUMNS).parts(tmp_path)) == 1
    (tmp_path / "year=2026").mkdir()
    (tmp_path / "year=2026" / "t.csv").write_text(text())
    with pytest.raises(BadValues, match=r"year=2026/t\.csv"):
        Table(COLUMNS).parts(tmp_path)


def shuffled(place: Path, step: str) -> Path:
    """Rows of four episodes in any order, in two files; `step` is the format of their times."""
    header, *rows = text().splitlines()
    rows = [f"{row},{step.format(i % 5 + 1)}" for i, row in enumerate(rows)]
    order = np.random.default_rng(0).permutation(ROWS)
    place.mkdir()
    for name, part in (("a", order[:9]), ("b", order[9:])):
        (place / f"{name}.csv").write_text("\n".join([f"{header},t", *(rows[i] for i in part)]) + "\n")
    return place


@pytest.mark.parametrize(
    "step",
    [
        "{}",
        "2026-01-01T00:00:{:02}",
        "2026-01-{:02}",
        "2026-01-01T00:00:{:02}Z",
        "2026-01-01 00:00:{:02}+00:00",
        "2026-01-01T00:00:00.{:09}",
    ],
)
def test_an_episode_that_is_cut_by_files_is_whole_and_in_order(tmp_path: Path, step: str):
    episodes = read(shuffled(tmp_path / "d", step), f"{COLUMNS} step=t")
    check_good(sorted(episodes, key=lambda episode: float(episode.obs[0, 0])))


def test_an_episode_that_is_cut_by_files_is_refused_without_steps(tmp_path: Path):
    with pytest.raises(BadValues, match=r"a\.csv and in b\.csv") as refused:
        read(shuffled(tmp_path / "d", "{}"))
    assert "step=" in refused.value.try_


def test_ids_may_begin_again_in_each_file_if_episodes_have_ended(tmp_path: Path):
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(text())
    episodes = read(tmp_path)
    assert [episode.length for episode in episodes] == [5] * 12
    open_end = cell("crashed", 19, "0")
    (tmp_path / "a.csv").write_text(open_end)
    with pytest.raises(BadValues, match=r"'3' is in .*a\.csv and in b\.csv"):
        read(tmp_path)


def test_without_ids_the_last_row_of_a_file_must_end_an_episode(tmp_path: Path):
    ends = "obs=x,v actions=u rewards=r terminated=crashed"
    (tmp_path / "b.csv").write_text(cell("crashed", 19, "0"))
    assert len(read(tmp_path, ends)) == 4
    (tmp_path / "a.csv").write_text(text())
    assert len(read(tmp_path, ends)) == 8
    (tmp_path / "c.csv").write_text(text())
    with pytest.raises(BadValues, match=r"b\.csv ends no episode.* c\.csv"):
        read(tmp_path, ends)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        (np.arange(ROWS) // 2, "rows 0 and 1"),
        ([None, *range(19)], "row 0"),
        (["x"] * ROWS, r"(?s)'t' holds 'x'.*Numbers or times were expected, such as 2026-01-31T08:00:00Z"),
        (pa.array(["2026-01-31"] * ROWS, pa.large_string()), "rows 0 and 1"),
        (["2026-01-31T08:00:00"] * 7 + ["31.1.2026"] * 13, r"'31\.1\.2026' in row 7"),
        (["2026-01-31T08:00:00Z"] * 19 + ["2026-01-31T08:00:00"], r"(?s)00:00' in row 19\..*with a zone"),
        (["5"] * 19 + ["2026-01-31"], "'2026-01-31' in row 19"),
    ],
)
def test_steps_that_give_no_order_are_refused(tmp_path: Path, steps: Any, named: str):
    with pytest.raises(BadValues, match=named):
        read(parquet(tmp_path, t=steps), f"{COLUMNS} step=t")


def test_steps_need_ids_of_episodes(tmp_path: Path):
    with pytest.raises(MissingColumn, match="episode"):
        read(write(tmp_path, text()), "obs=x,v actions=u rewards=r terminated=crashed step=x")


def test_a_folder_without_a_table_is_refused(tmp_path: Path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(UserError, match="holds no"):
        Table(COLUMNS).parts(tmp_path)
