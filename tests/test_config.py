"""What is refused before any process starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.errors import HyperparameterError, RecipeError, SimulatorError, UnknownName


def configured(recipe: Any, data: str = "toy-pendulum", **given: Any) -> Any:
    return recipe.configure(data).training(**given).offline(20)


class Ahead(BC):
    """Reads a column that online transitions never have."""

    columns = ("obs", "action", "height")


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        (lambda: configured(IQL, "toy-pendulun"), UnknownName, "toy-pendulum"),
        (lambda: IQL.configure(), RecipeError, "no data set"),
        (lambda: configured(IQL, batch_size=33).learners(num_learners=2), HyperparameterError, "33"),
        (lambda: configured(IQL, expectile=1.5), HyperparameterError, "expectile"),
        (lambda: configured(IQL, expektile=0.5), HyperparameterError, "expectile"),
        (lambda: configured(IQL, "wide").online(10), SimulatorError, "wide"),
        (lambda: configured(IQL).online(10, strategy="ballanced"), UnknownName, "balanced"),
        (
            lambda: configured(IQL).online(10, strategy="symmetric", options={"share": 1}),
            HyperparameterError,
            "offline_share",
        ),
        (lambda: configured(Ahead).online(10), RecipeError, "height"),
        (lambda: configured(IQL, "toy-cartpole"), RecipeError, "continuous"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(
    config: Callable[[], Any], error: type[Exception], says: str, data_root: Path
):
    if not (data_root / "toy-cartpole").exists():
        ingest(ToyCartPole(episodes=2), None, data_root, name="toy-cartpole")
    with pytest.raises(error) as refusal:
        config().validate()
    assert says in str(refusal.value)
