"""off2on in Python: training, loaded runs, evaluation, data sets, and a user's callbacks."""

import runpy
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

import off2on
from off2on.algorithms.iql import IQL
from off2on.commands.arguments import parse_checkpoint
from off2on.errors import HyperparameterError, SimulatorError, UnknownName, UserCodeError, UserError
from off2on.runs.folder import kept_policies
from off2on.runs.metadata import read_metadata
from off2on.training.command_line import make_plans
from off2on.training.evaluate import EvaluationEpisode

SMALL: dict[str, Any] = {
    "updates": 20, "eval_every": 20, "eval_episodes": 2, "threads": 1,
    "hyperparameters": {"hidden": (8, 8), "batch_size": 16},
}  # fmt: skip


class Watch(off2on.Callbacks):
    """Keeps what it is called with, and counts large actions."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.phases: list[str] = []
        self.handovers: list[tuple[int, int]] = []

    def on_update_block(self, algo: Any) -> None:
        self.blocks.append(algo.updates)

    def on_evaluation(
        self, algo: Any, phase: str, played: Sequence[EvaluationEpisode]
    ) -> Mapping[str, float]:
        self.phases.append(phase)
        return {"largest_action": max(float(np.abs(one.columns["actions"]).max()) for one in played)}

    def on_handover(self, algo: Any) -> None:
        self.handovers.append((algo.updates, algo.env_steps))


@pytest.fixture(scope="module")
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[off2on.LoadedRun, Watch]:
    """A run with an online phase, and the callbacks that it called."""
    watch, out = Watch(), str(tmp_path_factory.mktemp("api") / "runs")
    run = off2on.train(
        IQL,
        "toy-pendulum",
        online=20,
        online_overrides={"warm_up": 5},
        out=out,
        callbacks=watch,
        keep_policies=True,
        **SMALL,
    )
    return run, watch


def test_the_policy_of_each_evaluation_is_kept(trained: tuple[off2on.LoadedRun, Watch]):
    run, _ = trained
    rows = run.metrics[run.metrics["side"] != "handover"]
    names = [
        f"{row.updates:09.0f}" + f"-{row.env_steps:09.0f}" * (row.side == "online")
        for row in rows.itertuples()
    ]
    assert kept_policies(run.folder) == names
    for name, checkpoint in ((names[0], "handover"), (names[-1], "last")):
        kept, other = run.policy(name).state_dict(), run.policy(checkpoint).state_dict()
        assert all(torch.equal(kept[key], other[key]) for key in other)


@pytest.mark.parametrize(
    ("text", "name"),
    [("last", "last"), ("handover", "handover"), ("50k", "000050000"), ("60000-10k", "000060000-000010000")],
)
def test_a_kept_policy_is_named_by_updates_and_steps(text: str, name: str):
    assert parse_checkpoint(text) == name


@pytest.mark.parametrize("text", ["best", "", "5-", "1-2-3", "-5", "../x"])
def test_a_name_of_no_policy_is_refused(text: str):
    with pytest.raises(click.BadParameter, match="number of updates"):
        parse_checkpoint(text)


def test_a_run_has_metrics_and_episodes_as_frames(trained: tuple[off2on.LoadedRun, Watch]):
    run, _ = trained
    assert repr(run) == f"LoadedRun(folder={run.folder!r})"
    assert run.metrics["side"].tolist()[0] == "offline"
    assert {"handover", "online"} <= {*run.metrics["side"]}
    assert run.metrics["score"].dtype == float
    assert len(run.episodes) == 2 * len(run.metrics)
    assert run.metadata.algorithm == "off2on.algorithms.iql:IQL"
    assert all(figure.is_file() for figure in run.figures)


def test_callbacks_are_called_and_their_numbers_are_recorded(trained: tuple[off2on.LoadedRun, Watch]):
    run, watch = trained
    assert watch.phases == run.metrics["side"].tolist()
    assert watch.handovers == [(20, 0)]
    assert watch.blocks[0] > 0
    assert watch.blocks == sorted(watch.blocks)
    assert run.metrics["largest_action"].between(0, 2).all()


def test_a_run_from_a_source_has_its_settings_as_on_the_command_line(
    trained: tuple[off2on.LoadedRun, Watch], tmp_path: Path
):
    source, _ = trained
    plan = {"online": 10, "strategy": "append", "eval_every": 10, "eval_episodes": 1, "out": str(tmp_path)}
    run = off2on.train(source=source, **plan)
    command = ["--from", str(source.folder), "--online", "10", "--strategy", "append", "--out", str(tmp_path)]
    (expected,), _ = make_plans(
        [], {"source": str(source.folder), **plan, "out": str(tmp_path / "x")}, shlex.join(command)
    )
    for name in ("algorithm", "data", "updates", "seed", "learners", "env"):
        assert run.metadata.option(name).value == str(getattr(expected, name)), name
    assert run.metadata.option("updates").value == "20"
    assert run.metadata.hyperparameters["hidden"].value == [8, 8]
    assert run.metadata.hyperparameters["hidden"].origin == f"{source.folder}/run.yaml"
    assert {*run.metrics["side"]} == {"handover", "online"}
    with pytest.raises(UserError, match="was run with updates 20, not 30"):
        off2on.train(source=source.folder, updates=30, **plan | {"out": str(tmp_path / "y")})


def test_an_algorithm_and_data_are_expected(tmp_path: Path):
    with pytest.raises(UserError, match=r"(?s)^data is missing.*source.*off2on.train\("):
        off2on.train("iql", out=str(tmp_path))


CALLBACK = """
import off2on


class Mine(off2on.Callbacks):
    def on_update_block(self, algo):
        return [][algo.updates]

    def on_evaluation(self, algo, phase, played):
        return {"mine": 1 / 0}

    def on_handover(self, algo):
        raise RuntimeError("as the user wrote")
"""


@pytest.mark.parametrize(
    ("kept", "line", "what"),
    [
        ("on_update_block", 7, "IndexError: list index out of range"),
        ("on_evaluation", 10, "ZeroDivisionError: division by zero"),
        ("on_handover", 13, "RuntimeError: as the user wrote"),
    ],
)
def test_an_error_of_a_callback_is_the_users_and_names_its_line(
    kept: str, line: int, what: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "my_callbacks.py").write_text(CALLBACK)
    mine = runpy.run_path(str(tmp_path / "my_callbacks.py"))["Mine"]
    for name in {"on_update_block", "on_evaluation", "on_handover"} - {kept}:
        monkeypatch.setattr(mine, name, getattr(off2on.Callbacks, name))
    with pytest.raises(UserCodeError) as caught:
        off2on.train("iql", "toy-pendulum", online=5, out=str(tmp_path), callbacks=mine(), **SMALL)
    assert caught.value.exit_code == 2
    assert (caught.value.where, caught.value.what) == (f"{tmp_path}/my_callbacks.py:{line}", what)
    (run,) = tmp_path.glob("*/*/run.yaml")
    assert read_metadata(run.parent).status == "failed"
    assert f'my_callbacks.py", line {line}' in (run.parent / "log.txt").read_text()


def test_the_policy_and_the_values_are_those_of_the_networks(trained: tuple[off2on.LoadedRun, Watch]):
    run, _ = trained
    obs, actions = np.float32([[1, 0, 0.5], [0, 1, -1]]), np.float32([[0.5], [-2]])
    assert run.policy()(torch.from_numpy(obs)).shape == (2, 1)
    values = run.q(obs, actions)
    assert values.shape == (2, 2)  # two critics
    from off2on.rllib.module import policy_from_checkpoint

    policy = policy_from_checkpoint(run.folder / "checkpoints/last")
    scaled = torch.from_numpy((obs - policy.obs_mean.numpy()) / policy.obs_std.numpy())
    expected = policy.nets.critic(scaled, torch.from_numpy(actions) / 2).detach()
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_array_equal(run.q(obs.astype(np.float64), actions.astype(np.float64)), values)
    with pytest.raises(UnknownName, match="no checkpoint 'best'"):
        run.q(obs, actions, checkpoint="best")


def test_evaluations_repeat_the_recorded_score(trained: tuple[off2on.LoadedRun, Watch]):
    run, _ = trained
    recorded = run.episodes.query("side == 'handover'")
    again = run.evaluate(2, checkpoint="handover", seed=int(recorded["seed"].iloc[0]))
    np.testing.assert_allclose(again["return"], recorded["return"], rtol=1e-5)
    assert again.columns.tolist() == ["return", "length", "seed", "success"]


def test_a_function_is_evaluated_like_a_policy():
    found = off2on.evaluate(lambda obs: np.zeros((len(obs), 1), np.float32), "Pendulum-v1", 2, seed=3)
    assert found["seed"].tolist() == [3, 4]
    assert (found["length"] == 200).all()
    assert (found["return"] < 0).all()


def test_what_is_wrong_is_said_before_anything_starts(data_root: Path, tmp_path: Path):
    with pytest.raises(UnknownName, match="no option 'update'") as error:
        off2on.train("iql", "toy-pendulum", update=5)
    assert "updates" in str(error.value)
    with pytest.raises(HyperparameterError, match="expctile"):
        off2on.train("iql", "toy-pendulum", hyperparameters={"expctile": 0.9}, out=str(tmp_path))
    with pytest.raises(UnknownName):
        off2on.load_run(tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("numbers", "message"), [({"score": 1.0}, "already"), ({"mine": "x"}, "a number")])
def test_numbers_that_cannot_be_recorded_are_refused(
    numbers: dict[str, Any], message: str, data_root: Path, tmp_path: Path
):
    class Wrong(off2on.Callbacks):
        def on_evaluation(self, algo: Any, phase: str, played: Any) -> Mapping[str, float]:
            return numbers

    with pytest.raises(UserError, match=message):
        off2on.train("bc", "toy-pendulum", out=str(tmp_path), callbacks=Wrong(), **SMALL)


def test_a_run_without_environment_is_not_evaluated(trained: tuple[off2on.LoadedRun, Watch]):
    import dataclasses

    run, _ = trained
    without = dataclasses.replace(run, metadata=dataclasses.replace(run.metadata, env=None))
    with pytest.raises(SimulatorError, match="has no simulator"):
        without.evaluate()


def test_data_sets_open_by_name(data_root: Path):
    assert off2on.open_dataset("toy-pendulum").name == "toy-pendulum"


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        off2on.trian  # noqa: B018
