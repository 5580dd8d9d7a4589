"""A trial that continues from another one's run: a kill at any time leaves a run that can be resumed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from searches import OFFLINE, made

from off2on.runs.folder import Run
from off2on.runs.record import runs_below
from off2on.search import trial
from off2on.training.plan import Plan


@pytest.fixture
def plan(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of a run that has a checkpoint."""
    monkeypatch.chdir(tmp_path)
    (found,) = made(OFFLINE).plans({"expectile": "0.7", "actor_lr": "1e-3"}, "000")
    write_run(found.folder, "000020")
    return found


def write_run(folder: Path, checkpoint: str) -> Path:
    run = Run.create(folder)
    run.describe({"status": "running", "seed": 0, "algorithm": "iql", "data": {"name": "toy"}, "plan": {}})
    run.record({"side": "offline", "updates": int(checkpoint), "env_steps": 0, "score": 1.0}, [])
    run.checkpoint(checkpoint, lambda to: (Path(to) / "learner").mkdir(parents=True))
    return folder


def donor(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "donor", "000040")
    (folder / "checkpoints/last").unlink()  # it is copied without links
    return folder


def resumed(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run as a search that is resumed takes it up."""

    def evaluations(plan: Plan, resume: bool) -> Iterator[Run]:
        assert resume
        yield Run.resume(plan.folder)

    monkeypatch.setattr(trial, "evaluations", evaluations)
    trainable: Any = SimpleNamespace(runs=[], going=[])
    trial.TrialTrainable._take_up(trainable, plan)
    return trainable.runs[0]


def test_a_run_is_replaced_by_a_copy(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial._take_over(plan, donor(tmp_path), "001", "000040")
    run = resumed(plan, monkeypatch)
    assert run.last_checkpoint == run.checkpoints / "000040"
    assert run.metadata["not_made"]["updates"] == 20
    assert [path.name for path in plan.folder.parent.iterdir()] == [plan.folder.name]


def test_a_kill_while_the_replaced_run_is_removed(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(path: Path, **options: Any) -> None:
        if (path / "run.yaml").exists():
            remove(path / "checkpoints/000020")
            raise KeyboardInterrupt

    source = donor(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            trial._take_over(plan, source, "001", "000040")
    assert runs_below(plan.folder.parent) == [plan.folder]
    run = resumed(plan, monkeypatch)
    assert run.last_checkpoint == run.checkpoints / "000040"
    assert not list(plan.folder.parent.glob("*.old.partial"))


@pytest.mark.parametrize("again", [False, True])
def test_a_kill_before_the_copy_is_in_place(
    again: bool, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def killed(path: Path, target: Path) -> None:
        if target == plan.folder:
            raise KeyboardInterrupt
        rename(path, target)

    source = donor(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            trial._take_over(plan, source, "001", "000040")
    assert not plan.folder.exists()
    if again:
        trial._take_over(plan, source, "001", "000040")
    run = resumed(plan, monkeypatch)
    assert run.last_checkpoint == run.checkpoints / ("000040" if again else "000020")
    assert run.metadata.get("not_made", {}).get("updates") == (20 if again else None)
