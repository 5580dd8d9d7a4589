"""The scores of a run before and after the handover: drop, recovery, regret."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from off2on.runs.numbers import short
from off2on.runs.statistics import FloatArray

EARLY = 0.2
"""Share of the online steps in which a drop is looked for."""

RUNNING = 3
"""Evaluations in the running mean that decides whether a drop is recovered."""


def drop(handover: float, steps: FloatArray, scores: FloatArray, window: float) -> float:
    """Return the score at the handover minus the lowest score in a window of steps; at least 0."""
    return max(0.0, handover - float(scores[steps <= window].min(initial=np.inf)))


def recovered(handover: float, steps: FloatArray, scores: FloatArray, window: float) -> int | None:
    """Return the first step at which the mean of three consecutive evaluations reaches the handover's score.

    The three begin at the lowest evaluation of the drop or later; the step is that of the last of them. 0 if
    there was no drop, None if it has not recovered by the last evaluation.
    """
    if drop(handover, steps, scores, window) == 0:
        return 0
    lowest = int(scores[steps <= window].argmin())
    if len(scores) < lowest + RUNNING:
        return None
    means = np.convolve(scores[lowest:], np.ones(RUNNING) / RUNNING, "valid")
    back = np.flatnonzero(means >= handover)
    return int(steps[lowest + RUNNING - 1 + back[0]]) if len(back) else None


def regret(handover: float, steps: FloatArray, scores: FloatArray) -> float:
    """Return the score lost per online step: the mean gap below the level of the handover."""
    if len(steps) < 2:
        return 0.0
    left, right = handover - scores[:-1], handover - scores[1:]
    most, least = np.maximum(left, right), np.minimum(left, right)
    # Of a segment that crosses the level only the triangle below it counts.
    below = np.where(least >= 0, (left + right) / 2, 0.0)
    crossing = (most > 0) & (least < 0)
    below[crossing] = most[crossing] ** 2 / (2 * (most - least)[crossing])
    return float((below * np.diff(steps)).sum() / (steps[-1] - steps[0]))


@dataclass(frozen=True)
class Curve:
    """The scores of one run before and after the handover.

    Attributes:
        updates: Gradient updates at each offline evaluation [N].
        offline: Scores there [N]; the last one is the score at the end of the offline phase.
        steps: Environment steps at each evaluation from the handover on [M]; the first is 0.
        online: Scores there [M]; empty without an online phase.
        planned: Online steps that were requested.
        warm_up: Online steps before the first online update.
        in_service: Score of the policy that a guard left in service; None without one.
    """

    updates: FloatArray
    offline: FloatArray
    steps: FloatArray
    online: FloatArray
    planned: int
    warm_up: int = 0
    in_service: float | None = None

    def __post_init__(self) -> None:
        if not len(self.offline) + len(self.online):
            raise ValueError("a curve needs at least one evaluation")

    @property
    def went_online(self) -> bool:
        """True if there is an online phase."""
        return len(self.online) > 0

    @property
    def after(self) -> float | None:
        """The score right after the handover, before any online step."""
        return float(self.online[0]) if self.went_online else None

    @property
    def handover(self) -> float:
        """The score at the end of the offline phase.

        A change of the score by the handover itself therefore belongs to the drop. A run that starts from
        the handover of another one may only have the score right after it.
        """
        return float(self.offline[-1] if len(self.offline) else self.online[0])

    @property
    def scores(self) -> FloatArray:
        """The scores of the last phase."""
        return self.online if self.went_online else self.offline

    @property
    def final(self) -> float:
        """The score of the policy that the run leaves: the last one, or that of a guard's policy in service.

        A guard's last evaluation tests a policy that it may have refused.
        """
        return float(self.scores[-1]) if self.in_service is None else self.in_service

    @property
    def window(self) -> float:
        """Number of steps in which a drop is looked for: the warm-up and 20 % of the planned steps."""
        return self.warm_up + EARLY * self.planned

    @cached_property
    def drop(self) -> float | None:
        """The drop, see `drop`; None without an online phase."""
        return drop(self.handover, self.steps, self.online, self.window) if self.went_online else None

    @cached_property
    def recovered(self) -> int | None:
        """The recovery step, see `recovered`."""
        return recovered(self.handover, self.steps, self.online, self.window) if self.went_online else None

    @cached_property
    def area(self) -> float | None:
        """The mean score over the online steps, by trapezoids; None without an online phase."""
        if not self.went_online:
            return None
        if len(self.steps) < 2:
            return float(self.online[0])
        return float(np.trapezoid(self.online, self.steps) / (self.steps[-1] - self.steps[0]))

    @cached_property
    def regret(self) -> float | None:
        """The regret, see `regret`; None without an online phase."""
        return regret(self.handover, self.steps, self.online) if self.went_online else None


def recovery(curves: Sequence[Curve]) -> str:
    """Return in words when the drop was recovered: the median over the seeds, not yet counting as latest."""
    back = sorted(np.inf if curve.recovered is None else curve.recovered for curve in curves)
    middle = float(back[len(back) // 2])
    if middle == np.inf:
        reached = short(max(float(curve.steps[-1]) for curve in curves))
        return f"not recovered in {reached} steps"
    return f"recovered after {short(middle)} steps"
