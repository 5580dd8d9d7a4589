"""Check of single values: NaN and infinity, huge values, outliers, constant columns."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding, listed
from datasets_io.diagnosis.sample import spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array
from datasets_io.shards.moments import Moments

MAX_VALUE = 1e6
"""Absolute value from which values are reported: losses grow with their square."""
OVERFLOW = 1.8e19
"""Absolute value from which the square overflows float32."""
MAX_SPREAD = 100.0
"""Maximum distance of a value from the median, in widths of the central 99.8 % of the values."""
MAX_OFFSET = 1e5
"""Mean in standard deviations, above which float32, with seven digits, leaves two digits for the spread."""


class ValueCheck:
    """Check of values: counts NaN and infinity, and computes the moments and largest values of columns."""

    def __init__(self) -> None:
        self._moments: dict[str, Moments] = {}
        self._bad: dict[str, tuple[int, int, set[int]]] = {}
        self._largest: dict[str, tuple[float, int]] = {}

    def add(self, block: Block) -> None:
        """Add the columns of a block."""
        for name in ("obs", "actions", "rewards"):
            values = getattr(block, name)
            self._count_bad(name, values, block.row)
            finite = values[block.finite]
            if len(finite):
                moments = Moments.of(finite)
                known = self._moments.get(name)
                self._moments[name] = moments if known is None else known.merge(moments)
                self._note_largest(name, finite, block)
        ends = block.has_final
        self._count_bad("obs", block.final_obs[ends], block.row[block.last][ends])

    def _count_bad(self, name: str, values: Array, row: Array) -> None:
        if values.dtype.kind != "f" or not len(values):
            return
        bad = ~np.isfinite(values).reshape(len(values), -1)
        rows = bad.any(1)
        if not rows.any():
            return
        count, first, columns = self._bad.get(name, (0, int(row[np.argmax(rows)]), set()))
        columns |= set(np.flatnonzero(bad.any(0)).tolist()) if values.ndim > 1 else set()
        self._bad[name] = count + int(rows.sum()), first, columns

    def _note_largest(self, name: str, finite: Array, block: Block) -> None:
        size = np.abs(finite.astype(np.float64)).reshape(len(finite), -1).max(1)
        row = int(np.argmax(size))
        if size[row] > self._largest.get(name, (-1.0, 0))[0]:
            self._largest[name] = float(size[row]), int(block.row[block.finite][row])

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report NaN and infinity, too large values, outliers, offsets and constant columns."""
        yield from self._bad_rows(summary)
        for name in self._moments:
            yield from self._huge(name)
        yield from self._outliers(summary)
        yield from self._offsets()
        yield from self._constant(summary)

    def _bad_rows(self, summary: DataSummary) -> Iterator[Finding]:
        for name, (count, first, columns) in self._bad.items():
            where = f" (columns {listed([str(column) for column in sorted(columns)])})" if columns else ""
            yield Finding(
                "error",
                "finite",
                f"{name}: NaN or infinity in {count:,} of {summary.rows:,} rows{where}",
                "one of them in a batch makes every weight NaN, and training fails",
                f"{summary.ingest_command} --nan drop-episode",
                (first,),
            )

    def _huge(self, name: str) -> Iterator[Finding]:
        largest, row = self._largest[name]
        if largest < MAX_VALUE:
            return
        sizes = np.maximum(np.abs(self._moments[name].low), np.abs(self._moments[name].high))
        columns = np.flatnonzero(np.ravel(sizes) >= MAX_VALUE)
        where = f" (columns {listed([str(column) for column in columns])})" if sizes.ndim else ""
        square = largest >= OVERFLOW
        yield Finding(
            "error" if square else "warning",
            "huge",
            f"{name} reach {largest:.3g}{where}",
            "the square overflows float32: the first loss is NaN"
            if square
            else "losses grow with the square: a few such rows dominate, and float32 keeps seven digits",
            "scale the column to a range near 1 (another unit, a logarithm, a difference to the first "
            "value), or leave it out",
            (row,),
        )

    def _outliers(self, summary: DataSummary) -> Iterator[Finding]:
        if summary.windows is None or len(summary.windows) < 1000:
            return
        columns = spread_columns(np.size(self._moments["obs"].mean))
        sampled = summary.windows.obs[:, 1].astype(np.float64)
        low, middle, high = np.quantile(sampled, (0.001, 0.5, 0.999), axis=0)
        moments = self._moments["obs"]
        reach = np.maximum(moments.high[columns] - middle, middle - moments.low[columns])
        times = reach / np.maximum(high - low, 1e-12)
        out = (times > MAX_SPREAD) & (high - low > 1e-6) & (reach < MAX_VALUE)
        if out.any():
            worst = int(np.argmax(np.where(out, times, 0)))
            yield Finding(
                "warning",
                "outliers",
                f"obs column {columns[worst]} has outliers: {times[worst]:,.0f} times the width of the "
                f"central 99.8 % of its values ({int(out.sum())} such columns)",
                "after normalisation by mean and standard deviation, the usual values are nearly equal and "
                "the outliers huge",
                "clip the column, or drop the episodes with error values of a sensor",
            )

    def _offsets(self) -> Iterator[Finding]:
        moments = self._moments.get("obs")
        if moments is None:
            return
        std = np.sqrt(moments.m2 / moments.count)
        lost = (std > 0) & (np.abs(moments.mean) > MAX_OFFSET * std)
        if lost.any():
            columns = [str(column) for column in np.flatnonzero(lost)]
            yield Finding(
                "warning",
                "offset",
                f"obs columns {listed(columns)} vary by less than 1/100,000 of their value",
                "float32 keeps seven digits: changes are lost by rounding (as in a time stamp or a world "
                "coordinate)",
                "subtract the first value of the episode, in float64, in the source",
            )

    def _constant(self, summary: DataSummary) -> Iterator[Finding]:
        if summary.rows < 2:
            return
        for name, severity in (("obs", "note"), ("actions", "warning")):
            moments = self._moments.get(name)
            if moments is None:
                continue
            same = np.atleast_1d(moments.low == moments.high)
            if not same.any():
                continue
            columns = listed([str(column) for column in np.flatnonzero(same)])
            every = bool(same.all())
            yield Finding(
                "error" if every and name == "obs" else "warning" if severity == "warning" else "note",
                "constant",
                f"{name}: "
                f"{'every column is' if every else f'{int(same.sum())} of {len(same)} columns are'} the "
                f"same in all rows ({columns})",
                "states cannot be distinguished"
                if every and name == "obs"
                else "they contain no information, and normalisation divides by zero"
                if name == "obs"
                else "the effect of other actions is not in the data",
                "leave them out, unless they will differ online",
            )
