"""One run's scores on both sides of the handover, and what they say about it."""

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
    """The handover's score less the lowest in the steps of a window, never negative."""
    return max(0.0, handover - float(scores[steps <= window].min(initial=np.inf)))


def recovered(handover: float, steps: FloatArray, scores: FloatArray, window: float) -> int | None:
    """The first step at which the mean of three evaluations in a row is back at the handover's score.

    The three begin at the lowest evaluation of the drop or later, and the step is that of the last of them,
    when it can be known. 0 if there was no drop, None if it is not made good by the last evaluation.
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
    """Score lost per online step: the area below the handover's level and above the curve, by its length."""
    if len(steps) < 2:
        return 0.0
    left, right = handover - scores[:-1], handover - scores[1:]
    most, least = np.maximum(left, right), np.minimum(left, right)
    # A segment that crosses the level only counts with the triangle below it.
    below = np.where(least >= 0, (left + right) / 2, 0.0)
    crossing = (most > 0) & (least < 0)
    below[crossing] = most[crossing] ** 2 / (2 * (most - least)[crossing])
    return float((below * np.diff(steps)).sum() / (steps[-1] - steps[0]))


@dataclass(frozen=True)
class Curve:
    """One run's scores on both sides of the handover.

    Attributes:
        updates: Gradient updates at each offline evaluation [N].
        offline: Scores there [N]; the last is the score just before the switch.
        steps: Environment steps at each evaluation from the switch on [M]; the first is 0, just after it.
        online: Scores there [M]; none if the run stays offline.
        planned: The online steps that were asked for.
        warm_up: Those of them before the first online update.
    """

    updates: FloatArray
    offline: FloatArray
    steps: FloatArray
    online: FloatArray
    planned: int
    warm_up: int = 0

    def __post_init__(self) -> None:
        if not len(self.offline) + len(self.online):
            raise ValueError("a curve needs at least one evaluation")

    @property
    def went_online(self) -> bool:
        """Whether there is an online side."""
        return len(self.online) > 0

    @property
    def after(self) -> float | None:
        """The score just after the switch, before any online step."""
        return float(self.online[0]) if self.went_online else None

    @property
    def handover(self) -> float:
        """The score of the policy that is handed over: just before the switch.

        So whatever the switch itself costs belongs to the drop. A run that starts from another's handover may
        know only the score just after it.
        """
        return float(self.offline[-1] if len(self.offline) else self.online[0])

    @property
    def scores(self) -> FloatArray:
        """The scores of the last side reached."""
        return self.online if self.went_online else self.offline

    @property
    def window(self) -> float:
        """The steps in which a drop is looked for: 20 % of those planned, after the warm-up."""
        return self.warm_up + EARLY * self.planned

    @cached_property
    def drop(self) -> float | None:
        """See `drop`; None if the run stays offline."""
        return drop(self.handover, self.steps, self.online, self.window) if self.went_online else None

    @cached_property
    def recovered(self) -> int | None:
        """See `recovered`."""
        return recovered(self.handover, self.steps, self.online, self.window) if self.went_online else None

    @cached_property
    def area(self) -> float | None:
        """The mean score over the online steps, by trapezoids; None if the run stays offline."""
        if not self.went_online:
            return None
        if len(self.steps) < 2:
            return float(self.online[0])
        return float(np.trapezoid(self.online, self.steps) / (self.steps[-1] - self.steps[0]))

    @cached_property
    def regret(self) -> float | None:
        """See `regret`; None if the run stays offline."""
        return regret(self.handover, self.steps, self.online) if self.went_online else None


def recovery(curves: Sequence[Curve]) -> str:
    """When the drop was made good, in words: the median over the seeds, where not yet is later than any."""
    back = sorted(np.inf if curve.recovered is None else curve.recovered for curve in curves)
    middle = float(back[len(back) // 2])
    if middle == np.inf:
        reached = short(max(float(curve.steps[-1]) for curve in curves))
        return f"not made good in {reached} steps"
    return f"made good after {short(middle)} steps"
