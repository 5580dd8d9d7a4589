"""A guarded run that stopped at any point and is resumed is the run that did not stop."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from datasets_io.errors import Corrupt
from off2on.errors import UserCodeError
from off2on.policy import load_policy
from off2on.runs.folder import Run
from off2on.runs.guard_file import GuardDecision
from off2on.training.callbacks import Callbacks
from off2on.training.guard import ACCEPT, ROLL_BACK, WAIT, Guard
from off2on.training.plan import Plan
from off2on.training.train import evaluations, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("data_root")]

PLAN = Plan(
    "iql",
    "toy-pendulum",
    {"hidden": (16, 16), "batch_size": 32},
    updates=50,
    online=100,
    strategy="append",
    eval_every=100,
    eval_episodes=2,
    threads=1,
    guard={},
)
EXPANSION = {"strategy": "policy_expansion", "online_overrides": {"warm_up": 0, "actor_lr": 0.01}}


def decided(folder: Path) -> Any:
    return yaml.safe_load((folder / "guard.yaml").read_text())


def force(patch: pytest.MonkeyPatch, wanted: str, stop_at: int | None = None) -> None:
    """Let every test have the same outcome, and end the process before one of them (counted from 1)."""
    decide, calls = Guard.decide, []

    def forced(self: Guard, env_steps: int, name: str, *returns: Any) -> GuardDecision:
        calls.append(name)
        if len(calls) == stop_at:
            raise OSError("the plug was pulled")
        serving = name if wanted == ACCEPT else self.serving
        outcome = decide(self, env_steps, name, *returns)
        self.decisions[-1] = replace(outcome, decision=wanted, serving=serving)
        return self.decisions[-1]

    patch.setattr(Guard, "decide", forced)


class StopsAt(Callbacks):
    """Presses Ctrl-C after a number of environment steps."""

    def __init__(self, env_steps: int) -> None:
        self.env_steps = env_steps

    def on_update_block(self, algo: Any) -> None:
        if algo.env_steps == self.env_steps:
            signal.raise_signal(signal.SIGINT)


class WatchesKept(Callbacks):
    """Notes whether learner and runner hold the policy of the handover."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_update_block(self, algo: Any) -> None:
        if algo.is_online:
            held = algo.call_learners(lambda learner: bool(learner.nets.kept.is_held))
            runner = algo.env_runner_group.local_env_runner
            self.seen += [*held, bool(runner.module.policy.nets.kept.is_held)]


def test_episodes_before_a_stop_count_in_the_next_test(tmp_path: Path):
    plan = replace(PLAN, online=250, eval_every=250)  # tests after 1 and 250 steps
    through = train(replace(plan, out=str(tmp_path / "through")))
    again = replace(plan, out=str(tmp_path / "again"))
    with pytest.raises(KeyboardInterrupt):
        train(again, callbacks=StopsAt(201))  # the first episode had 200 steps
    resumed = train(again, resume=True)
    assert [len(trial["collected"]) for trial in decided(through)["trials"]] == [0, 1]
    assert decided(resumed) == decided(through)


@pytest.mark.parametrize(
    ("decision", "stop_at", "options"),
    [
        (WAIT, 1, {"strategy": "balanced"}),
        (WAIT, 2, {"strategy": "balanced"}),
        (ROLL_BACK, 1, EXPANSION),
        (ROLL_BACK, 2, EXPANSION),
        (ACCEPT, 2, {}),
    ],
    ids=[
        "before the first checkpoint",
        "while the handover serves",
        "expanded at first",
        "expanded",
        "while another policy serves",
    ],
)
def test_a_run_that_died_before_a_test_goes_on_as_the_one_that_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: str, stop_at: int, options: dict[str, Any]
):
    plan = replace(PLAN, **options)
    with monkeypatch.context() as patch:
        force(patch, decision)
        through = train(replace(plan, out=str(tmp_path / "through")))
    again = replace(plan, out=str(tmp_path / "again"))
    force(monkeypatch, decision, stop_at)
    with pytest.raises(UserCodeError, match="plug"):  # code of this file counts as the user's
        train(again)
    resumed = train(again, resume=True)
    assert len(decided(resumed)["trials"]) == 2
    assert decided(resumed) == decided(through)
    assert (decided(resumed)["trials"][0]["serving"] != "handover") == (decision == ACCEPT)
    policies = [load_policy(folder / "policy.pt") for folder in (through, resumed)]
    obs = torch.randn(20, 3)
    assert torch.equal(policies[0](obs), policies[1](obs))


def test_a_roll_back_to_the_handover_keeps_the_policy_of_the_handover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its checkpoint was written before the policy was stored as the one to choose from."""
    force(monkeypatch, ROLL_BACK)
    watch = WatchesKept()
    train(replace(PLAN, out=str(tmp_path), **EXPANSION), callbacks=watch)
    assert watch.seen
    assert all(watch.seen)


def test_the_policy_of_a_decision_without_a_checkpoint_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan, save = replace(PLAN, out=str(tmp_path), eval_every=50), Run.save_policy
    force(monkeypatch, ACCEPT)
    acted: list[torch.Tensor] = []
    obs = torch.randn(20, 3)

    def dies_at_the_second_test(self: Run, policy: Any) -> None:
        save(self, policy)
        acted.append(load_policy(self.folder / "policy.pt")(obs))
        if len(acted) == 3:  # after those of the handover and of the first test
            raise OSError("the plug was pulled")

    monkeypatch.setattr(Run, "save_policy", dies_at_the_second_test)
    with pytest.raises(UserCodeError, match="plug"):
        train(plan)
    resumed = evaluations(plan, resume=True)
    run = next(resumed)
    served = load_policy(run.folder / "policy.pt")(obs)
    resumed.close()
    assert torch.equal(served, acted[1])
    assert not torch.equal(served, acted[2])


def test_a_damaged_checkpoint_of_the_serving_policy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan = replace(PLAN, out=str(tmp_path))
    force(monkeypatch, WAIT, stop_at=2)
    with pytest.raises(UserCodeError, match="plug"):
        train(plan)
    for part in (plan.folder / "checkpoints" / "handover" / "learner_group").rglob("*state*.pkl"):
        part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(Corrupt, match="handover cannot be restored"):
        train(plan, resume=True)
