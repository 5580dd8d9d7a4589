"""Actions of which one never varies cannot be scaled to [-1, 1], and are refused."""

from pathlib import Path

import numpy as np
import pytest

from datasets_io import Shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.tabular import Table
from off2on.algorithms.iql import IQL
from off2on.errors import RecipeError, UserError
from off2on.ope import estimate
from off2on.rllib.data_checks import check_actions


@pytest.fixture
def fixed(tmp_path: Path) -> Shards:
    """Two episodes of five steps, with a gear that stays at 3."""
    rows = np.arange(10)
    columns = {
        "x": rows / 10,
        "u": rows % 4 / 4,
        "gear": np.full(10, 3.0),
        "r": rows + 1.0,
        "trip": rows // 5,
    }
    source = Table("obs=x actions=u,gear rewards=r episode=trip")
    return ingest(source, columns, tmp_path, name="drives")


def test_training_on_them_is_refused(fixed: Shards) -> None:
    with pytest.raises(RecipeError, match="action 1 of drives has only one value, 3"):
        check_actions(IQL, fixed)


@pytest.mark.parametrize("method", ["fqe", "dice"])
def test_an_estimate_with_networks_is_refused(fixed: Shards, method: str) -> None:
    with pytest.raises(UserError, match="action 1 of the data is between 3 and 3"):
        estimate(lambda obs: np.full((len(obs), 2), 0.5), fixed, methods=[method])
