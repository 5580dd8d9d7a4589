"""Check of rewards and returns: zero, constant or sparse rewards, equal returns, and the scale of values."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding, share
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array
from datasets_io.shards.returns import returns_to_go

DISCOUNT = 0.99
"""Discount of the returns-to-go; the default of most algorithms."""
MAX_COUNTED_VALUES = 8
"""Maximum number of different rewards that are counted by value."""


class RewardCheck:
    """Check of rewards: counts them by value if there are few values, and computes returns-to-go."""

    def __init__(self) -> None:
        self._rows = self._zero = self._paid_episodes = 0
        self._values: dict[float, int] | None = {}
        self._at_end: dict[float, int] = {}
        self._to_go: dict[float, tuple[float, float, float]] = {}

    def add(self, block: Block) -> None:
        """Add the rewards of a block; NaN and infinity count as zero in the returns."""
        rewards = np.where(np.isfinite(block.rewards), block.rewards, 0).astype(np.float64)
        self._rows += len(rewards)
        self._zero += int((rewards == 0).sum())
        self._paid_episodes += int((np.add.reduceat(rewards != 0, block.starts) > 0).sum())
        self._count(rewards, block)
        for discount in (DISCOUNT, 1.0):
            to_go = returns_to_go(rewards, block.last, discount).astype(np.float64)
            low, high, total = self._to_go.get(discount, (np.inf, -np.inf, 0.0))
            self._to_go[discount] = (
                min(low, float(to_go.min())),
                max(high, float(to_go.max())),
                total + float(to_go.sum()),
            )

    def _count(self, rewards: Array, block: Block) -> None:
        if self._values is None:
            return
        values, counts = np.unique(rewards, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._values[value] = self._values.get(value, 0) + count
        if len(self._values) > MAX_COUNTED_VALUES:
            self._values = None
            return
        ends = rewards[block.last][block.terminated]
        for value in np.unique(ends).tolist():
            self._at_end[value] = self._at_end.get(value, 0) + int((ends == value).sum())

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report the scale of returns and values, and rewards with little or no information."""
        yield from self._scale(summary)
        if self._zero == self._rows:
            yield Finding(
                "error",
                "rewards",
                f"all {self._rows:,} rewards are zero",
                "all policies have the same return: values stay zero, and only imitation is possible",
                "check the column that was read (--columns rewards=NAME), and that the loader keeps the "
                "rewards",
            )
            return
        if self._values is not None and len(self._values) == 1:
            yield from self._constant(summary)
            return
        yield from self._sparse(summary)
        yield from self._terminals(summary)
        returns = summary.episodes.returns
        if len(returns) > 2 and np.ptp(returns) <= 1e-6 * max(1.0, float(np.abs(returns).max())):
            alike = int(np.ptp(summary.episodes.lengths)) == 0
            yield Finding(
                "warning" if alike else "note",
                "rewards",
                f"every episode has the same return, {returns[0]:.4g}",
                "no episode is better than another: filtering or weighting by return selects at random"
                + (
                    "" if alike else "; only the time of the rewards makes a difference, through the discount"
                ),
                "check that returns were not distributed evenly over rows" if alike else "",
            )

    def _scale(self, summary: DataSummary) -> Iterator[Fact]:
        returns = summary.episodes.returns
        quartiles = np.quantile(returns, (0, 0.25, 0.5, 0.75, 1))
        yield Fact(
            "return",
            f"{returns.mean():.4g} ± {returns.std():.4g}, {quartiles[0]:.4g} to {quartiles[4]:.4g}, median "
            f"{quartiles[2]:.4g}",
            {"mean": float(returns.mean()), "std": float(returns.std()), "quartiles": quartiles.tolist()},
        )
        low, high, total = self._to_go[DISCOUNT]
        yield Fact(
            "scale of Q",
            f"{low:.4g} to {high:.4g}, mean {total / self._rows:.4g} (returns-to-go, discount {DISCOUNT:g}; "
            f"at most {self._to_go[1.0][1]:.4g} without discount)",
            {
                "discount": DISCOUNT,
                "least": low,
                "largest": high,
                "mean": total / self._rows,
                "largest_undiscounted": self._to_go[1.0][1],
            },
            "Returns-to-go of the data, without bootstrapping at truncations: a critic with values far above "
            "the largest one extrapolates.",
        )

    def _constant(self, summary: DataSummary) -> Iterator[Finding]:
        (value,) = self._values or {0.0: 0}
        episodes = summary.episodes
        alike = not episodes.terminated.any() or bool((episodes.lengths == episodes.lengths[0]).all())
        yield Finding(
            "warning" if alike else "note",
            "rewards",
            f"every reward is {value:g}",
            "and terminals do not shorten some episodes: all policies have the same return"
            if alike
            else "policies differ only in the time at which episodes end: terminals must be correct",
            "check the column that was read (--columns rewards=NAME)" if alike else "",
        )

    def _sparse(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        paid = self._rows - self._zero
        part, episodes = paid / self._rows, len(summary.episodes)
        if self._values is not None:
            usual = max(self._values, key=lambda value: self._values[value] if self._values else 0)
            paid = self._rows - self._values[usual]
            part = paid / self._rows
            counts = ", ".join(
                f"{value:g} ({share(n, self._rows)})" for value, n in sorted(self._values.items())
            )
            yield Fact("rewards", f"{len(self._values)} values: {counts}", {"values": dict(self._values)})
        else:
            rows, some = share(paid, self._rows), share(self._paid_episodes, episodes)
            text = f"nonzero in {rows} of the rows, {some} of the episodes"
            yield Fact("rewards", text if self._zero else "none is zero", {"share": part})
        if part < 0.01:
            yield Finding(
                "note",
                "sparse",
                f"only {share(paid, self._rows)} of the rows ({paid:,}) have a reward other than the "
                "usual one"
                + (
                    f", in {share(self._paid_episodes, episodes)} of the episodes"
                    if self._zero > 0.5 * self._rows
                    else ""
                ),
                "a batch of 256 rows has " + _in_a_batch(part) + "; values spread from there by one step per "
                "update",
                "use a discount near 1 and many updates, or reward − 1 as usual on AntMaze",
            )

    def _terminals(self, summary: DataSummary) -> Iterator[Finding]:
        """Check that the rarer of two reward values and the terminal occur in the same rows."""
        if self._values is None or len(self._values) != 2:
            return
        rare = min(self._values, key=lambda value: self._values[value] if self._values else 0)
        count, ended = self._values[rare], int(summary.episodes.terminated.sum())
        both = self._at_end.get(rare, 0)
        if not ended or count > 0.2 * self._rows or both < 0.05 * min(count, ended):
            return
        if both < count or both < ended:
            yield Finding(
                "warning" if 0.02 * count < count - both and both > 0.5 * ended else "note",
                "goal",
                f"reward {rare:g} and terminal disagree: {both:,} rows have both, {count - both:,} only "
                f"the reward, {ended - both:,} only the terminal",
                "if this reward marks the goal, some goals end the episode and others do not",
                "end the episode at every goal, or at none",
            )


def _in_a_batch(part: float) -> str:
    rows = 256 * part
    return f"{rows:.2g} of them" if rows >= 1 else f"one of them in every {1 / rows:.0f} batches"
