"""Check whether ending early is the best for a learner: terminals, and no reward above 0."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.summary import DataSummary

DISCOUNT = 0.99
"""Discount with which the cost of going on is estimated; the default of most algorithms."""


class EarlyEndCheck:
    """Check of the rewards in rows with a terminal against those of the other rows."""

    def __init__(self) -> None:
        self._rows = self._ends = 0
        self._sum = self._end_sum = 0.0
        self._least, self._largest, self._largest_end = np.inf, -np.inf, -np.inf
        self._first: list[int] = []

    def add(self, block: Block) -> None:
        """Add the rewards of a block; NaN and infinity are left out."""
        finite = np.isfinite(block.rewards)
        is_end = np.zeros(len(block), bool)
        is_end[block.starts + block.lengths - 1] = block.terminated
        rewards, ends = block.rewards[finite & ~is_end], block.rewards[finite & is_end]
        for values in (rewards, ends):
            if len(values):
                self._least = min(self._least, float(values.min()))
                self._largest = max(self._largest, float(values.max()))
        if len(ends):
            self._largest_end = max(self._largest_end, float(ends.max()))
        self._rows, self._sum = self._rows + len(rewards), self._sum + float(rewards.sum(dtype=np.float64))
        self._ends, self._end_sum = self._ends + len(ends), self._end_sum + float(ends.sum(dtype=np.float64))
        self._first += block.row[is_end][: 5 - len(self._first)].tolist()

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report terminals if no reward is above 0, unless they have a penalty or the reward of a goal."""
        if not self._ends or not self._rows or self._largest > 0 or self._least == self._largest:
            return  # of constant rewards, the check of rewards reports the same
        end, usual = self._end_sum / self._ends, self._sum / self._rows
        going_on = usual / (1 - DISCOUNT)
        if end <= going_on or self._largest_end == 0:  # a penalty; or 0 at the goal and less elsewhere
            return
        yield Finding(
            "warning" if end < 0 else "note",
            "early end",
            f"{self._ends:,} of {len(summary.episodes):,} episodes are terminated, and no reward is above 0: "
            f"a terminal costs {-end:.4g} on average, going on {-going_on:.4g} (discount {DISCOUNT:g})",
            "nothing follows a terminal, so that ending early is the best for a learner: it seeks these "
            "ends, and estimates of its value agree",
            f"if the ends are failures, give their last reward a penalty below {going_on:.4g}, or mark them "
            "as truncated; if they are the goal, this is right",
            tuple(self._first),
        )
