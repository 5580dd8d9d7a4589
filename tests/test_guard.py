"""The guard: what it decides, by hand, and that nothing but the serving policy collects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from off2on.errors import HyperparameterError, UserError
from off2on.training.guard import ACCEPT, ROLL_BACK, STOP, WAIT, Guard, GuardOptions
from off2on.training.plan import Plan
from off2on.training.train import train

HANDOVER = [100.0, 110.0, 90.0, 100.0]


def guard(**options: Any) -> Guard:
    return Guard(GuardOptions(**options), HANDOVER, "handover")


def shifted(*by: float) -> list[float]:
    return [before + more for before, more in zip(HANDOVER, by, strict=True)]


@pytest.mark.parametrize(
    ("apart", "decision", "lower"),
    [
        # Mean 5, standard error sqrt((4 + 1 + 1 + 4) / 3) / 2 = 0.9129, t(3) at 95 % 2.3534.
        ((7, 6, 4, 3), ACCEPT, 5 - 2.3534 * 0.9129),
        ((20, -10, 10, -8), WAIT, None),
        ((-1, -1, -1, -1), WAIT, -1.0),
        ((-30, -31, -29, -30), ROLL_BACK, None),
        ((-60, 60, -60, -60), WAIT, None),  # far below, but nobody knows
    ],
)
def test_decisions_by_hand(apart: tuple[float, ...], decision: str, lower: float | None):
    trial = guard().decide(500, "at-500", shifted(*apart), [])
    assert trial.decision == decision
    assert trial.serving == ("at-500" if decision == ACCEPT else "handover")
    if lower is not None:
        assert trial.lower == pytest.approx(lower, abs=1e-3)


def test_a_margin_lets_a_slightly_worse_policy_serve_only_if_it_is_the_best_so_far():
    careful = guard(margin=0.05)
    assert careful.decide(1, "a", shifted(2, 2, 2, 2), []).decision == ACCEPT
    assert careful.decide(2, "b", shifted(1, 1, 1, 1), []).decision == WAIT, "below the one that serves"
    assert careful.decide(3, "c", shifted(9, 9, 9, 9), []).decision == ACCEPT
    assert careful.serving == "c"
    assert careful.serving_returns == shifted(9, 9, 9, 9)
    assert careful.decide(4, "d", shifted(-15, -15, -15, -15), []).decision == ROLL_BACK, "24 below, limit 20"


def test_the_budget_counts_what_was_lost_and_not_what_varies():
    strict = guard(budget=0.5)  # fifty
    assert strict.decide(1, "a", shifted(-5, -5, -5, -5), [90.0, 110.0]).regret == 20
    assert strict.decide(2, "b", shifted(50, 50, 50, 50), [200.0]).regret == 20, "gains pay nothing back"
    trial = strict.decide(3, "c", shifted(0, 0, 0, 0), [69.0])
    assert (trial.regret, trial.decision) == (51, STOP)
    assert strict.has_stopped
    assert strict.serving == "b"


@given(st.lists(st.tuples(*[st.floats(-200, 200)] * 4), max_size=6))
def test_what_serves_has_never_been_shown_to_be_worse_and_is_remembered(trials: list[tuple[float, ...]]):
    ours = guard(margin=0.1)
    best = float(np.mean(HANDOVER))
    for number, apart in enumerate(trials):
        trial = ours.decide(number, f"at-{number}", shifted(*apart), [])
        if trial.decision == ACCEPT:
            assert np.mean(trial.returns) >= best
            best = float(np.mean(trial.returns))
        again = Guard.load(ours.dump())
        assert again == ours
        again.forget_after(number - 1)
        assert again.decisions == ours.decisions[:-1]


def test_its_settings_are_checked_and_it_needs_an_environment(data_root: Path):
    plan = Plan("bc", "toy-pendulum", online=100, guard={"margn": 1})
    with pytest.raises(HyperparameterError, match="margn"):
        plan.check()
    for wrong in (replace(plan, online=0, guard={}), replace(plan, data="wide", online=0, guard={})):
        with pytest.raises(UserError, match="the guard needs an online phase"):
            wrong.check()


@pytest.mark.slow
@pytest.mark.usefixtures("data_root")
def test_only_the_serving_policy_collects_and_a_collapsed_learner_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Step sizes that ruin most policies: the learner is rolled back, and collects nothing in between."""
    from off2on.rllib.algorithm import OfflineToOnline

    served: list[torch.Tensor] = []
    seen = torch.randn(50, 3)
    collect = OfflineToOnline._collect

    def watched(self: Any, steps: int) -> None:
        runner = self.env_runner_group.local_env_runner
        served.append(runner.module.policy(seen).detach().clone())
        collect(self, steps)

    monkeypatch.setattr(OfflineToOnline, "_collect", watched)
    plan = Plan(
        "iql",
        "toy-pendulum",
        {"hidden": (32, 32), "batch_size": 64},
        updates=1500,
        online=600,
        strategy="online_only",
        eval_every=200,
        eval_episodes=4,
        out=str(tmp_path),
        threads=1,
        online_overrides={"actor_lr": 1.0, "critic_lr": 1.0},
        guard={"collapse": 0.0, "confidence": 0.6},
    )
    folder = train(plan)
    kept = yaml.safe_load((folder / "guard.yaml").read_text())
    decisions = [trial["decision"] for trial in kept["trials"]]
    assert ROLL_BACK in decisions
    policies = dict.fromkeys(tuple(action.flatten().tolist()) for action in served)
    accepted = decisions[:-1].count(ACCEPT)  # after the last trial nothing is collected
    assert len(policies) == 1 + accepted, "another policy than an accepted one collected"
    assert len(served) > len(policies)
