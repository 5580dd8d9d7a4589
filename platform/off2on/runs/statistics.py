"""Statistics of a few seeds.

The aggregate is the interquartile mean with a stratified bootstrap interval, as in Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv:2108.13264. Seeds are
resampled within their task, never across tasks. With fewer than three seeds there is no interval, because
resampling one or two values says nothing about another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2_000
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The point estimate.
        interval: The 95 % percentile interval, None with fewer than three seeds in any task.
    """

    value: float
    interval: tuple[float, float] | None = None

    def through(self, change: Callable[[float], float]) -> "Estimate":
        """Return the estimate in other units; `change` must be increasing, to keep the interval's order."""
        low_high = None if self.interval is None else (change(self.interval[0]), change(self.interval[1]))
        return Estimate(change(self.value), low_high)


def iqm(scores: npt.ArrayLike) -> float:
    """Return the interquartile mean: without the lowest and the highest quarter, each rounded down."""
    return float(_iqm_rows(np.asarray(scores, np.float64).ravel()))


def estimate(*tasks: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Return the IQM over seeds × tasks with its stratified bootstrap interval.

    Args:
        *tasks: The scores [seeds] of each task; tasks may have different numbers of seeds.
        seed: Seed of the resampling, so that the same runs give the same report.
    """
    strata = _strata(tasks)
    value = iqm(np.concatenate(strata))
    if min(map(len, strata)) < FEWEST_SEEDS:
        return Estimate(value)
    return Estimate(value, interval(strata, lambda *each: _iqm_rows(np.concatenate(each, axis=-1)), seed))


def interval(
    samples: Sequence[FloatArray],
    statistic: Callable[..., FloatArray],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic, by scipy's bootstrap.

    Args:
        samples: Independent samples [n_i], each resampled by itself.
        statistic: From resamples [..., n_i] of each to values [...].
        seed: Seed of the resampling.
        resamples: Number of resamples.
    """
    from scipy.stats import bootstrap  # takes a second to load, which a run without a report does not spend

    found = bootstrap(
        samples,
        lambda *each, axis: statistic(*each),
        n_resamples=resamples,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """Return P(X > Y) + ½ P(X = Y), the Mann-Whitney statistic, for scores x [n] and y [m] on one task.

    Above one half, x is better where a higher score is better.
    """
    xs, ys = _strata((x, y))

    def wins(a: FloatArray, b: FloatArray) -> FloatArray:  # [..., n], [..., m] -> [...]
        a, b = a[..., :, None], b[..., None, :]
        return np.asarray(((a > b) + 0.5 * (a == b)).mean((-2, -1)))

    value = float(wins(xs, ys))
    if min(len(xs), len(ys)) < FEWEST_SEEDS:
        return Estimate(value)
    return Estimate(value, interval([xs, ys], wins, seed))


def profile(scores: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
    """Return the performance profile: the share of runs [N] that score above each level [L], [L].

    Agarwal et al., arXiv:2108.13264, section 4.2, with runs of all tasks together.
    """
    return np.asarray((np.asarray(scores)[:, None] > np.asarray(levels)[None, :]).mean(0))


def together(xs: Sequence[FloatArray], ys: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Interpolate curves on one grid.

    Args:
        xs: Where each curve was measured, increasing, [n_i].
        ys: What was measured, [n_i].

    Returns:
        All places at which a curve was measured and that all curves reach [N], and the curves there
        [curves, N], linear between measurements.
    """
    grid = np.unique(np.concatenate(xs))
    grid = grid[(grid >= max(x[0] for x in xs)) & (grid <= min(x[-1] for x in xs))]
    return grid, np.stack([np.interp(grid, x, y) for x, y in zip(xs, ys, strict=True)])


def iqm_curve(values: FloatArray) -> FloatArray:
    """Return the IQM over the curves [curves, N] at each place, [N]."""
    return _iqm_rows(values.T)


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
