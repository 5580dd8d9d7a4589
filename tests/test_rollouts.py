"""Check that runners in other processes deliver every step once: synchronous, asynchronous, and killed."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from ray.tune.registry import register_env

from off2on.algorithms.iql import IQL
from off2on.errors import OnlineSettingsError
from off2on.rllib import rollout_collector
from off2on.runs.tables import read_metrics
from off2on.training.callbacks import Callbacks
from off2on.training.plan import Plan
from off2on.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

BOTH = pytest.mark.parametrize("factors", [{}, {"asynchronous": True}], ids=["in step", "beside"])
BOTH_AND_RUNNERS = pytest.mark.parametrize(
    ("factors", "runners"), [({}, 2), ({"asynchronous": True}, 1)], ids=["in step", "beside"]
)


class Counter(gym.Env[Any, Any]):
    """Observations say in which process they were made, and how many steps that process made before."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self) -> None:
        self.steps = self.length = 0

    def reset(self, **_: Any) -> Any:
        self.length = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.steps, self.length = self.steps + 1, self.length + 1
        return self.seen(), -1.0, False, self.length == 70, {}

    def seen(self) -> Any:
        return np.array([os.getpid(), self.steps, self.length], np.float32)


def counting(steps: int, **factors: Any) -> Any:
    register_env("counter", lambda _: Counter())
    config = IQL.configure("toy-pendulum").training(
        hidden=(16, 16), batch_size=16, threads=1, normalise_obs=False
    )
    config.environment("counter").env_runners(num_env_runners=2).offline(10)
    return config.online(steps, strategy="append", rollout=20, **factors)


def rows_by_process(algo: Any) -> dict[int, list[int]]:
    """Process to the numbers of its steps that are among the online rows, in the order they came in."""
    (learner,) = algo.call_learners(lambda learner: learner)
    held = learner.rows.data[learner.rows.offline : learner.rows.offline + learner.rows.online]
    obs = learner.rows.layout.split(held).obs
    found: dict[int, list[int]] = {}
    for process, step, _ in obs.tolist():
        found.setdefault(int(process), []).append(int(step))
    assert learner.rows.added == algo.env_steps
    return found


def test_every_step_of_every_runner_comes_in_once_and_in_order():
    with counting(400).build_algo() as algo:
        while not algo.finished:
            algo.train()
        all_came_in_once(algo, 400, updates=10 + 400)


def all_came_in_once(algo: Any, steps: int, updates: int) -> None:
    """Check what two runners have brought to the end of a run."""
    assert algo.env_steps == steps
    assert not algo.runners.outstanding
    found = rows_by_process(algo)
    assert len(found) == 2
    for numbers in found.values():
        assert numbers == list(range(len(numbers)))
    assert algo.updates == updates


@BOTH
def test_a_runner_that_is_killed_is_replaced_and_what_it_had_handed_in_stays(factors: dict[str, Any]):
    with counting(20_000, utd=0.1, **factors).build_algo() as algo:
        while algo.env_steps < 200:
            algo.train()
        first, second = rows_by_process(algo)
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while len(found := rows_by_process(algo)) < 3 and time.monotonic() < deadline:
            algo.train()
            time.sleep(0.1)  # the one in its place takes seconds to come up
        assert len(found) == 3, "nobody came in its place"
        for steps in found.values():
            assert steps == list(range(len(steps)))
        assert second in found


@BOTH
def test_who_comes_in_a_dead_ones_place_acts_as_that_one_did_even_if_nobody_noticed(factors: dict[str, Any]):
    with counting(20_000, **factors).env_runners(num_env_runners=1).build_algo() as algo:
        while algo.env_steps < 100:
            algo.train()
        algo.runners.send_weights(algo.updates)
        algo.runners.weights_frozen = True
        obs = torch.randn(8, 3)
        held = algo.policy()(obs)
        algo.train()
        assert not torch.equal(algo.policy()(obs), held)
        actor = algo.env_runner_group._worker_manager.actors()[1]
        (dead,) = rows_by_process(algo)
        os.kill(dead, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while process_of(actor) in (dead, None) and time.monotonic() < deadline:
            time.sleep(0.1)
        while len(rows_by_process(algo)) < 2 and time.monotonic() < deadline:
            algo.train()
        (answer,) = algo.env_runner_group.foreach_env_runner(lambda runner: runner.module.policy(obs))
        assert torch.equal(answer, held)


def process_of(actor: Any) -> int | None:
    """The process that an actor is in; None while it has none."""
    try:
        return int(ray.get(actor.apply.remote(lambda _: os.getpid())))
    except ray.exceptions.RayActorError:
        return None


def test_weights_are_no_further_behind_than_is_said_and_every_step_comes_in_once():
    # A rollout is 10 steps and 30 updates: 45 leaves room for those of one, not of both runners.
    with counting(900, asynchronous=True, staleness=0, utd=3).build_algo() as algo:
        for most, steps in ((0, 300), (45, 600), (1000, 900)):
            if most:  # in one run, since runners take seconds to come up
                algo.runners.staleness = most
            worst = 0.0
            while algo.env_steps < steps:
                algo.train()
                worst = max(worst, algo.staleness.get("staleness_most", 0.0))
            assert worst <= most
        assert worst > 0
        assert algo.finished
        all_came_in_once(algo, 900, updates=10 + 3 * 900)
        assert 0 <= algo.latest_metrics["staleness"] <= algo.latest_metrics["staleness_most"] <= 1000


class Stuck(Counter):
    """Fails once it has made so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.most = steps

    def step(self, action: Any) -> Any:
        if self.steps == self.most:
            raise RuntimeError("the forklift is stuck")
        return super().step(action)


@BOTH_AND_RUNNERS
def test_an_environment_that_fails_is_made_anew_and_that_is_said(
    factors: dict[str, Any], runners: int, caplog: pytest.LogCaptureFixture
):
    register_env("stuck", lambda _: Stuck(35))
    config = counting(120, **factors).environment("stuck").env_runners(num_env_runners=runners)
    each = 20 // runners
    with config.build_algo() as algo:
        while not algo.finished:
            algo.train()
        assert algo.env_steps == 120
        for process, steps in rows_by_process(algo).items():
            # Whole rollouts: what came before the failure in the last of them was not handed in.
            assert steps == [step % (35 // each * each) for step in range(len(steps))], process
    assert "the environment of runner 1 failed" in caplog.text
    assert "RuntimeError: the forklift is stuck" in caplog.text


@BOTH_AND_RUNNERS
def test_an_environment_that_only_fails_ends_the_run_with_what_failed(factors: dict[str, Any], runners: int):
    register_env("stuck", lambda _: Stuck(0))
    config = counting(120, **factors).environment("stuck").env_runners(num_env_runners=runners)
    with (
        config.build_algo() as algo,
        pytest.raises(RuntimeError, match=rf"{3 * runners + 1} failures in a row, .* forklift is stuck"),
    ):
        train_often(algo)


def test_runners_that_do_not_come_up_end_the_run(monkeypatch: pytest.MonkeyPatch):
    def nowhere(_: Any) -> Any:
        raise RuntimeError("there is no simulator on this machine")

    monkeypatch.setattr(rollout_collector, "RECOVERY_TIMEOUT_S", 3)
    register_env("nowhere", nowhere)
    config = counting(120).environment("nowhere").env_runners(num_env_runners=1)
    with (
        config.build_algo() as algo,
        pytest.raises(RuntimeError, match=r"no environment runner is alive, and none was replaced in 3 s"),
    ):
        train_often(algo)


def train_often(algo: Any) -> None:
    for _ in range(100):
        algo.train()


def test_a_checkpoint_leaves_nothing_that_is_under_way_out(tmp_path: Path):
    config = counting(400, asynchronous=True).env_runners(num_env_runners=1)
    with config.copy(copy_frozen=False).build_algo() as algo:
        while algo.env_steps < 100:
            algo.train()
        algo.save_to_path(str(tmp_path / "checkpoint"))
        assert not algo.runners.outstanding
        assert algo.updates == 10 + algo.env_steps  # also those after the steps that were under way
        at, found = algo.env_steps, rows_by_process(algo)
    with config.build_algo() as algo:
        algo.restore_from_path(str(tmp_path / "checkpoint"))
        assert algo.env_steps == at
        assert rows_by_process(algo) == found
        while not algo.finished:
            algo.train()
        assert algo.updates == 10 + algo.env_steps


class StopsWithTheLastRolloutUnderWay(Callbacks):
    """Presses Ctrl-C when the rollout that reaches the evaluation is requested and has not arrived."""

    def on_update_block(self, algo: Any) -> None:
        if algo.env_steps == 51:
            assert [request.steps for request in algo.runners.outstanding.values()] == [49]
            signal.raise_signal(signal.SIGINT)


def test_the_evaluation_that_the_last_rollout_reaches_is_made_after_ctrl_c(tmp_path: Path):
    plan = Plan(
        "iql", "toy-pendulum", {"hidden": (16, 16), "batch_size": 32}, updates=50, online=200, eval_every=100,
        eval_episodes=1, strategy="append", workers=1, threads=1, out=str(tmp_path / "run"),
        online_overrides={"asynchronous": True},
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        train(plan, callbacks=StopsWithTheLastRolloutUnderWay())
    run = train(plan, resume=True)
    at = [
        (int(row["env_steps"]), int(row["updates"])) for row in read_metrics(run) if row["side"] == "online"
    ]
    assert at == [(1, 51), (100, 150), (200, 250)]


def test_beside_the_learner_needs_other_processes(data_root: Path):
    plan = Plan("iql", "toy-pendulum", online=100, online_overrides={"asynchronous": True})
    with pytest.raises(OnlineSettingsError, match="workers is 0"):
        plan.check()
