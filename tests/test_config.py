"""What is refused before any process starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets_io import open_shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole
from off2on.algorithms.awr import AWR
from off2on.algorithms.bc import BC
from off2on.algorithms.dsrl import DSRL
from off2on.algorithms.iql import IQL
from off2on.algorithms.mopo import MOPO
from off2on.algorithms.pex import PEX
from off2on.algorithms.sac import SAC
from off2on.algorithms.spot import SPOT
from off2on.errors import HyperparameterError, RecipeError, SimulatorError, UnknownName
from off2on.replay.offline_rows import layout_of
from off2on.rllib.data_checks import check_order


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


@pytest.mark.parametrize(
    ("recipe", "given", "only_offline"),
    [
        (DSRL, {}, "flow"),
        (SPOT, {}, "vae"),
        (PEX, {}, "actor"),
        (DSRL, {"freeze_base": False}, None),
        (SAC, {}, None),
    ],
)
def test_without_offline_updates_no_network_stays_as_it_was_drawn(
    recipe: Any, given: dict[str, Any], only_offline: str | None
):
    config = configured(recipe, **given).offline(0).online(10)
    if only_offline is None:
        config.validate()
        return
    with pytest.raises(RecipeError, match=f"trains '{only_offline}' only offline"):
        config.validate()


def test_online_batches_are_shared_equally_too():
    config = configured(IQL, batch_size=16).online(10, batch_size=9).learners(num_learners=2)
    with pytest.raises(HyperparameterError, match=r"online\.batch_size 9 is not a multiple .* learners, 2"):
        config.validate()


def test_model_rollouts_have_no_value_of_their_own_online():
    config = configured(MOPO, termination="never").online(10, real_ratio=1.0)
    with pytest.raises(HyperparameterError, match="model rollouts must be the same in both phases"):
        config.validate()


def test_the_memory_for_whole_episodes_is_that_of_the_largest_learner(data_root: Path):
    """4 pieces of 1,000 rows among 3 learners: 334 rows of each are one learner's."""
    shards = open_shards("toy-pendulum")
    row = 4 * layout_of(shards, AWR.columns, AWR.relabelled_columns).width
    with pytest.raises(RecipeError, match=f"--memory {4 * 334 * row}"):
        check_order(AWR, shards, 3, 4 * 334 * row - 1)
    check_order(AWR, shards, 3, 4 * 334 * row)
