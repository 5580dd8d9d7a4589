"""The machine on a real Ray: resuming, steps, threads, Tune."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle, tune
from real_learners import ask, configured, online_config, same

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.threads import fastest_threads

# Workers cannot import the tests: what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("data_root")


# The offline side.


def test_a_resumed_run_goes_on_bit_for_bit(representative: Any, small: Any, tmp_path: Path):
    recipe = representative
    data = "toy-cartpole" if recipe.actions == "discrete" else "toy-pendulum"
    config = configured(recipe, data, **small(recipe))
    with config.build_algo() as whole:
        if not whole.is_fitted:
            whole.train()
        whole.train()
        folder = whole.save_to_path(str(tmp_path / "checkpoint"))
        result = whole.train()
        expected = ask(whole)
    assert result["updates"] == 20
    assert result["done"]
    with config.copy(copy_frozen=False).build_algo() as resumed:
        resumed.restore_from_path(folder)
        assert resumed.updates == 10
        assert resumed.is_offline
        resumed.train()
        assert resumed.latest_metrics == whole.latest_metrics
        assert same(ask(resumed), expected)


def test_a_checkpoint_is_enough_to_build_the_algorithm(tmp_path: Path):
    with configured(IQL).build_algo() as algo:
        algo.train()
        folder = algo.save_to_path(str(tmp_path / "checkpoint"))
        with IQL.from_checkpoint(folder) as again:
            assert isinstance(again, IQL)
            assert same(ask(again), ask(algo))


def test_steps_stop_where_they_are_told(tmp_path: Path):
    with configured(BC, offline=25).build_algo() as algo:
        algo.pause_at = 4
        stops = [algo.train()["updates"] for _ in range(4)]
        assert stops == [4, 14, 24, 25]
        assert algo.finished
        assert algo.device_and_threads() == {"device": "cpu", "threads": 1, "compiled_since": None}


def test_an_algorithm_leaves_no_folder_of_rllibs_behind():
    with configured(BC).build_algo() as algo:
        folder = Path(algo.logdir)
        assert folder.is_dir()
    assert not folder.exists()


def test_the_policy_is_the_learners(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    with configured(IQL).build_algo() as algo:
        algo.train()

        def answer(learner: RecipeLearner) -> torch.Tensor:
            with torch.no_grad():
                action: torch.Tensor = learner.module["default_policy"].policy(obs)
            return action

        with torch.no_grad():
            policy = algo.policy()
            # Close, not equal: the learner's weights lie elsewhere in memory, and sums may run otherwise.
            torch.testing.assert_close(policy(obs), ask(algo, answer)[0], rtol=1e-6, atol=1e-6)
        assert policy.nets.names() == ["actor"]


def test_a_column_that_is_asked_for_is_there(wide: Shards):
    class Returns(BC):
        columns = ("obs", "action", "ret", "last", "next_action")

    with configured(Returns, "wide", reward="minus_one", discount=0.9).build_algo() as algo:
        rows = ask(algo, lambda learner: learner.rows.layout.split(learner.rows.data))[0]
    stored = wide.read_all(["rewards", "last", "actions"])
    expected, following = np.zeros(wide.rows), 0.0
    for row in reversed(range(wide.rows)):
        following = expected[row] = (
            stored["rewards"][row] - 1 + 0.9 * (0 if stored["last"][row] else following)
        )
    np.testing.assert_allclose(rows.ret, expected, rtol=1e-4)
    np.testing.assert_array_equal(rows.last, stored["last"])
    np.testing.assert_array_equal(
        rows.next_action[:-1][~stored["last"][:-1]], rows.action[1:][~stored["last"][:-1]]
    )


def test_the_step_size_follows_the_offline_side_and_starts_anew_online():
    def step_size(learner: RecipeLearner) -> float:
        return float(learner.get_optimizer("default_policy", "actor").param_groups[0]["lr"])

    with online_config(IQL).training(updates_per_call=1, actor_lr=1e-3).build_algo() as algo:
        seen = []
        while not algo.is_online:
            algo.train()
            seen += ask(algo, step_size)
    halves = [0.5e-3 * (1 + np.cos(np.pi * update / 10)) for update in range(10)]
    assert seen == pytest.approx([*halves, 1e-3])


def test_every_block_of_updates_and_every_learner_draws_other_rows(build_learner: Callable[..., Any]):
    # With steps too small to matter, the losses tell the rows apart.
    one, other = (build_learner(BC, actor_lr=1e-30) for _ in range(2))
    other.rank = 1
    losses = [one.advance(5)["actor/loss"] for _ in range(3)] + [other.advance(5)["actor/loss"]]
    assert len(set(losses)) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_tune_runs_trials_of_an_algorithm(tmp_path: Path):
    config = configured(IQL).training(preset="antmaze", expectile=tune.grid_search([0.6, 0.8]))
    tuner = tune.Tuner(
        IQL,
        param_space=config,
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="small", verbose=0),
    )
    results = tuner.fit()
    assert not results.errors
    assert [result.metrics["updates"] for result in results] == [20, 20]
    asked = [OfflineToOnlineConfig(IQL).update_from_dict(result.config).resolved.hp for result in results]
    assert {(hp.expectile, hp.beta, hp.reward) for hp in asked} == {
        (0.6, 10.0, "minus_one"),
        (0.8, 10.0, "minus_one"),
    }
    losses = {result.metrics["learners"]["value/loss"] for result in results}
    assert len(losses) == 2


def test_the_number_of_threads_is_measured():
    calls = []
    assert fastest_threads(lambda: calls.append(torch.get_num_threads()), processes=10_000) == 1
    assert calls == []  # nothing to choose from, nothing to measure
    best = fastest_threads(lambda: calls.append(torch.get_num_threads()), rounds=3)
    assert best in calls or not calls
    with configured(IQL, threads=None).build_algo() as algo:
        assert algo.device_and_threads()["threads"] is None
        algo.train()
        assert algo.device_and_threads()["threads"] >= 1


def test_threads_that_are_given_to_a_resumed_run_count(tmp_path: Path):
    with configured(IQL, threads=1).build_algo() as algo:
        algo.save_to_path(str(tmp_path / "saved"))
    for given, expected in ((2, 2), (None, 1)):
        with configured(IQL, threads=given).build_algo() as algo:
            algo.restore_from_path(str(tmp_path / "saved"))
            assert algo.device_and_threads()["threads"] == expected
