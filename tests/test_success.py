"""Success that environments report: of an episode, and as a share in the metrics of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

import off2on
from off2on.training.evaluate import evaluate, success_rate

SMALL: dict[str, Any] = {
    "updates": 10, "eval_episodes": 4, "threads": 1, "hyperparameters": {"hidden": (8, 8), "batch_size": 16},
}  # fmt: skip


class Reporting(PendulumEnv):
    """A pendulum that reports success, under a name, in its seventh step after an even seed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.steps, self.even = name, 0, False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps, self.even = 0, seed is not None and seed % 2 == 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.steps += 1
        *step, info = super().step(action)
        return *step, {**info, self.name: np.float64(self.steps == 7 and self.even)}


@pytest.fixture(params=["success", "is_success"])
def reporting(request: pytest.FixtureRequest) -> Iterator[str]:
    """The id of the environment that reports success under a name."""
    gym.register("Reporting-v0", entry_point=Reporting, max_episode_steps=20, kwargs={"name": request.param})
    yield "Reporting-v0"
    gym.registry.pop("Reporting-v0")


def still(obs: Any) -> Any:
    return np.zeros((len(obs), 1), np.float32)


def test_an_episode_succeeds_if_one_of_its_steps_did(reporting: str):
    played = evaluate(still, reporting, episodes=5, seed=0, max_envs=2)
    assert [one.success for one in played] == [True, False, True, False, True]
    assert success_rate(played) == pytest.approx(0.6)


def test_without_a_report_nothing_is_known():
    played = evaluate(still, "Pendulum-v1", episodes=2, seed=0)
    assert [one.success for one in played] == [None, None]
    assert success_rate(played) is None


def test_the_share_is_a_column_of_a_run(
    reporting: str, data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    run = off2on.train("td3_bc", "toy-pendulum", env=reporting, out=str(tmp_path), **SMALL)
    assert run.metrics["success"].tolist() == [0.5] * len(run.metrics)
    assert run.episodes["success"].tolist() == [1, 0, 1, 0] * len(run.metrics)
    assert run.evaluate(2, seed=1)["success"].tolist() == [False, True]
    assert "success  50%" in capfd.readouterr().err
