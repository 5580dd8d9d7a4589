"""Columns that a user gives the roles of a table: what is refused, and what is suggested."""

from typing import Any

import numpy as np
import pytest

from datasets_io.errors import BadValues, MissingColumn
from datasets_io.sources.tabular import Table


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
