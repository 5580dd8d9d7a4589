"""A run that is killed online and resumed is, bit for bit on a CPU, the run that was not."""

import csv
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from command import succeeds
from forked import Forked
from processes import wait_for

from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.qc import QC
from off2on.algorithms.td3_bc import TD3BC
from off2on.policy import load_policy

pytestmark = pytest.mark.slow

SMALL = {"hidden": (16, 16), "batch_size": 16}


class Drifting(gym.Wrapper[Any, Any, Any, Any]):
    """A simulator that never does the same twice, whatever its seed."""

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        return obs * np.float32(np.random.default_rng().uniform(0.9, 1)), *rest


def drifting(**_: Any) -> gym.Env[Any, Any]:
    return Drifting(gym.make("Pendulum-v1"))


gym.register("off2on-tests/Drifting-v0", drifting, max_episode_steps=200)


def online_config(
    recipe: Any,
    strategy: str,
    envs: int = 2,
    workers: int = 0,
    hyperparameters: dict[str, Any] | None = None,
    **factors: Any,
) -> Any:
    given = SMALL | (hyperparameters or {})
    config = recipe.configure("toy-pendulum").training(threads=1, **given).offline(20).debugging(seed=3)
    return config.online(900, strategy=strategy, rollout=20, **factors).env_runners(
        num_env_runners=workers, num_envs_per_env_runner=envs
    )


def until(algo: Any, steps: int) -> None:
    while algo.env_steps < steps:
        algo.train()


def everything(algo: Any) -> dict[str, Any]:
    """Counters, rows, priorities, networks, optimisers and the next batch."""
    (learner,) = algo.learner_group.foreach_learner(lambda learner: learner)
    learner = learner.get()
    strategy = learner.sampler.strategy
    batch = strategy.draw(3, 8, torch.Generator().manual_seed(0))
    return {
        "counters": torch.tensor([algo.updates, algo.env_steps, learner.rows.added]),
        "rows": learner.rows.data[learner.rows.offline : learner.rows.offline + learner.rows.online].clone(),
        "batch": learner.rows.rows_at(batch),
        "strategy": strategy.state(),
        "nets": {name: value.clone() for name, value in learner.nets.state_dict().items()},
        "optimisers": {name: flat.vector.clone() for name, flat in learner.flat.items()},
        "simulators": dict(
            algo.env_runner_group.foreach_env_runner(lambda runner: (runner.worker_index, runner.episodes()))
        ),
    }


def same(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for name in ours:
            same(ours[name], theirs[name], f"{where}/{name}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{where}/{index}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize(
    ("recipe", "strategy", "factors"),
    [
        (IQL, "balanced", {"utd": 0.2}),
        (CalQL, "symmetric", {"utd": 0.2}),
        (TD3BC, "adaptive", {"utd": 0.2}),
        (TD3BC, "policy_expansion", {"warm_up": 100, "resets": 150}),
        (CalQL, "balanced", {"utd": 0.2, "workers": 2, "envs": 1}),
        (IQL, "balanced", {"utd": 0.2, "hyperparameters": {"augment": "steps:5"}}),
        (QC, "append", {"utd": 0.2, "hyperparameters": {"chunk": 7, "samples": 3, "flow_steps": 2}}),
    ],
    ids=[
        "balanced",
        "late columns",
        "controller",
        "kept policy and resets",
        "in other processes",
        "steps",
        "chunks",
    ],
)
def test_what_comes_after_a_checkpoint_comes_after_its_restoration(
    request: pytest.FixtureRequest, tmp_path: Path, recipe: Any, strategy: str, factors: dict[str, Any]
):
    if "workers" in factors:
        request.getfixturevalue("ray_session")
    # 250 steps of each environment: a checkpoint in the middle of the second episode; the end in the third.
    with online_config(recipe, strategy, **factors).build_algo() as algo:
        until(algo, 500)
        algo.save_to_path(str(tmp_path / "checkpoint"))
        until(algo, 900)
        through = everything(algo)
    with online_config(recipe, strategy, **factors).build_algo() as algo:
        algo.restore_from_path(str(tmp_path / "checkpoint"))
        assert algo.env_steps == 500
        until(algo, 900)
        same(through, everything(algo))


@pytest.mark.usefixtures("data_root")
def test_a_simulator_that_does_not_come_back_begins_anew_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def drifts() -> Any:
        return online_config(IQL, "append", envs=1).environment("off2on-tests/Drifting-v0", env_config={})

    with drifts().build_algo() as algo:
        until(algo, 100)
        algo.save_to_path(str(tmp_path / "checkpoint"))
    with drifts().build_algo() as algo:
        algo.restore_from_path(str(tmp_path / "checkpoint"))
        assert "1 episodes could not be continued" in caplog.text
        episodes = algo.env_runner_group.local_env_runner.episodes()
        assert episodes["number"] == [1]
        assert len(episodes["actions"][0]) == 0
        until(algo, 120)
        assert algo.env_steps == 120


def test_a_run_that_was_killed_online_ends_as_the_one_that_was_not(tmp_path: Path, data_root: Path):
    words = [
        "train",
        "iql",
        "toy-pendulum",
        "hidden=16,16",
        "batch_size=16",
        "--updates",
        "50",
        "--threads",
        "1",
    ]
    words += ["--online", "600", "--strategy", "balanced", "--eval-every", "100", "--eval-episodes", "1"]

    succeeds(tmp_path, *words, "--out", "through", OFF2ON_DATA=data_root)
    place = Path("toy-pendulum/iql-balanced-s0")

    def steps() -> list[str]:
        return [row["env_steps"] for row in table(tmp_path / "killed" / place)]

    env = os.environ | {"OFF2ON_DATA": str(data_root)}
    with Forked(tmp_path, *words, "--out", "killed", env=env) as killed:
        wait_for(lambda: "200" in steps(), killed)  # past its first online checkpoints
        killed.kill()
    assert "600" not in steps()  # and before its end
    succeeds(tmp_path, *words, "--out", "killed", "--resume", OFF2ON_DATA=data_root)
    ours, theirs = table(tmp_path / "through" / place), table(tmp_path / "killed" / place)
    assert ours == theirs
    through, resumed = (tmp_path / out / place / "policy.pt" for out in ("through", "killed"))
    policies = [load_policy(path) for path in (through, resumed)]
    obs = torch.randn(50, 3)
    assert torch.equal(policies[0](obs), policies[1](obs))


def table(run: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    clock = {"wall_s", "updates_per_s", "steps_per_s"}
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]
