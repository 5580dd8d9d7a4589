"""Check the online phase with new recorded data instead of an environment."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from datasets_io import Shards
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.manifest import space_to_json
from datasets_io.sources.toy import ToyPendulum
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import RecipeError
from off2on.replay.new_data import NewDataReader
from off2on.rllib.data_checks import check_new_data

TINY = {"hidden": (16, 16), "batch_size": 32, "threads": 1}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Three new episodes of the toy's task, 600 transitions in two files."""
    root = tmp_path_factory.mktemp("logs")
    return ingest(ToyPendulum(episodes=3, seed=7), None, root, name="logs", rows_per_shard=400)


def test_logs_are_given_out_in_their_order(logs: Shards):
    given, first = [], 0
    while first < logs.rows:
        columns = NewDataReader(logs).read(first, 150)
        assert 0 < len(columns["rewards"]) <= 150
        given.append(columns)
        first += len(columns["rewards"])
    whole = logs.read_all(["obs", "new_obs", "actions", "rewards", "truncateds"])
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([one[name] for one in given]), values)


@pytest.fixture
def config(toy: Shards, logs: Shards) -> Any:
    config = TD3BC.configure(toy.path).training(**TINY).offline(20)
    return config.new_data(str(logs.path)).online(120, strategy="symmetric", rollout=30)


def finish(algo: Any) -> Any:
    while not algo.finished:
        algo.train()
    return algo


def test_they_take_the_place_of_the_environment(config: Any, logs: Shards):
    with config.build_algo() as algo:
        finish(algo)
        assert algo.env_runner_group is None
        assert (algo.env_steps, algo.updates) == (120, 140)
        (rows,) = algo.call_learners(lambda learner: learner.rows.data[learner.rows.offline :].clone())
        (transforms,) = algo.call_learners(lambda learner: learner.sampler.source.transforms)
    recorded = logs.read_all(["obs", "rewards"])
    entered = transforms.apply({name: values[:120] for name, values in recorded.items()})
    np.testing.assert_array_equal(rows[:120, :3].numpy(), entered["obs"])
    assert algo.latest_metrics["offline_share"] == pytest.approx(0.5)


def weights(algo: Any) -> torch.Tensor:
    (vector,) = algo.call_learners(lambda learner: learner.flat["actor"].vector.detach().clone())
    return vector


def test_a_resumed_run_goes_on_with_the_next_transition(config: Any, tmp_path: Path):
    with config.build_algo() as algo:
        while algo.env_steps < 60:
            algo.train()
        algo.save_to_path(tmp_path / "half")
        whole = weights(finish(algo))
    with config.build_algo() as other:
        other.restore_from_path(tmp_path / "half")
        assert other.env_steps == 60
        torch.testing.assert_close(weights(finish(other)), whole, rtol=0, atol=0)


def test_what_waits_for_an_episodes_end_gets_whole_episodes(toy: Shards, logs: Shards):
    config = CalQL.configure(toy.path).training(samples=2, **TINY).offline(2).new_data(str(logs.path))
    with config.online(250, rollout=50, utd=0.02).build_algo() as algo:
        finish(algo)
        (entered,) = algo.call_learners(lambda learner: learner.rows.online)
    assert entered == 200  # of the second episode, 50 are still waiting


def test_data_without_a_simulator_can_go_on(wide: Shards):
    config = TD3BC.configure(wide.path).training(**TINY).offline(5).new_data(str(wide.path)).online(40)
    with config.build_algo() as algo:
        assert finish(algo).env_steps == 40


@pytest.mark.parametrize("steps", [601, 10_000])
def test_more_steps_than_there_are_is_refused(config: Any, steps: int):
    with pytest.raises(RecipeError, match="has 600 transitions") as error:
        config.online(steps).validate()
    assert error.value.try_ == "--online 600"


def test_logs_of_another_task_are_refused(config: Any, wide: Shards):
    with pytest.raises(RecipeError, match="observations"):
        config.new_data(str(wide.path)).validate()


@pytest.mark.parametrize(
    ("side", "value", "accepted"),
    [
        ("max", 2.0, True),
        ("max", 1.5, True),
        ("max", 2.000001, True),
        ("max", 2.1, False),
        ("min", -2.1, False),
    ],
)
def test_actions_beyond_the_bounds_of_the_data_are_refused(
    toy: Shards, logs: Shards, side: str, value: float, accepted: bool
):
    new = copy(logs)
    statistics = logs.manifest.statistics
    found = {"actions": {**statistics["actions"], side: [value]}}
    wider = space_to_json(Box(-5, 5, (1,)))  # what is declared does not matter, the values do
    new.manifest = replace(logs.manifest, statistics=statistics | found, action_space=wider)
    if accepted:
        check_new_data(toy, new, 1)
    else:
        message = rf"(?s)action 0 of the new data logs .*{value}.*toy-pendulum are -2 and 2\..*clipped"
        with pytest.raises(RecipeError, match=message):
            check_new_data(toy, new, 1)
