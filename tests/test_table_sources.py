"""Tables as sources: columns by name, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest

from datasets_io.errors import BadValues, MissingColumn, UnknownName
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.tabular import Table, parse_columns


def add(path, folder, source, name="made"):
    return ingest(source, path, folder, name=name)


@pytest.fixture
def trips():
    return pd.DataFrame(
        {
            "trip": ["a", "a", "a", "b", "b"],
            "x": [0.0, 1.0, 2.0, 5.0, 6.0],
            "v": [1.0, 1.0, 1.0, 2.0, 2.0],
            "u": [0.1, 0.2, 0.3, 0.4, 0.5],
            "r": [1.0, 2.0, 3.0, 4.0, 5.0],
            "crashed": [False, False, True, False, False],
        }
    )


COLUMNS = parse_columns("obs=x,v actions=u rewards=r episode=trip terminated=crashed")


def test_columns_are_parsed_from_text():
    assert COLUMNS["obs"] == ("x", "v")
    assert parse_columns(["rewards=r"]) == {"rewards": ("r",)}
    for wrong in ("ob=x", "obs", "obs="):
        with pytest.raises(UnknownName, match="nearest: obs"):
            parse_columns(wrong)


def test_a_column_may_have_any_name(tmp_path, trips):
    trips = trips.rename(columns={"v": "speed, wheel"})
    shards = add(trips, tmp_path, Table({**COLUMNS, "obs": ["x", "speed, wheel"]}))
    np.testing.assert_array_equal(shards.read_all(["obs"])["obs"][:, 1], [1, 1, 1, 2])
    assert Table("obs=x,v actions=u").columns == {"obs": ("x", "v"), "actions": ("u",)}
    with pytest.raises(UnknownName, match="nearest: actions"):
        Table({"action": "u"})


@pytest.mark.parametrize("kind", ["frame", "arrays", "csv", "parquet", "folder", "interleaved"])
def test_a_table_by_column_names(tmp_path, trips, kind):
    path = trips
    if kind == "arrays":
        path = {name: trips[name].to_numpy() for name in trips}
    elif kind in ("csv", "folder"):
        path = tmp_path / "trips" / "one.csv"
        path.parent.mkdir()
        trips.to_csv(path, index=False)
        path = path.parent if kind == "folder" else path
    elif kind == "parquet":
        path = tmp_path / "trips.parquet"
        trips.to_parquet(path)
    elif kind == "interleaved":
        path = trips.iloc[[0, 3, 1, 2, 4]].reset_index(drop=True)
    shards = add(path, tmp_path / "data", Table(COLUMNS, licence="CC0"), name="trips")
    read = shards.read_all(["obs", "actions", "rewards", "terminateds", "truncateds", "new_obs"])
    # Trip b was cut off, so what its last action led to is not known.
    np.testing.assert_array_equal(read["obs"], [[0, 1], [1, 1], [2, 1], [5, 2]])
    np.testing.assert_array_equal(read["new_obs"], [[1, 1], [2, 1], [2, 1], [6, 2]])
    np.testing.assert_array_equal(read["actions"], np.float32([[0.1], [0.2], [0.3], [0.4]]))
    assert list(read["terminateds"]) == [False, False, True, False]
    assert list(read["truncateds"]) == [False, False, False, True]
    assert shards.manifest.licence == "CC0"
    np.testing.assert_allclose(shards.action_space.high, np.float32([0.4]))


def test_usual_names_and_list_columns_need_no_mapping(tmp_path):
    frame = pd.DataFrame(
        {
            "obs": list(np.arange(8.0).reshape(4, 2)),
            "actions": [0, 1, 2, 1],
            "rewards": [1.0] * 4,
            "new_obs": list(np.arange(8.0).reshape(4, 2) + 2),
            "terminateds": [0, 1, 0, 0],
            "truncateds": [0, 0, 0, 1],
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    shards = add(tmp_path / "x.parquet", tmp_path, Table())
    assert shards.manifest.lengths == [2, 2]
    assert shards.action_space.n == 3
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], np.stack(frame["new_obs"]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"columns": {"obs": "vv"}},
            MissingColumn,
            r"(?s)'vv'.*nearest: v\. There are: trip x v u r crashed",
        ),
        ({"columns": {}}, MissingColumn, "no column is named for 'obs'"),
        ({"v": ["1", "fast", "1", "2", "2"]}, BadValues, r"'v' holds 'fast' in row 1"),
        ({"v": [1, 1, np.nan, 2, 2]}, BadValues, r"1 NaN or infinite rows, first at row 2"),
        ({"x": [[1, 2], [1], [1, 2], [3, 4], [5, 6]]}, BadValues, r"'x' is ragged: 1 values in row 1"),
        ({"crashed": [0, 1, 0, 0, 0]}, BadValues, r"row 1 ends an episode that goes on in row 2"),
        ({"crashed": [0, 7, 0, 0, 0]}, BadValues, r"'crashed' holds 7 in row 1"),
        ({"trip": ["a", None, "a", "b", "b"]}, BadValues, r"row 1 belongs to no episode"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path, trips, change, error, words):
    columns = dict(COLUMNS) | {"obs": ("x",)} if "x" in change else dict(COLUMNS)
    if "columns" in change:
        columns = dict(COLUMNS) | change["columns"] if change["columns"] else {}
    else:
        trips = trips.assign(**change)
    with pytest.raises(error, match=words):
        add(trips, tmp_path, Table(columns), name="trips")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", ["r", "x"])
def test_columns_of_arrays_must_be_of_one_length(tmp_path, trips, column):
    arrays = {name: trips[name].to_numpy() for name in trips} | {column: np.ones(4)}
    with pytest.raises(BadValues, match="different lengths"):
        add(arrays, tmp_path, Table(COLUMNS))


def test_one_column_of_observations_may_have_next_ones(tmp_path):
    table = {
        "x": [0.1, 0.2, 0.4],
        "nx": [0.2, 0.3, 0.5],
        "u": [0.1, 0.2, 0.3],
        "r": [1.0, 2, 3],
        "e": [0, 0, 0],
    }
    shards = add(table, tmp_path, Table("obs=x actions=u rewards=r episode=e new_obs=nx"))
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], np.float32([[0.2], [0.3], [0.5]]))


def test_a_table_without_rows_is_refused(tmp_path, trips):
    with pytest.raises(BadValues, match="no rows"):
        add(trips[:0], tmp_path, Table(COLUMNS))


def test_a_table_without_ends_is_refused(tmp_path, trips):
    columns = {role: names for role, names in COLUMNS.items() if role not in ("episode", "terminated")}
    with pytest.raises(MissingColumn, match="ends of episodes"):
        add(trips, tmp_path, Table(columns))
