"""Statistics of a handful of seeds, and what a run's curve says about its handover.

The aggregate is the interquartile mean with a stratified bootstrap interval, as in Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv:2108.13264. Seeds are
resampled within their task, never across tasks. With fewer than three seeds there is no interval: resampling
one or two values says nothing about the third.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2_000
FEWEST_SEEDS = 3
EARLY = 0.2  # the share of the online steps in which a drop is looked for
RUNNING = 3  # evaluations in the running mean that says a drop is made good


@dataclass(frozen=True)
class Estimate:
    """A number and how sure of it the seeds are.

    Attributes:
        value: The point estimate.
        interval: The 95 % percentile interval, None with fewer than three seeds in any task.
    """

    value: float
    interval: tuple[float, float] | None = None

    def through(self, change: Callable[[float], float]) -> "Estimate":
        """The estimate in other units; `change` must be increasing, so that the interval keeps its order."""
        low_high = None if self.interval is None else (change(self.interval[0]), change(self.interval[1]))
        return Estimate(change(self.value), low_high)


def iqm(scores: npt.ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter, each rounded down."""
    return float(_iqm_rows(np.asarray(scores, np.float64).ravel()))


def estimate(*tasks: npt.ArrayLike, seed: int = 0) -> Estimate:
    """IQM over seeds × tasks with its stratified bootstrap interval.

    Args:
        *tasks: The scores [seeds] of each task; tasks may have different numbers of seeds.
        seed: Of the resampling, so that the same runs give the same report.
    """
    strata = _strata(tasks)
    value = iqm(np.concatenate(strata))
    if min(map(len, strata)) < FEWEST_SEEDS:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    return Estimate(
        value, _percentiles(_iqm_rows(np.concatenate([_resample(s, rng) for s in strata], axis=1)))
    )


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """P(X > Y) + ½ P(X = Y), the Mann-Whitney statistic, for scores x [n] and y [m] on one task.

    Above one half means that x is better where a higher score is better.
    """
    xs, ys = _strata((x, y))

    def wins(a: FloatArray, b: FloatArray) -> FloatArray:  # [..., n], [..., m] -> [...]
        a, b = a[..., :, None], b[..., None, :]
        return np.asarray(((a > b) + 0.5 * (a == b)).mean((-2, -1)))

    value = float(wins(xs, ys))
    if min(len(xs), len(ys)) < FEWEST_SEEDS:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    return Estimate(value, _percentiles(wins(_resample(xs, rng), _resample(ys, rng))))


def profile(scores: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
    """The performance profile: the share of runs [N] that score above each level [L], [L].

    Agarwal et al., arXiv:2108.13264, section 4.2, with runs of all tasks together.
    """
    return np.asarray((np.asarray(scores)[:, None] > np.asarray(levels)[None, :]).mean(0))


def together(xs: Sequence[FloatArray], ys: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Curves on one grid.

    Args:
        xs: Where each curve was measured, increasing, [n_i].
        ys: What was measured, [n_i].

    Returns:
        Every place that any curve was measured at and that all of them reach [N], and the curves there,
        between measurements on a straight line, [curves, N].
    """
    grid = np.unique(np.concatenate(xs))
    grid = grid[(grid >= max(x[0] for x in xs)) & (grid <= min(x[-1] for x in xs))]
    return grid, np.stack([np.interp(grid, x, y) for x, y in zip(xs, ys, strict=True)])


def iqm_curve(values: FloatArray) -> FloatArray:
    """IQM over the curves [curves, N] at each place, [N]."""
    return _iqm_rows(values.T)


def drop(handover: float, steps: FloatArray, scores: FloatArray, window: float) -> float:
    """The handover's score less the lowest in the steps of a window, never negative."""
    return max(0.0, handover - float(scores[steps <= window].min(initial=np.inf)))


def made_good(handover: float, steps: FloatArray, scores: FloatArray, window: float) -> int | None:
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
    def crossed(self) -> bool:
        """Whether there is an online side."""
        return len(self.online) > 0

    @property
    def after(self) -> float | None:
        """The score just after the switch, before any online step."""
        return float(self.online[0]) if self.crossed else None

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
        return self.online if self.crossed else self.offline

    @property
    def window(self) -> float:
        """The steps in which a drop is looked for: 20 % of those planned, after the warm-up."""
        return self.warm_up + EARLY * self.planned

    @cached_property
    def drop(self) -> float | None:
        """See `drop`; None if the run stays offline."""
        return drop(self.handover, self.steps, self.online, self.window) if self.crossed else None

    @cached_property
    def made_good(self) -> int | None:
        """See `made_good`."""
        return made_good(self.handover, self.steps, self.online, self.window) if self.crossed else None

    @cached_property
    def area(self) -> float | None:
        """The mean score over the online steps, by trapezoids; None if the run stays offline."""
        if not self.crossed:
            return None
        if len(self.steps) < 2:
            return float(self.online[0])
        return float(np.trapezoid(self.online, self.steps) / (self.steps[-1] - self.steps[0]))

    @cached_property
    def regret(self) -> float | None:
        """See `regret`; None if the run stays offline."""
        return regret(self.handover, self.steps, self.online) if self.crossed else None


def recovery(curves: Sequence[Curve]) -> str:
    """When the drop was made good, in words: the median over the seeds, where not yet is later than any."""
    back = sorted(np.inf if curve.made_good is None else curve.made_good for curve in curves)
    middle = float(back[len(back) // 2])
    if middle == np.inf:
        reached = short(max(float(curve.steps[-1]) for curve in curves))
        return f"not made good in {reached} steps"
    return f"made good after {short(middle)} steps"


def _strata(tasks: Sequence[npt.ArrayLike]) -> list[FloatArray]:
    strata = [np.asarray(task, np.float64) for task in tasks]
    if (
        not strata
        or any(s.ndim != 1 or not len(s) for s in strata)
        or not np.isfinite(np.concatenate(strata)).all()
    ):
        raise ValueError("scores must be finite, and one dimension [seeds] per task")
    return strata


def _iqm_rows(scores: FloatArray) -> FloatArray:  # [..., N] -> [...]
    cut = scores.shape[-1] // 4
    return np.asarray(np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(-1))


def _resample(scores: FloatArray, rng: np.random.Generator) -> FloatArray:  # [n] -> [RESAMPLES, n]
    return scores[rng.integers(len(scores), size=(RESAMPLES, len(scores)))]


def _percentiles(values: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def points(value: float) -> str:
    """A score as it is written: 66.6, 3,664, −0.52."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if text.strip("-0.") else "0"


def short(amount: float) -> str:
    """A number of updates, steps or rows as it is written: 512, 61.2 k, 1 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if amount >= size * 0.99995:
            return f"{amount / size:.1f}".removesuffix(".0") + letter
    return f"{amount:.3g}"


def duration(seconds: float) -> str:
    """A time as it is written, in its two largest units: 12 s, 3 min 5 s, 2 h 40 min."""
    total = round(seconds)
    for size, small, names in ((86_400, 3_600, ("d", "h")), (3_600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if total >= size:
            return f"{total // size} {names[0]} {total % size // small} {names[1]}"
    return f"{total} s"
