"""Columns that a user gives the roles of a table, and ranges: what is refused, and what is suggested."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gymnasium.spaces import Box

from datasets_io.episode import NO_CHOICE
from datasets_io.errors import BadValues, MissingColumn, UserError
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.options import construct
from datasets_io.sources.table_columns import box_of
from datasets_io.sources.tabular import Table
from off2on.commands.arguments import source_arguments


def table(*names: str) -> dict[str, Any]:
    return {name: np.zeros(4) for name in names}


@pytest.mark.parametrize(
    ("columns", "line"),
    [("obs=x,u actions=u", "--columns obs=x"), ("obs=u actions=v,u", "")],
)
def test_an_action_among_the_observations_is_refused(columns: str, line: str) -> None:
    with pytest.raises(BadValues, match="column 'u' is an observation and an action") as refused:
        [*Table(f"{columns} rewards=r episode=e").episodes(table("x", "u", "v", "r", "e"))]
    assert refused.value.try_ == line


def test_actions_found_by_their_usual_name_are_no_observations_either() -> None:
    with pytest.raises(BadValues, match="column 'action' is an observation and an action"):
        [*Table("obs=x,action rewards=r episode=e").episodes(table("x", "action", "r", "e"))]


def test_a_reward_may_be_an_observation() -> None:
    (episode,) = Table("obs=x,r actions=u rewards=r episode=e").episodes(table("x", "u", "r", "e"))
    assert episode.obs.shape[1] == 2


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        ("batch_id time tank_temp_C power", "--columns obs=tank_temp_C …"),
        ("Batch-No timestamp", "--columns obs=NAME …"),
        ("identity stepper", "--columns obs=identity …"),
    ],
)
def test_a_column_that_identifies_or_orders_rows_is_not_suggested(names: str, suggested: str) -> None:
    with pytest.raises(MissingColumn, match="no column is named for 'obs'") as refused:
        [*Table().episodes(table(*names.split()))]
    assert refused.value.try_ == suggested


@pytest.mark.parametrize(("said", "actions"), [(["continuous=true"], [18.0, np.nan]), ([], [18, NO_CHOICE])])
def test_whole_numbers_of_actions_are_amounts_if_that_is_said(said: list[str], actions: list[float]):
    words = ["actions=u", "rewards=r", "terminated=end", *said]
    table = pd.DataFrame({"x": [0.5, 0.1], "u": pd.array([18, None], "Int64"), "r": 1.0, "end": [0, 1]})
    source = construct(Table, source_arguments("t.csv", words, ["obs=x"], None).options)
    (episode,) = source.episodes(table)
    np.testing.assert_array_equal(episode.actions.ravel(), actions)
    assert episode.actions.dtype.kind == np.asarray(actions).dtype.kind


def test_bounds_are_the_range_of_the_actions_and_of_what_is_added_later(tmp_path: Path):
    def log(first: int, name: str) -> str:
        table = pd.DataFrame({"x": [0.5, 0.1], "u": [first, 24], "r": 1.0, "end": [0, 1]})
        table.to_csv(tmp_path / name, index=False)
        return str(tmp_path / name)

    columns = "obs=x actions=u rewards=r terminated=end"
    data = ingest(Table(columns, bounds="16:26"), log(18, "a.csv"), tmp_path, name="heating")
    assert data.action_space == Box(16, 26, (1,))
    more = append(Table(columns), log(16, "b.csv"), data)
    assert more.action_space == data.action_space
    np.testing.assert_array_equal(more.read_all(["actions"])["actions"], [[18], [24], [16], [24]])


@pytest.mark.parametrize(
    ("bounds", "columns", "expected"),
    [("-2:2", 1, ([-2], [2])), ("-2:2", 2, ([-2, -2], [2, 2])), ("-2:2,0:1e3", 1, ([-2, 0], [2, 1000]))],
)
def test_bounds_have_a_range_for_each_dimension_or_for_all(bounds: str, columns: int, expected: Any):
    box = box_of(bounds, columns)
    assert (box.low.tolist(), box.high.tolist()) == expected


@pytest.mark.parametrize("bounds", ["", "2", "2:1", "1:1", "a:b", "0:nan", "-inf:1", "0:1,"])
def test_what_is_no_range_is_refused(bounds: str):
    with pytest.raises(UserError, match="is no range"):
        box_of(bounds, 1)


def test_the_number_of_ranges_is_that_of_the_columns():
    with pytest.raises(UserError, match="bounds has 3 ranges, actions 2 columns"):
        Table("actions=u,w", bounds="0:1,0:1,0:1")
