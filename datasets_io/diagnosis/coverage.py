"""What the data reach: independent rows, and whether later (or other) data lie where the earlier do."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.neighbours import Projection, tree
from datasets_io.diagnosis.sample import Reservoir, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

EPISODES, STEPS, COLUMNS = 48, 2048, 16
"""Episodes, steps of each and columns whose autocorrelation is measured."""
POINTS = 4000
"""Rows on each side of a comparison of distances."""


class EffectiveRowsCheck:
    """Keeps a few whole episodes, and estimates how many independent rows all of them are worth."""

    def __init__(self) -> None:
        self._chosen = Reservoir(EPISODES, seed=3)
        self._rows = 0

    def add(self, block: Block) -> None:
        """Draws some of a block's episodes, those with a number that is none left out."""
        columns = spread_columns(block.obs.shape[1], COLUMNS)
        whole = np.logical_and.reduceat(block.finite, block.starts)
        episodes, keys = self._chosen.choose(np.flatnonzero(whole))
        self._rows += len(block)
        if len(episodes) > EPISODES:
            least = np.argpartition(keys, EPISODES)[:EPISODES]
            episodes, keys = episodes[least], keys[least]
        lengths = np.minimum(block.lengths[episodes], STEPS)
        traces = np.zeros((len(episodes), STEPS, len(columns)), np.float32)
        for trace, episode, length in zip(traces, episodes, lengths, strict=True):
            start = block.starts[episode]
            trace[:length] = block.obs[start : start + length][:, columns]
        self._chosen.add(keys, {"trace": traces, "length": lengths})

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """The effective number of rows."""
        kept = self._chosen.columns()
        if not kept:
            return
        times = _correlation_times(kept["trace"], kept["length"])
        if not len(times):
            return
        effective = self._rows / float(np.median(times))
        yield Fact(
            "effective",
            f"{effective:,.0f} independent rows of {self._rows:,} (an observation is remembered for "
            f"{np.median(times):.0f} steps, the slowest column for {times.max():.0f})",
            {"rows": effective, "steps": float(np.median(times)), "slowest": float(times.max())},
            "Rows ÷ (1 + 2 Σ squared autocorrelation), up to the last lag above 0.1 within half an episode; "
            f"the median over {len(times)} columns of {len(kept['length'])} episodes. A reward seen once is "
            "still seen once, however many rows there are.",
        )
        if effective < 20:
            yield Finding(
                "note",
                "coverage",
                f"the {self._rows:,} rows are worth about {effective:.0f} independent ones",
                "there is hardly anything to generalise from; held-out rows of the same episodes prove "
                "nothing",
                "record more episodes rather than longer ones",
            )


def _correlation_times(traces: Array, lengths: Array) -> Array:
    """1 + 2 Σ ρ_k² of each column that varies (Bartlett 1935), pooled over episodes with the common mean.

    Args:
        traces: [E, T, c], zero beyond each episode's length.
        lengths: [E].
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
    # Squared, as a gait's correlation changes its sign but does not go away; and only up to the last lag that
    # matters, as the squares of noise would add up.
    early = np.maximum.accumulate(rho[::-1], axis=0)[::-1] > 0.1
    times: Array = 1 + 2 * np.where(early, np.square(rho), 0)[1:].sum(0)
    return times


def check_novelty(summary: DataSummary) -> Iterator[Finding | Fact]:
    """How far later data lie from earlier ones, and these data from others; needs the sample only."""
    windows = summary.windows
    if windows is None or len(windows) < 200:
        return
    if len(summary.episodes) >= 8:
        middle = np.median(windows.episode)
        late = windows.episode > middle
        far = _farther(windows.obs[late, 1], windows.obs[~late, 1], windows.episode[~late])
        if far is not None:
            yield Fact(
                "novelty",
                f"the later half lies {far[0]:.2g} times as far from the earlier half as that from itself; "
                f"{100 * far[1]:.0f} % of it where the earlier half has hardly been",
                {"ratio": far[0], "outside": far[1]},
                _HOW,
            )
            if far[1] > 0.2:
                yield Finding(
                    "note",
                    "novelty",
                    f"later episodes visit other states than earlier ones: {100 * far[1]:.0f} % of their "
                    "rows lie where the earlier half has hardly been (5 % would be usual)",
                    "the behaviour changed while it was recorded, as in a replay buffer: a split by "
                    "time, or the first episodes alone, is another task",
                    "shuffle episodes before a split",
                )
    if summary.against is not None:
        yield from _compared(windows, *summary.against)


_HOW = (
    "Distances to the nearest neighbour among at most 4,000 rows of other episodes, in up to 8 principal "
    "components of the standardised observations; in many dimensions they say little about single columns."
)


def _compared(windows: Windows, name: str, other: Windows) -> Iterator[Finding | Fact]:
    far = _farther(windows.obs[:, 1], other.obs[:, 1], other.episode)
    if far is None:
        return
    told = f"{100 * far[1]:.0f} % of the rows lie where {name} has hardly been"
    yield Fact(
        f"beside {name}",
        f"{far[0]:.2g} times as far from {name} as that from itself; {told}",
        {"ratio": far[0], "outside": far[1], "against": name},
        _HOW,
    )
    if far[1] > 0.2:
        yield Finding(
            "note",
            "novelty",
            f"{told} (5 % would be usual)",
            f"what is learned from {name} says little about them",
            "",
        )


def _farther(points: Array, known: Array, episode: Array) -> tuple[float, float] | None:
    """How much farther points lie from known data than halves of these, by episode, from each other.

    Returns:
        The ratio of median distances, and the share of points beyond 95 % of the known ones' distances.
    """
    rng = np.random.default_rng(4)
    side = rng.random(int(episode.max()) + 1)[episode] < 0.5
    project = Projection.of(known)
    if project is None or min(side.sum(), (~side).sum(), len(points)) < 50:
        return None
    count = min(POINTS, int(side.sum()), int((~side).sum()), len(points))
    base, held, new = (
        project(rows[rng.permutation(len(rows))[:count]]) for rows in (known[side], known[~side], points)
    )
    near = tree(base)
    usual, far = near.query(held)[0], near.query(new)[0]
    if np.median(usual) <= 0:
        return None
    return float(np.median(far) / np.median(usual)), float((far > np.quantile(usual, 0.95)).mean())
