"""Terminals in data without rewards above 0: ending early is the best for a learner, which is reported."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from datasets_io import Episode, Source
from datasets_io.diagnosis import Finding, diagnose_source


class Tank(Source):
    """Twenty batches of 30 steps with costs; every second one ends with an alarm after 10."""

    def __init__(self, at_alarm: float | None = None, shift: float = 0.0, terminated: bool = True) -> None:
        self.at_alarm, self.shift, self.terminated = at_alarm, shift, terminated

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for number in range(20):
            alarm = number % 2 == 1
            steps = 10 if alarm else 30
            rewards = rng.uniform(-3, -1, steps) + self.shift
            if alarm and self.at_alarm is not None:
                rewards[-1] = self.at_alarm
            obs, actions = rng.normal(size=(steps + 1, 2)), rng.uniform(-1, 1, (steps, 1))
            yield Episode(obs, actions, rewards, terminated=alarm and self.terminated)


def found(source: Tank) -> list[Finding]:
    diagnosis = diagnose_source(source, None, "tank", "off2on data add tank")
    return [finding for finding in diagnosis.findings if finding.check == "early end"]


def test_alarms_that_end_costs_are_reported() -> None:
    (finding,) = found(Tank())
    assert finding.severity == "warning"
    assert finding.what.startswith("10 of 20 episodes are terminated, and no reward is above 0: ")
    assert "a penalty below -20" in finding.do  # the mean of rewards is about -2, divided by 1 - 0.99
    assert "truncated" in finding.do
    assert finding.rows == (39, 79, 119, 159, 199)


@pytest.mark.parametrize("at_alarm", [-1000.0, 0.0], ids=["penalty", "goal"])
def test_a_penalty_and_a_goal_are_not_reported(at_alarm: float) -> None:
    assert found(Tank(at_alarm)) == []


def test_a_penalty_that_is_too_small_is_reported() -> None:
    (finding,) = found(Tank(-100.0))
    assert "a terminal costs 100 on average" in finding.what


def test_positive_rewards_and_cut_off_episodes_are_not_reported() -> None:
    assert found(Tank(shift=2.0)) == []
    assert found(Tank(terminated=False)) == []
