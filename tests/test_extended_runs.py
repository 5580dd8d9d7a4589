"""A run that is resumed with more updates than it was first planned for."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import off2on
from off2on.errors import UserError
from off2on.training.batched_seeds import train_together
from off2on.training.command_line import make_plans
from off2on.training.plan import Plan

SMALL: dict[str, Any] = {
    "eval_every": 20, "eval_episodes": 1, "threads": 1,
    "hyperparameters": {"hidden": (8, 8), "batch_size": 16},
}  # fmt: skip


def train(out: Path, updates: int, algorithm: str = "td3_bc", **more: Any) -> off2on.LoadedRun:
    return off2on.train(algorithm, "toy-pendulum", updates=updates, out=str(out), **SMALL | more)


def scores(run: off2on.LoadedRun) -> list[tuple[float, ...]]:
    """Updates, score and losses of every evaluation."""
    losses = [name for name in run.metrics if name.endswith("/loss")]
    return [tuple(row) for row in run.metrics[["updates", "score", "q", *losses]].to_numpy()]


def test_an_extended_run_is_the_one_that_was_planned_so(tmp_path: Path, data_root: Path) -> None:
    train(tmp_path / "a", 20)
    extended = train(tmp_path / "a", 40, resume=True)
    whole = train(tmp_path / "b", 40)
    assert scores(extended) == scores(whole)
    assert [row[0] for row in scores(extended)] == [20, 40]
    obs = torch.randn(9, 3)
    for name in ("last", "handover"):
        assert torch.equal(extended.policy(name)(obs), whole.policy(name)(obs)), name
    assert extended.metadata.updates == 40
    assert extended.metadata.extended_at == [20]
    assert whole.metadata.extended_at == []


def test_an_online_run_starts_from_the_handover_of_the_extended_run(tmp_path: Path, data_root: Path) -> None:
    train(tmp_path, 20)
    train(tmp_path, 40, resume=True)
    source = train(tmp_path, 60, resume=True)
    assert source.metadata.extended_at == [20, 40]
    online = off2on.train(source=source, online=5, eval_episodes=1, out=str(tmp_path / "online"))
    assert online.metrics["updates"].tolist()[0] == 60


def test_a_schedule_over_the_planned_updates_is_not_extended(tmp_path: Path, data_root: Path) -> None:
    train(tmp_path, 20, "iql")
    with pytest.raises(UserError, match=r"(?s)cannot continue to 40.*actor_decay=True depends on how many"):
        train(tmp_path, 40, "iql", resume=True)


def test_after_the_handover_no_phase_is_extended(tmp_path: Path, data_root: Path) -> None:
    run = train(tmp_path, 20, online=5)
    with pytest.raises(UserError, match="was run with online 5, not 50") as caught:
        train(tmp_path, 20, online=50, resume=True)
    assert f"replace --resume by --from {run.folder} --out OTHER" in caught.value.expected
    with pytest.raises(UserError, match="cannot continue to 40 updates: its online phase has begun"):
        train(tmp_path, 40, online=5, resume=True)


class Interrupt(off2on.Callbacks):
    """Interrupts a run at its first evaluation of a phase."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def on_evaluation(self, algo: Any, phase: str, played: Any) -> dict[str, float]:
        if phase == self.phase and algo.updates > 20:
            raise KeyboardInterrupt
        return {}


def test_while_a_run_is_extended_it_has_no_handover(tmp_path: Path, data_root: Path) -> None:
    run = train(tmp_path, 20)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 40, resume=True, callbacks=Interrupt("offline"))
    with pytest.raises(UserError, match="no handover to start from"):
        off2on.train(source=run.folder, online=5, out=str(tmp_path / "online"))
    plan = Plan("td3_bc", "toy-pendulum", updates=40, out=str(tmp_path))
    assert not plan.is_finished
    train(tmp_path, 40, resume=True)
    assert plan.is_finished
    assert not dataclasses.replace(plan, updates=60).is_finished


def test_an_online_run_goes_on_after_its_source_was_extended(tmp_path: Path, data_root: Path) -> None:
    source = train(tmp_path, 20)
    online = {"online": 40, "eval_every": 20, "eval_episodes": 1, "out": str(tmp_path / "online")}
    online |= {"online_overrides": {"rollout": 10, "warm_up": 0}}
    with pytest.raises(KeyboardInterrupt):
        off2on.train(source=source, callbacks=Interrupt("online"), **online)
    train(tmp_path, 40, resume=True)
    with pytest.raises(UserError, match=r"(?s)online phase has begun.*--updates 20 it continues"):
        off2on.train(source=source.folder, resume=True, **online)
    run = off2on.train(source=source.folder, resume=True, updates=20, **online)
    assert run.metrics["env_steps"].tolist()[-1] == 40


def test_fewer_updates_are_refused(tmp_path: Path, data_root: Path) -> None:
    train(tmp_path, 20)
    with pytest.raises(UserError, match="was run with updates 20, not 10"):
        train(tmp_path, 10, resume=True)


def test_a_run_killed_between_its_two_tables_repeats_no_episode(tmp_path: Path, data_root: Path) -> None:
    """episodes.csv is written first; a kill at the first evaluation may leave it alone."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 60, callbacks=Interrupt("offline"))
    folder = tmp_path / "toy-pendulum/td3_bc-s0"
    shutil.rmtree(folder / "checkpoints")
    (folder / "metrics.csv").unlink()
    episodes = train(tmp_path, 60, resume=True).episodes
    assert episodes["updates"].tolist() == [20, 40, 60]


def test_seeds_trained_together_are_extended_together(tmp_path: Path, data_root: Path) -> None:
    for updates, resume in ((20, False), (40, True)):
        options = SMALL | {"updates": updates, "out": str(tmp_path)}
        words = ["td3_bc", "toy-pendulum", "hidden=8,8", "batch_size=16"]
        del options["hyperparameters"]
        plans, _ = make_plans(words, options, "off2on train", 2, resume)
        assert train_together(plans, resume) == []
    for plan in plans:
        run = off2on.load_run(plan.folder)
        assert run.metrics["updates"].tolist() == [20, 40]
        assert run.metadata.status == "finished"
