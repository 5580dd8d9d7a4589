"""Several learners on a real Ray."""

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import cloudpickle
from real_learners import ask, configured, online_config, same

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.errors import LearnerDied
from off2on.replay.strategy import Options, Strategy
from off2on.rllib import learner as learner_module
from off2on.rllib.learner import RecipeLearner

# Workers cannot import the tests: what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("ray_session")


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


@pytest.mark.slow
def test_two_learners_on_halves_end_with_equal_parameters(toy: Shards, tmp_path: Path):
    with online_config(IQL, offline=20).learners(num_learners=2).build_algo() as algo:
        algo.train()
        first, second = before, _ = ask(algo)
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

        # A roll-back restores the networks in every learner, or fails; the rows and counters stay.
        algo.roll_back(Path(folder))
        for learner, online in zip(ask(algo), (first, second), strict=True):
            assert same(learner["nets"], before["nets"])
            assert same(learner["optimizers"], before["optimizers"])
            assert same(learner["rows"], online["rows"])
            assert learner["updates"] == online["updates"] == algo.updates
        algo.call_learners(fills_its_disk)
        with pytest.raises(LearnerDied, match="1 of 2"):
            algo.roll_back(Path(folder))


def fills_its_disk(learner: RecipeLearner) -> None:
    """Let the second learner fail to read checkpoints."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    if learner.rank == 1:
        learner.set_state = fail


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


def measured_threads(learner: RecipeLearner) -> tuple[int, int]:
    """Return the number of threads where every learner measures another one, and the online rows it holds."""
    learner_module.fastest_threads = lambda *_, **__: learner.rank + 1
    return learner._measured_threads(), learner.rows.capacity


@pytest.mark.slow
def test_two_learners_agree_on_threads_and_each_holds_all_whole_episodes(data_root: Path):
    """A checkpoint has the first learner's threads; one learner may get most steps, as long episodes."""
    config = configured(IQL, augment="steps:3").online(41).learners(num_learners=2)
    with config.build_algo() as algo:
        assert ask(algo, measured_threads) == [(1, 41), (1, 41)]
