"""Tables of strange files: encodings, lines, types and sizes are refused by name, or read rightly."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_tables import COLUMNS, ROWS, cell, check_good, parquet, read, text, write

from datasets_io.errors import BadValues, Corrupt, DataError, MissingColumn, UnknownName
from datasets_io.sources import table_cells, table_files, tabular
from datasets_io.sources.tabular import Table, parse_columns
from off2on.commands.arguments import source_arguments


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text().replace("\n", "\r\n"),
        "\ufeff" + text(),
        "\n".join(",".join(f'"{it}"' for it in line.split(",")) for line in text().splitlines()),
        text(lambda rows: [row.update(crashed=str(row["crashed"] == "1")) for row in rows]),
        text(lambda rows: [row.update(trip=f"Fahrt ü{row['trip']}") for row in rows]),
        text(lambda rows: [row.update(r=" +1.0e0 ") for row in rows]),
    ],
    ids=["plain", "crlf", "bom", "quoted", "words", "names", "signs"],
)
def test_texts_are_read(tmp_path: Path, content: str):
    check_good(read(write(tmp_path, content)))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (text().encode("utf-16"), "UTF-8"),
        (text().replace("trip", "fahrtü").encode("latin-1"), "UTF-8"),
        (cell("trip", 7, "é").encode("latin-1"), "UTF-8"),
        (cell("u", 3, "0\0.5"), "row 3"),
        (text().replace(",", ";"), "separated by ';'"),
        (text().partition("\n")[2], "'x'"),
        ("", "header"),
        ("\n\n\n", "header"),
        ("x,v,u,r,trip,crashed\n", "no rows"),
        (text() + "1,2,3,4,5,0,7,8\n", "Expected 6 columns, got 8"),
        (text() + "1,2\n", "Expected 6 columns, got 2"),
        ("x,v,u,r,trip,crashed\n" + "1,2,3,4,0,0,9\n" * 3, "Expected 6 columns, got 7"),
        (text() + '"1,2,3,4,5,0\n' + "1,1,1,1,9,1\n" * 3, "CSV"),
        (text().replace("x,v,", "x,x,"), "'v'"),
        (cell("r", 3, "hello"), "'hello' in row 3"),
        (cell("r", 3, '"1,5"'), "with a point before decimals. Turn text in observations into"),
        (cell("r", 3, "0x10"), "'0x10' in row 3"),
        (cell("r", 3, "2026-01-01"), "row 3"),
        (cell("r", 3, "=1+1"), "row 3"),
        (cell("crashed", 3, "2"), "holds 2"),
        (cell("crashed", 4, "yes"), "'yes' in row 4"),
        (cell("crashed", 3, ""), "row 3"),
        (cell("crashed", 2, "1"), "row 2 ends an episode that goes on in row 3"),
        (cell("trip", 2, ""), "row 2 belongs to no episode"),
        (text() + "1," * 2_000_000 + "\n", "Expected 6 columns"),
    ],
)
def test_a_damaged_text_is_refused_where_it_is_wrong(tmp_path: Path, content: str | bytes, named: str):
    with pytest.raises(DataError) as refused:
        read(write(tmp_path, content))
    assert named in str(refused.value)
    assert "t.csv" in str(refused.value)


@pytest.mark.parametrize("value", ["", "NA", "NaN"])
def test_an_empty_cell_is_no_number_and_counts_as_nan(tmp_path: Path, value: str):
    episodes = read(write(tmp_path, cell("x", 3, value)))
    assert np.isnan(episodes[0].obs[3, 0])
    assert np.isfinite(episodes[1].obs).all()


def test_a_column_name_that_occurs_twice_is_refused(tmp_path: Path):
    columns = "obs=x actions=u rewards=r episode=trip"
    with pytest.raises(MissingColumn, match="2 columns with the name 'x'"):
        read(write(tmp_path, text().replace("x,v,", "x,x,")), columns)


@pytest.mark.parametrize(
    "columns",
    ["obs=x obs=v actions=u", "foo=x", "obs=", "obs=x,,v", "obs=x,x", "rewards=r,v", "episode=trip,crashed"],
)
def test_columns_that_make_no_sense_are_refused(columns: str):
    with pytest.raises(UnknownName):
        parse_columns(columns)


# Parquet.


@pytest.mark.parametrize(
    "rewards",
    [
        np.ones(ROWS),
        pa.array([decimal.Decimal("1.0")] * ROWS),
        pa.array([1.0] * ROWS).dictionary_encode(),
        pa.array(["1.0"] * ROWS),
        pa.array(np.ones(ROWS, "f2")),
        pa.array([[1.0]] * ROWS),
        pa.array([1] * ROWS, pa.uint64()),
    ],
    ids=lambda it: str(it.type) if isinstance(it, pa.Array) else "f8",
)
def test_types_that_are_numbers_are_read(tmp_path: Path, rewards: Any):
    check_good(read(parquet(tmp_path, r=rewards)))


@pytest.mark.parametrize(
    "rewards",
    [
        pa.array([datetime.datetime(2026, 1, 1)] * ROWS),
        pa.array([datetime.date(2026, 1, 1)] * ROWS),
        pa.array([datetime.timedelta(1)] * ROWS),
        pa.array(["a"] * ROWS).dictionary_encode(),
        pa.array([b"1.5"] * ROWS),
        pa.array([{"a": 1}] * ROWS),
        pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())),
        pa.array([[1.0, 2.0]] * ROWS),
        pa.array([[]] * ROWS, pa.list_(pa.float64())),
        pa.array([[1.0]] * 3 + [None] + [[1.0]] * 16),
    ],
    ids=lambda it: str(it.type),
)
def test_types_that_are_no_numbers_are_refused(tmp_path: Path, rewards: Any):
    with pytest.raises(BadValues, match="'r'"):
        read(parquet(tmp_path, r=rewards))


def test_uneven_lists_are_refused_by_their_row(tmp_path: Path):
    lists = pa.array([[1.0, 2.0]] * 5 + [[1.0]] + [[1.0, 2.0]] * 14)
    with pytest.raises(BadValues, match="'x' is ragged: 1 values in row 5"):
        read(parquet(tmp_path, x=lists), COLUMNS.replace("obs=x,v", "obs=x"))
    nested = pa.array([[[1.0, 2.0], [3.0]]] * ROWS)
    with pytest.raises(BadValues, match="ragged"):
        read(parquet(tmp_path, x=nested), COLUMNS.replace("obs=x,v", "obs=x"))


def test_lists_that_differ_between_blocks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table_files, "BLOCK_ROWS", 10)
    lists = pa.array([[1.0, 2.0]] * 10 + [[1.0]] * 10)
    with pytest.raises(BadValues, match="ragged"):
        read(parquet(tmp_path, x=lists), COLUMNS.replace("obs=x,v", "obs=x"))


@pytest.mark.parametrize("damage", ["half", "middle", "footer", "empty", "magic"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, damage: str):
    file = parquet(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "middle":
        content[20:120] = b"\xff" * 100
    elif damage == "footer":
        content[-8:-4] = b"\xff\xff\xff\x7f"
    file.write_bytes(
        {"half": content[: len(content) // 2], "empty": b"", "magic": b"PAR1PAR1"}.get(damage, content)
    )
    with pytest.raises(Corrupt, match=r"t\.parquet"):
        read(file)


# Large tables, in pieces.


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "WHOLE_BYTES", 100)
    monkeypatch.setattr(table_files, "BLOCK_ROWS", 3)
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 70)


@pytest.mark.parametrize("ends", ["episode=trip terminated=crashed", "terminated=crashed"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_large_table_has_the_same_episodes_in_pieces(
    tmp_path: Path, small_pieces: None, kind: str, ends: str
):
    file = write(tmp_path, text()) if kind == "csv" else parquet(tmp_path)
    check_good(read(file, f"obs=x,v actions=u rewards=r {ends}"))


@pytest.mark.parametrize(("size", "row"), [(100, 18), (250, 19)])  # the last rows stay below 250 bytes
def test_a_large_table_whose_episodes_are_interleaved_is_refused(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch, size: int, row: int
):
    monkeypatch.setattr(tabular, "WHOLE_BYTES", size)
    trips = np.arange(ROWS) // 5
    trips[row:] = 0
    with pytest.raises(BadValues, match=rf"row {row} continues an episode.*") as refused:
        read(parquet(tmp_path, trip=trips, crashed=np.zeros(ROWS, bool)))
    assert "sort" in refused.value.expected


def test_a_row_without_an_id_in_the_last_piece_is_named(tmp_path: Path, small_pieces: None):
    with pytest.raises(BadValues, match="row 19 belongs to no episode"):
        read(write(tmp_path, cell("trip", 19, "")))


def test_an_interleaved_table_that_fits_into_memory_is_read(tmp_path: Path):
    trips = np.arange(ROWS) % 4
    episodes = read(parquet(tmp_path, trip=trips, crashed=np.arange(ROWS) >= 16))
    assert [episode.length for episode in episodes] == [5] * 4
    np.testing.assert_allclose(episodes[1].obs[:5, 0], np.arange(1, ROWS, 4) / 10)


def test_rows_of_errors_count_from_the_start_of_a_large_table(tmp_path: Path, small_pieces: None):
    with pytest.raises(BadValues, match="'fast' in row 17"):
        read(write(tmp_path, cell("v", 17, "fast")))


def test_an_episode_that_is_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tabular, "WHOLE_BYTES", 100)
    monkeypatch.setattr(tabular.check_episode_size.__module__ + ".HELD_BYTES", 400)
    monkeypatch.setattr(table_files, "BLOCK_ROWS", 3)
    with pytest.raises(BadValues, match="held in memory"):
        read(parquet(tmp_path, trip=np.zeros(ROWS), crashed=np.zeros(ROWS, bool)))


def test_long_lists_are_read_in_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 8 * 2 * 100)
    file = parquet(tmp_path, x=[[0.0] * 100] * ROWS)
    _, blocks = table_files.open_table(file)
    assert [len(block["x"]) for block in blocks(["x"])] == [2] * 10


def test_more_episodes_than_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table_cells, "MAX_EPISODES", 3)
    with pytest.raises(BadValues, match="'trip' has more than 3"):
        read(parquet(tmp_path))


def test_dates_of_a_frame_are_no_numbers():
    frame = pd.DataFrame({"obs": [1.0], "actions": [0.5], "rewards": pd.to_datetime(["2026-01-01"])})
    with pytest.raises(BadValues, match="'rewards' has the type timestamp"):
        list(Table().episodes(frame.assign(terminated=True)))


def test_a_role_that_is_given_twice_on_the_command_line_is_refused():
    with pytest.raises(UnknownName, match="actions is given twice"):
        source_arguments("t.csv", ["actions=u", "actions=r", "rewards=r"], ["obs=x"], None)
    found = source_arguments("t.csv", ["actions=u", "rewards=r"], ["obs=x,v"], None)
    assert found.options == {"columns": {"obs": ("x", "v"), "actions": ("u",), "rewards": ("r",)}}


@pytest.mark.parametrize("beside", ["0.25", "true", ""], ids=["plain numbers", "a word", "an empty cell"])
def test_a_text_is_the_same_number_whatever_stands_beside_it(beside: str):
    texts = ["+1", ".5", "5.", "1E+05", "-0", "1e400", "-INF", "NaN", "123456789012345678"]
    values = table_cells.side_by_side("rewards", ("r",), {"r": pa.array([*texts, beside])}, 0)
    np.testing.assert_array_equal(values[:-1], [float(one) for one in texts])


@pytest.mark.parametrize(
    ("texts", "kind"), [(["1", "-2"], "i"), (["1.0", "2.0"], "f"), (["1", "2e0"], "f"), (["1", None], "f")]
)
def test_texts_are_whole_numbers_only_if_written_so(texts: list[str | None], kind: str):
    values = table_cells.side_by_side("rewards", ("r",), {"r": pa.array(texts, pa.string())}, 0)
    assert values.dtype.kind == kind


@pytest.mark.parametrize(
    ("word", "role"),
    [("observations", "obs"), ("observation", "obs"), ("next_obs", "new_obs"), ("timeouts", "truncated")],
)
def test_usual_names_of_columns_lead_to_the_role(word: str, role: str):
    with pytest.raises(UnknownName, match=f"{word}=x' does not name columns") as error:
        parse_columns(f"{word}=x actions=u rewards=r")
    assert error.value.nearest == role


def test_a_column_of_another_role_is_not_suggested():
    table = {"state": [[0.0]], "actions": [[0.0]], "rewards": [0.0], "episode": [0]}
    with pytest.raises(MissingColumn, match="no column 'observations'") as error:
        [*Table("obs=observations").episodes(table)]
    assert error.value.nearest == ""
    with pytest.raises(MissingColumn) as error:
        [*Table("obs=states").episodes(table)]
    assert error.value.nearest == "state"


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        ("rewards actions episode state", "--columns obs=state …"),
        ("note observation_t rewards actions episode", "--columns obs=observation_t …"),
        ("obs u rewards", "--columns actions=u …"),
        ("obs actions", "--columns rewards=NAME …"),
    ],
)
def test_a_column_that_has_no_role_is_suggested_for_a_missing_one(names: str, suggested: str):
    with pytest.raises(MissingColumn, match="no column is named") as error:
        [*Table().episodes({name: [0.0] for name in names.split()})]
    assert error.value.try_ == suggested
