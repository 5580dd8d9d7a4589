"""Runs whose offline updates are one program are runs as any other."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch
import yaml
from click.testing import CliRunner

from off2on.commands.train import train as command
from off2on.errors import Diverged, UserError
from off2on.policy import load_policy
from off2on.replay.offline_rows import OfflineRows
from off2on.rllib.learner import RecipeLearner
from off2on.runs.folder import Run
from off2on.training.batched_seeds import BatchedRuns, check, train_together
from off2on.training.plan import Plan
from off2on.training.process import StopRequest
from off2on.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("data_root")]
SMALL = {"hidden": (16, 16), "batch_size": 16}
TIMED = ("wall_s", "updates_per_s")


def plans(out: Path, count: int = 2, **said: Any) -> list[Plan]:
    always = {"algorithm": "iql", "data": "toy-pendulum", "hyperparameters": SMALL, "threads": 1}
    first = Plan(**{**always, "updates": 20, "eval_every": 10, "eval_episodes": 1, "out": str(out)} | said)
    return [replace(first, seed=seed) for seed in range(count)]


def metrics(plan: Plan) -> list[dict[str, str]]:
    with (plan.folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def numbers(plan: Plan) -> list[list[float]]:
    return [[float(value) for value in list(row.values())[1:] if value] for row in metrics(plan)]


def files(plan: Plan) -> set[str]:
    return {path.name for path in plan.folder.iterdir() if not path.name.startswith("events.out")}


class Stops(StopRequest):
    """Asked to stop, once it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_requested(self) -> bool:  # type: ignore[override]
        self.looks -= 1
        return self.looks < 0


@pytest.fixture(scope="module")
def together(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    """Two runs that were."""
    both = plans(tmp_path_factory.mktemp("together"))
    train_together(both)
    return both


def test_each_run_is_the_one_it_would_be_alone(together: list[Plan], tmp_path: Path):
    alone = plans(tmp_path)
    obs = torch.randn(20, 3)
    for mine, its in zip(together, alone, strict=True):
        train(its)
        assert {path.name for path in mine.folder.iterdir()} - {
            path.name for path in its.folder.iterdir()
        } == {path.name for path in mine.folder.iterdir() if path.name.startswith("events.out")}
        assert [row["side"] for row in metrics(mine)] == ["offline"] * 2
        for found, expected in zip(numbers(mine), numbers(its), strict=True):
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
        for name in ("policy.pt", "checkpoints/handover/policy.pt"):
            policies = [load_policy(plan.folder / name)(obs) for plan in (mine, its)]
            torch.testing.assert_close(*policies, rtol=1e-3, atol=1e-4)
        metadata = yaml.safe_load((mine.folder / "run.yaml").read_text())
        assert (metadata["status"], metadata["seed"], metadata["together"]) == ("finished", mine.seed, [0, 1])
    assert numbers(together[0]) != numbers(together[1])


def test_their_handovers_can_be_started_from(together: list[Plan], tmp_path: Path):
    _, second = together
    folder = train(replace(second, source=str(second.folder), online=10, out=str(tmp_path)))
    rows = Run.resume(folder).metrics
    assert [row["side"] for row in rows] == ["handover", "online", "online"]
    assert rows[0]["score"] == Run.resume(second.folder).metrics[-1]["score"]


@pytest.mark.parametrize(("every", "looks"), [(450, 2), (150, 1)], ids=["in an interval", "between two"])
def test_all_stop_at_the_same_update_and_go_on_as_if_they_had_not(tmp_path: Path, every: int, looks: int):
    said = {"updates": 450, "eval_every": every, "algorithm": "bc", "data": "wide"}  # which has no simulator
    stopped, whole = (plans(tmp_path / name, **said) for name in ("stopped", "whole"))
    train_together(whole)
    with BatchedRuns(stopped, False, io.StringIO(), Stops(looks)) as runs, pytest.raises(KeyboardInterrupt):
        runs.train()
    kept = [Run.resume(plan.folder) for plan in stopped]
    assert {run.metadata["status"] for run in kept} == {"interrupted"}
    places = {run.last_checkpoint.name for run in kept if run.last_checkpoint}
    assert places == {"000000400" if every == 450 else "000000150"}
    train_together(stopped, resume=True)
    assert [metrics(plan) for plan in stopped] == [metrics(plan) for plan in whole]


def test_finished_runs_stay_as_they_are(tmp_path: Path):
    first, second = plans(tmp_path, updates=10, data="wide")
    train(first)
    before = (first.folder / "run.yaml").read_bytes()
    train_together([first, second], resume=True)
    assert (first.folder / "run.yaml").read_bytes() == before
    assert len(metrics(second)) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("iql", "toy-pendulum"), "--seeds 4 --together"),
        (("iql", "toy-pendulum", "--seeds", "2", "--online", "10"), "off2on train --from"),
        (("iql", "toy-pendulum", "--seeds", "2", "--learners", "1"), "--learners 0"),
        (("mopo", "toy-pendulum", "--seeds", "2", "termination=never"), "first stage (dynamics)"),
    ],
)
def test_what_cannot_go_together_is_refused(tmp_path: Path, words: tuple[str, ...], told: str):
    result = CliRunner().invoke(command, [*words, "--together", "--out", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert told in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_data_that_stream_are_refused(tmp_path: Path):
    streaming = plans(tmp_path, memory=2**20)
    checked = streaming[0].check()
    check(streaming, checked)
    small = [replace(plan, memory=2**20 // 16) for plan in streaming]
    with pytest.raises(UserError, match="exceed the memory budget"):
        check(small, checked)


def test_what_a_run_reads_is_dropped_before_the_next_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held: list[ReferenceType[OfflineRows]] = []
    counts: list[int] = []

    def read(*args: Any, **given: Any) -> OfflineRows:
        counts.append(sum(one() is not None for one in held))
        rows = OfflineRows(*args, **given)
        held.append(ref(rows))
        return rows

    monkeypatch.setattr("off2on.rllib.learner.OfflineRows", read)
    three = plans(tmp_path, 3, algorithm="bc", data="wide")
    with BatchedRuns(three, False, io.StringIO(), StopRequest()) as runs:
        for iterator in runs.iterators:
            next(iterator)
    assert counts == [0, 1, 1]


def test_a_run_that_diverges_behind_the_others_leaves_them_one_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, *others = three = plans(tmp_path, 3, algorithm="bc", data="wide")
    with BatchedRuns(others, False, io.StringIO(), Stops(1)) as runs, pytest.raises(KeyboardInterrupt):
        runs.train()
    advance = RecipeLearner.advance

    def diverging(self: RecipeLearner, updates: int) -> dict[str, float]:
        if self.config.seed == first.seed:
            raise Diverged("it diverged.", "actor", 1)
        return advance(self, updates)

    monkeypatch.setattr(RecipeLearner, "advance", diverging)
    with BatchedRuns(three, True, io.StringIO(), StopRequest()) as runs:
        runs.train()
    assert [error.update for error in runs.diverged] == [1]
    assert runs.batched is not None
    assert runs.batched.updates == 20
