"""Coverage of the state space: effective number of rows, and distances of later or other data."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.neighbours import Projection, tree
from datasets_io.diagnosis.sample import Reservoir, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

MAX_EPISODES, MAX_STEPS, MAX_TRACE_COLUMNS = 48, 2048, 16
"""Maximum numbers of episodes, steps per episode and columns for the autocorrelation."""
MAX_POINTS = 4000
"""Maximum number of rows of each data set in a comparison of distances."""


class EffectiveRowsCheck:
    """Estimator of the effective number of independent rows, from a sample of whole episodes."""

    def __init__(self) -> None:
        self._chosen = Reservoir(MAX_EPISODES, seed=3)
        self._rows = 0

    def add(self, block: Block) -> None:
        """Sample from the episodes of a block without NaN and infinity."""
        columns = spread_columns(block.obs.shape[1], MAX_TRACE_COLUMNS)
        finite = np.logical_and.reduceat(block.finite, block.starts)
        episodes, keys = self._chosen.choose(np.flatnonzero(finite))
        self._rows += len(block)
        if len(episodes) > MAX_EPISODES:
            least = np.argpartition(keys, MAX_EPISODES)[:MAX_EPISODES]
            episodes, keys = episodes[least], keys[least]
        lengths = np.minimum(block.lengths[episodes], MAX_STEPS)
        traces = np.zeros((len(episodes), MAX_STEPS, len(columns)), np.float32)
        for trace, episode, length in zip(traces, episodes, lengths, strict=True):
            start = block.starts[episode]
            trace[:length] = block.obs[start : start + length][:, columns]
        self._chosen.add(keys, {"trace": traces, "length": lengths})

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report the effective number of rows."""
        kept = self._chosen.columns()
        if not kept:
            return
        times = _correlation_times(kept["trace"], kept["length"])
        if not len(times):
            return
        effective = self._rows / float(np.median(times))
        yield Fact(
            "effective",
            f"{effective:,.0f} independent rows of {self._rows:,} (observations are correlated over "
            f"{np.median(times):.0f} steps, the slowest column over {times.max():.0f})",
            {"rows": effective, "steps": float(np.median(times)), "slowest": float(times.max())},
            "Rows ÷ (1 + 2 Σ squared autocorrelation), up to the last lag above 0.1 within half an episode; "
            f"the median over {len(times)} columns of {len(kept['length'])} episodes. It does not describe "
            "rare events: a reward seen once is one observation, whatever the number of rows.",
        )
        if effective < 20:
            yield Finding(
                "note",
                "coverage",
                f"the {self._rows:,} rows correspond to about {effective:.0f} independent rows",
                "the data allow almost no generalisation; a test on rows of the same episodes is not "
                "independent",
                "record more episodes instead of longer ones",
            )


def _correlation_times(traces: Array, lengths: Array) -> Array:
    """Compute 1 + 2 Σ ρ_k² of each column that varies (Bartlett 1935), pooled over episodes with one mean.

    Args:
        traces: Columns of E episodes [E, T, c], zero beyond the length of each episode.
        lengths: Number of steps of each episode [E].
    """
    there = np.arange(traces.shape[1]) < lengths[:, None]
    count = there.sum()
    mean = (traces * there[..., None]).sum((0, 1), dtype=np.float64) / count
    centred = np.where(there[..., None], traces - mean, 0)
    size = 2 * traces.shape[1]
    power = np.square(np.abs(np.fft.rfft(centred, size, axis=1))).sum(0)
    sums = np.fft.irfft(power, size, axis=0)[: traces.shape[1]]
    pairs = np.maximum(lengths[:, None] - np.arange(traces.shape[1]), 0).sum(0)
    varies = sums[0] > 1e-10 * count * np.maximum(1, np.square(mean))
    if not varies.any():
        return np.zeros(0)
    variance = sums[0, varies] / count
    known = pairs >= 0.5 * pairs[0]
    rho = np.abs(sums[known][:, varies] / pairs[known, None] / variance)
    # Squared, because the correlation of a periodic gait changes its sign but does not vanish; and only up to
    # the last relevant lag, because the squares of noise would add up.
    early = np.maximum.accumulate(rho[::-1], axis=0)[::-1] > 0.1
    times: Array = 1 + 2 * np.where(early, np.square(rho), 0)[1:].sum(0)
    return times


def check_novelty(summary: DataSummary) -> Iterator[Finding | Fact]:
    """Report the distance of later data from earlier data, and from other data, using only the sample."""
    windows = summary.windows
    if windows is None or len(windows) < 200:
        return
    if len(summary.episodes) >= 8:
        middle = np.median(windows.episode)
        late = windows.episode > middle
        distance = _relative_distance(windows.obs[late, 1], windows.obs[~late, 1], windows.episode[~late])
        if distance is not None:
            yield Fact(
                "novelty",
                f"the later half is {distance[0]:.2g} times as far from the earlier half as parts of the "
                f"earlier half from each other; {100 * distance[1]:.0f} % of it is outside the earlier half",
                {"ratio": distance[0], "outside": distance[1]},
                _NOVELTY_METHOD,
            )
            if distance[1] > 0.2:
                yield Finding(
                    "note",
                    "novelty",
                    f"later episodes visit other states than earlier ones: {100 * distance[1]:.0f} % of "
                    "their rows are outside the states of the earlier half (5 % would be usual)",
                    "the behaviour changed during the recording, as in a replay buffer: a split by time, or "
                    "the first episodes alone, has another distribution",
                    "shuffle episodes before a split",
                )
    if summary.against is not None:
        yield from _compare_with(windows, *summary.against)


_NOVELTY_METHOD = (
    "Distances to the nearest neighbour among at most 4,000 rows of other episodes, in up to 8 principal "
    "components of the standardised observations; a row is outside if its distance exceeds the 95 % quantile "
    "within the reference. With many dimensions, differences in single columns may not be visible."
)


def _compare_with(windows: Windows, name: str, other: Windows) -> Iterator[Finding | Fact]:
    distance = _relative_distance(windows.obs[:, 1], other.obs[:, 1], other.episode)
    if distance is None:
        return
    outside = f"{100 * distance[1]:.0f} % of the rows are outside the states of {name}"
    yield Fact(
        f"beside {name}",
        f"{distance[0]:.2g} times as far from {name} as parts of {name} from each other; {outside}",
        {"ratio": distance[0], "outside": distance[1], "against": name},
        _NOVELTY_METHOD,
    )
    if distance[1] > 0.2:
        yield Finding(
            "note",
            "novelty",
            f"{outside} (5 % would be usual)",
            f"a model trained on {name} extrapolates on these rows",
            "",
        )


def _relative_distance(points: Array, known: Array, episode: Array) -> tuple[float, float] | None:
    """Compare the distance of points to known data with the distance between halves of the known episodes.

    Returns:
        The ratio of the median distances, and the share of points beyond the 95 % quantile of the distances
        between the halves; None if there are too few points or the distances are zero.
    """
    rng = np.random.default_rng(4)
    side = rng.random(int(episode.max()) + 1)[episode] < 0.5
    project = Projection.of(known)
    if project is None or min(side.sum(), (~side).sum(), len(points)) < 50:
        return None
    count = min(MAX_POINTS, int(side.sum()), int((~side).sum()), len(points))
    base, other_half, new = (
        project(rows[rng.permutation(len(rows))[:count]]) for rows in (known[side], known[~side], points)
    )
    neighbours = tree(base)
    usual, distance = neighbours.query(other_half)[0], neighbours.query(new)[0]
    if np.median(usual) <= 0:
        return None
    return float(np.median(distance) / np.median(usual)), float((distance > np.quantile(usual, 0.95)).mean())
