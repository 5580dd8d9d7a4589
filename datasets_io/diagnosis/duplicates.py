"""Check for duplicate rows and episodes, and for observations that do not change between steps."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding, Severity, share
from datasets_io.diagnosis.sample import spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

MAX_HASHES = 200_000
"""Number of hashes kept; above it only hashes below a bound are kept, so that equal rows stay together."""


@dataclass(eq=False)
class DuplicateCheck:
    """Check for duplicates (by hashes of selected columns and of episodes) and constant observations."""

    _rows: list[Array] = field(default_factory=list)
    _numbers: list[Array] = field(default_factory=list)
    _bound: int = 2**64 - 1
    _count: int = 0
    _episodes: list[Array] = field(default_factory=list)
    _unchanged: int = 0
    _pairs: int = 0
    _first_unchanged: int | None = None

    def add(self, block: Block) -> None:
        """Add the hashes of a block."""
        obs = block.obs[:, spread_columns(block.obs.shape[1])]
        hashes = _hash(np.concatenate([obs, block.actions.reshape(len(obs), -1), block.rewards[:, None]], 1))
        within = np.arange(len(hashes)) - np.repeat(block.starts, block.lengths)
        self._episodes.append(np.add.reduceat(_mix(hashes + _mix(within.astype(np.uint64))), block.starts))
        keep = hashes <= self._bound
        self._rows.append(hashes[keep])
        self._numbers.append(block.row[keep])
        self._count += int(keep.sum())
        while self._count > 2 * MAX_HASHES:
            self._halve()
        pairs = ~block.last[:-1]
        unchanged = (obs[1:] == obs[:-1]).all(1) & pairs
        self._pairs += int(pairs.sum())
        if unchanged.any() and self._first_unchanged is None:
            self._first_unchanged = int(block.row[np.argmax(unchanged)])
        self._unchanged += int(unchanged.sum())

    def _halve(self) -> None:
        self._bound //= 2
        hashes, rows = np.concatenate(self._rows), np.concatenate(self._numbers)
        keep = hashes <= self._bound
        self._rows, self._numbers, self._count = [hashes[keep]], [rows[keep]], int(keep.sum())

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report duplicate rows, duplicate episodes, and observations that repeat between steps."""
        has_few_states = summary.windows is not None and _has_few_states(summary.windows.obs[:, 1])
        yield from self._duplicate_rows(has_few_states)
        yield from self._duplicate_episodes(summary, has_few_states)
        part = self._unchanged / max(self._pairs, 1)
        if part > 0.01 and not has_few_states:
            yield Finding(
                "warning" if part > 0.1 else "note",
                "still",
                f"in {share(self._unchanged, self._pairs)} of the steps the observation does not change",
                "actions seem to have no effect; possible causes are a sensor slower than the steps or an "
                "interrupted recording",
                "record at the rate of the sensor, or leave these rows out",
                () if self._first_unchanged is None else (self._first_unchanged,),
            )

    def _duplicate_rows(self, has_few_states: bool) -> Iterator[Finding]:
        hashes, rows = np.concatenate(self._rows), np.concatenate(self._numbers)
        order = np.argsort(hashes, kind="stable")
        repeated = np.flatnonzero(hashes[order][1:] == hashes[order][:-1]) + 1
        part = len(repeated) / max(len(hashes), 1)
        if part < 1e-3:
            return
        severity: Severity = "note" if has_few_states or part < 0.02 else "warning"
        yield Finding(
            severity,
            "copies",
            f"{share(len(repeated), len(hashes))} of the rows are copies of an earlier row (observation, "
            "action and reward, bit by bit)",
            "there are few different states, which recur"
            if has_few_states
            else (
                "duplicates have a higher weight in training, and rows in both parts of a split make a test "
                "invalid"
            ),
            "" if has_few_states else "merge each log once, and drop rows that were written twice",
            tuple(np.sort(rows[order][repeated])[:5]),
        )

    def _duplicate_episodes(self, summary: DataSummary, has_few_states: bool) -> Iterator[Finding]:
        hashes, lengths = np.concatenate(self._episodes), summary.episodes.lengths
        long = np.flatnonzero(lengths >= 5)
        order = long[np.argsort(hashes[long], kind="stable")]
        repeated = order[1:][hashes[order][1:] == hashes[order][:-1]]
        if not len(repeated):
            return
        repeated = np.sort(repeated)
        yield Finding(
            "note" if has_few_states else "warning",
            "copies",
            f"{len(repeated):,} of {len(lengths):,} episodes are copies of an earlier episode, step by step",
            "there are fewer independent episodes than counted; intervals over episodes are too narrow",
            "add each file once: the same log may be in two folders",
            tuple(summary.episodes.rows[repeated][:5]),
        )


def _has_few_states(obs: Array) -> bool:
    """Return true if the data have few different observations, as in a tabular task."""
    sampled = obs[:: max(1, len(obs) // 5000)]
    return len(np.unique(sampled, axis=0)) < 0.5 * len(sampled)


def _hash(rows: Array) -> Array:
    """Hash rows [N, W] to [N] uint64, equal for equal float32 values: multilinear, with odd multipliers."""
    words = np.ascontiguousarray(rows.astype(np.float32) + 0.0).view(np.uint32).astype(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) * 2 + 1
    return _mix((words * odd).sum(1, dtype=np.uint64))


def _mix(values: Array) -> Array:
    """Mix the bits of each value (the finaliser of splitmix64; Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed
