"""The machine on a real Ray: resuming, several learners, the online side, Tune."""

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray import cloudpickle, tune

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.errors import LearnerDied
from off2on.replay.strategy import Options, Strategy
from off2on.rllib.algorithm import OfflineToOnline
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.threads import fastest_threads

# Workers cannot import the tests: what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("ray_session")


def configured(recipe: Any, data: str = "toy-pendulum", *, offline: int = 20, **given: Any) -> Any:
    options = {"hidden": (32, 32), "batch_size": 32, "threads": 1, "updates_per_step": 10} | given
    return recipe.configure(data).training(**options).offline(offline)


def everything(learner: RecipeLearner) -> dict[str, Any]:
    """All that an update depends on, and what it leaves behind."""
    optimizers = {
        name: learner.get_optimizer("default_policy", name).state_dict()["state"]
        for name in learner.flat
        if name in {objective.name for objective in learner.recipe.objectives_in_order()}
    }
    return {
        "updates": learner.updates,
        "nets": dict(learner.nets.state_dict()),
        "optimizers": optimizers,
        "rows": learner.rows.data[: learner.rows.offline + learner.rows.online],
        "added": learner.rows.added,
        "strategy": (type(learner.sampler.strategy).__name__, learner.sampler.strategy.state()),
    }


def ask(algo: OfflineToOnline, function: Callable[..., Any] = everything, **kwargs: Any) -> list[Any]:
    """The answer of every learner, in the order of their ranks."""

    def ranked(learner: RecipeLearner, **kwargs: Any) -> Any:
        return learner.rank, function(learner, **kwargs)

    answers = [result.get() for result in algo.learner_group.foreach_learner(ranked, **kwargs)]
    return [answer for _, answer in sorted(answers, key=lambda pair: pair[0])]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


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
        assert algo.device_and_threads() == {"device": "cpu", "threads": 1}


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

    with online_config(IQL).training(updates_per_step=1, actor_lr=1e-3).build_algo() as algo:
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


# Several learners.


def distinct(rows: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in rows.tolist()}


class InOrder(Strategy):
    """A learner's batches are its rows in order; one that is alone draws what two would, together."""

    starts: tuple[int, ...] = (0,)

    def draw(self, updates: int, size: int, generator: torch.Generator) -> torch.Tensor:
        each = size // len(self.starts)
        order = torch.arange(updates * each).view(updates, each)
        return torch.cat([start + order for start in self.starts], 1)


def in_order(learner: RecipeLearner) -> None:
    learner.sampler.strategy = InOrder(learner.rows, Options())
    if learner.world_size == 1:
        learner.sampler.strategy.starts = (0, learner.sampler.source.counts[0] // 2)


def test_a_learner_in_a_process_of_its_own_learns_the_same():
    with configured(IQL).build_algo() as here, configured(IQL).learners(num_learners=1).build_algo() as there:
        here.train()
        there.train()
        assert same(ask(here), ask(there))
        assert here.latest_metrics == there.latest_metrics


def test_two_learners_on_halves_end_with_equal_parameters(toy: Shards, tmp_path: Path):
    with online_config(IQL, offline=20).learners(num_learners=2).build_algo() as algo:
        algo.train()
        first, second = ask(algo)
        folder = algo.save_to_path(str(tmp_path / "checkpoint"))
        assert same(first["nets"], second["nets"])
        assert same(first["optimizers"], second["optimizers"])
        assert first["updates"] == 10
        # They hold different halves, which are all of the data together.
        assert len(first["rows"]) == len(second["rows"]) == toy.rows / 2
        with configured(IQL).build_algo() as alone:
            whole = ask(alone)[0]["rows"]
            assert not same(ask(alone)[0]["nets"], first["nets"])
        together = torch.cat((first["rows"], second["rows"]))
        assert same(together[together[:, 0].argsort(stable=True)][:, 0], whole[:, 0].sort().values)
        assert {tuple(row) for row in together.tolist()} == {tuple(row) for row in whole.tolist()}

        # From the checkpoint both go on as they did.
        algo.train()
        expected = ask(algo)
        algo.restore_from_path(folder)
        assert same(ask(algo), [first, second])
        algo.train()
        assert same(ask(algo), expected)

        # Online they share what is collected, and stay equal.
        algo.go_online()
        while not algo.finished:
            algo.train()
        first, second = ask(algo)
        assert first["added"] + second["added"] == algo.env_steps == 60
        assert abs(first["added"] - second["added"]) <= 1
        assert not distinct(first["rows"][-20:]) & distinct(second["rows"][-20:])
        assert same(first["nets"], second["nets"])
        algo.restore_from_path(algo.save_to_path(str(tmp_path / "later")))
        assert same(ask(algo), [first, second])


@pytest.mark.slow
def test_two_learners_are_one_with_the_joined_batch_and_a_dead_one_is_noticed(wide: Shards):
    assert wide.manifest.files[0]["rows"] >= 2 * 60  # ten batches of 6 lie in a learner's part of one file
    with configured(BC, "wide", batch_size=12).build_algo() as one:
        ask(one, in_order)
        one.train()
        (alone,) = ask(one)
    with configured(BC, "wide", batch_size=12).learners(num_learners=2).build_algo() as two:
        ask(two, in_order)
        two.train()
        first, second = ask(two)
        assert same(first["nets"], second["nets"])
        for name, value in alone["nets"].items():
            torch.testing.assert_close(first["nets"][name], value, rtol=1e-5, atol=1e-7)
        assert two.latest_metrics["actor/loss"] == pytest.approx(one.latest_metrics["actor/loss"], rel=1e-5)

        ray.kill(two.learner_group._workers[0])  # returns before the process has ended
        with pytest.raises(LearnerDied):  # noqa: PT012
            for _ in range(10):
                two.train()


@pytest.mark.slow
def test_a_learner_does_not_wait_half_an_hour_for_one_that_is_silent():
    with configured(BC).learners(num_learners=2).build_algo() as algo:
        algo.train()
        group = algo.learner_group
        for result in group.foreach_learner(hasty):
            assert result.ok
        first = next(iter(group.foreach_learner(lambda learner: os.getpid()))).get()
        os.kill(first, signal.SIGSTOP)
        try:
            began = time.monotonic()
            (answer,) = group.foreach_learner(
                RecipeLearner.advance, updates=1, remote_actor_ids=group._worker_manager.actor_ids()[1:]
            )
            assert not answer.ok
            assert 2 <= time.monotonic() - began < 60
        finally:
            os.kill(first, signal.SIGKILL)


def hasty(learner: RecipeLearner) -> None:
    """From the next updates on, the other learners are waited for two seconds long."""
    import off2on.rllib.learner

    off2on.rllib.learner.GRADIENT_TIMEOUT = timedelta(seconds=2)


def test_a_run_on_a_window_learns_and_resumes_bit_for_bit(tmp_path: Path):
    config = configured(IQL).data(memory_budget=4 * 9 * 500)
    with config.build_algo() as whole:
        assert ask(whole)[0]["rows"].shape == (500, 9)
        before = ask(whole)[0]["rows"].clone()
        whole.train()
        assert not torch.equal(before, ask(whole)[0]["rows"])
        folder = whole.save_to_path(str(tmp_path / "checkpoint"))
        whole.train()
        expected = ask(whole)
    with config.copy(copy_frozen=False).build_algo() as resumed:
        resumed.restore_from_path(folder)
        resumed.train()
        assert same(ask(resumed), expected)


# The online side.


def online_config(
    recipe: Any, *, offline: int = 10, steps: int = 60, strategy: str = "balanced", **given: Any
) -> Any:
    return configured(recipe, offline=offline).online(steps, strategy=strategy, rollout=20, **given)


def test_the_policy_is_the_same_just_before_and_just_after_the_handover(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    with online_config(IQL).build_algo() as algo:
        algo.train()
        assert not algo.is_online
        before = algo.policy()(obs)
        algo.go_online()
        assert algo.is_online
        assert algo.env_steps == 0
        assert torch.equal(algo.policy()(obs), before)
        runner = algo.env_runner_group.local_env_runner
        assert torch.equal(runner.module.policy(obs), before)


def test_online_steps_and_updates_keep_pace():
    with online_config(IQL, utd=0.25).build_algo() as algo:
        algo.train()
        algo.pause_at = 1
        seen = []
        while not algo.finished:
            result = algo.train()
            seen.append((result["updates"], result["env_steps"]))
        # 10 offline; 1 step alone, since it was told to pause; then 20 by 20, a quarter of an update each
        assert [steps for _, steps in seen] == [1, 21, 41, 60]
        assert [updates - 10 for updates, _ in seen] == [0, 5, 10, 15]
        assert ask(algo)[0]["added"] == 60


def test_runners_get_the_weights_that_were_learned(toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:50])
    with online_config(IQL).build_algo() as algo:
        before = algo.policy()(obs)
        while not algo.finished:
            algo.train()
            if algo.is_online:
                now = algo.policy()(obs)
                assert torch.equal(algo.env_runner_group.local_env_runner.module.policy(obs), now)
                assert not torch.equal(now, before)
                before = now


@pytest.mark.parametrize("strategy", ["append", "symmetric", "balanced"])
def test_a_resumed_online_run_has_all_it_had(strategy: str, tmp_path: Path):
    config = online_config(IQL, strategy=strategy, replay_capacity=30)
    with config.build_algo() as whole:
        while whole.env_steps < 40:  # more than the ring holds
            whole.train()
        folder = whole.save_to_path(str(tmp_path / "checkpoint"))
        with config.copy(copy_frozen=False).build_algo() as resumed:
            resumed.restore_from_path(folder)
            assert (resumed.updates, resumed.env_steps, resumed.is_online) == (50, 40, True)
            assert same(ask(resumed), ask(whole))
            assert ask(resumed)[0]["strategy"][0].lower() == strategy
            assert ask(resumed)[0]["added"] == 40
            # The next updates, on the same rows, are the same too.
            assert ask(resumed, RecipeLearner.advance, updates=7) == ask(
                whole, RecipeLearner.advance, updates=7
            )
            assert same(ask(resumed), ask(whole))
            # And it can go on collecting.
            resumed.train()
            assert resumed.finished


def test_a_handover_may_be_crossed_again_with_another_strategy(tmp_path: Path):
    with online_config(CQL, strategy="append").build_algo() as algo:
        algo.train()
        folder = algo.save_to_path(str(tmp_path / "handover"))
        nets = ask(algo)[0]["nets"]
    with online_config(CQL, strategy="symmetric").build_algo() as other:
        other.restore_from_path(folder)
        assert same(ask(other)[0]["nets"], nets)
        other.train()
        assert ask(other)[0]["strategy"][0] == "Symmetric"
        assert other.latest_metrics["offline_share"] == 0.5


@pytest.mark.slow
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
