"""What a run.yaml names: no module is imported for it, and its data and environment are checked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from datasets_io import Shards
from datasets_io.errors import Corrupt, UnknownName
from off2on.errors import SimulatorError, UserError
from off2on.rllib.evaluation import _play
from off2on.runs.metadata import RunMetadata
from off2on.training.evaluate import check_policy, check_simulator, evaluate


def metadata(**fields: Any) -> RunMetadata:
    plain: dict[str, Any] = {"algorithm": "iql", "data": {"name": "x"}, "seed": 0, "plan": {}} | fields
    from pydantic import TypeAdapter

    return TypeAdapter(RunMetadata).validate_python(plain)


def test_no_module_is_imported_because_a_file_names_it():
    assert metadata(env="Pendulum-v1").known_env() == "Pendulum-v1"
    assert metadata(env="off2on.simulators:off2on/X-v0").known_env() is not None
    assert metadata(algorithm="off2on.algorithms.iql:IQL").known_algorithm() == "off2on.algorithms.iql:IQL"
    with pytest.raises(SimulatorError, match="evil_module"):
        metadata(env="evil_module:X-v0").known_env()
    with pytest.raises(UserError, match="evil_module"):
        metadata(algorithm="evil_module:Class").known_algorithm()


def test_the_training_data_are_those_that_the_run_was_trained_on(
    toy: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path))
    data = {"name": "toy", "pinned": toy.pinned, "content_hash": toy.manifest.content_hash}
    assert metadata(data=data).training_data().rows == toy.rows
    for changed, kind in (({"content_hash": "0"}, Corrupt), ({"pinned": "gone@0-0"}, UnknownName)):
        with pytest.raises(kind):
            metadata(data=data | changed).training_data()
    for lacks in ("pinned", "content_hash"):
        with pytest.raises(Corrupt, match=lacks):
            metadata(data={name: value for name, value in data.items() if name != lacks}).training_data()


class Broken(gym.Env[Any, Any]):
    """An environment whose parts raise on request."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, where: str = "init") -> None:
        self.where = where
        self._raise("init")

    def _raise(self, where: str) -> None:
        if self.where == where:
            raise FileNotFoundError("no licence\nat /opt/sim.lic")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._raise("reset")
        return np.zeros(3, np.float32), {}

    def step(self, _: Any) -> Any:
        self._raise("step")
        return np.zeros(3, np.float32), 0.0, True, False, {}


class Several(Broken):
    """An environment whose actions are several choices at once."""

    action_space = gym.spaces.MultiDiscrete([3])

    def __init__(self) -> None:
        super().__init__("")


gym.register("off2on/Broken-v0", Broken)
gym.register("off2on/Several-v0", Several)
BROKEN = "off2on/Broken-v0"


def zeros(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.zeros((len(obs), 1), np.float32)


@pytest.mark.parametrize("where", ["init", "reset", "step"])
def test_an_error_of_an_environment_names_it(where: str):
    with pytest.raises(SimulatorError, match=r"Broken-v0 raised FileNotFoundError: at /opt/sim\.lic"):
        evaluate(zeros, BROKEN, episodes=1, seed=0, options={"where": where})


def test_an_evaluation_ends_if_an_episode_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets_io.environments.MOST_STEPS", 20)
    for options, steps in (({}, 200), ({"max_episode_steps": 5}, 5)):  # a declared limit may be higher
        (episode,) = evaluate(zeros, "Pendulum-v1", episodes=1, seed=0, options=options)
        assert episode.length == steps
    endless = {"max_episode_steps": -1}
    with pytest.raises(SimulatorError, match="of Pendulum-v1 has not ended after 20 steps"):
        evaluate(zeros, "Pendulum-v1", episodes=2, seed=0, options=endless)
    config = SimpleNamespace(env="Pendulum-v1", env_config=endless, seed=0)

    def policy(obs: torch.Tensor, explore: bool) -> torch.Tensor:
        return torch.zeros(len(obs), 1)

    with pytest.raises(SimulatorError, match="of Pendulum-v1 has not ended after 20 steps"):
        _play(config, policy, 1, explore=False)  # type: ignore[arg-type]


def test_an_environment_that_cannot_be_made_or_does_not_fit_is_refused():
    space = Broken.observation_space
    with pytest.raises(SimulatorError, match="FileNotFoundError"):
        check_simulator(BROKEN, space, Broken.action_space, "data")
    check_policy(zeros, BROKEN, {"where": ""})
    for env, options in ((BROKEN, {}), (BROKEN, {"nope": 1}), ("Gone-v0", {}), ("no_module:X-v0", {})):
        with pytest.raises(SimulatorError, match=env.rpartition(":")[2]):
            check_policy(zeros, env, options)
    with pytest.raises(SimulatorError, match="actions of CartPole"):
        check_policy(zeros, "CartPole-v1")
    with pytest.raises(SimulatorError, match="actions of off2on/Several-v0, MultiDiscrete"):
        check_policy(zeros, "off2on/Several-v0")
    with pytest.raises(SimulatorError, match=r"has actions in MultiDiscrete\(\[3\]\)"):
        check_simulator("off2on/Several-v0", space, Broken.action_space, "data")

    def narrow(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise RuntimeError("expected 2 columns")

    with pytest.raises(SimulatorError, match="observations of"):
        check_policy(narrow, BROKEN, {"where": ""})
