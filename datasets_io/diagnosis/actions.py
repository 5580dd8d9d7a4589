"""Check of actions against the action space: out of bounds, other units, saturation, zero actions."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.finding import Fact, Finding, listed, share
from datasets_io.diagnosis.summary import ActionSpace, DataSummary
from datasets_io.episode import Array


class ActionCheck:
    """Check of continuous or discrete actions, per dimension.

    Args:
        space: The action space, as far as it is known.
    """

    def __init__(self, space: ActionSpace) -> None:
        self._space = space
        self._low: Array | None = None
        self._high: Array | None = None
        self._outside: Array | int = 0
        self._edge: Array | int = 0
        self._whole = True
        self._rows = self._zero_rows = self._bad = 0
        self._first: dict[str, int] = {}
        self._counts = np.zeros(0, np.int64)

    def add(self, block: Block) -> None:
        """Count the finite actions of a block."""
        finite = block.finite
        actions, row = block.actions[finite], block.row[finite]
        self._rows += len(actions)
        if not len(actions):
            return
        if actions.ndim == 1:
            self._add_choices(actions, row)
            return
        lows, highs = actions.min(0), actions.max(0)
        self._low = lows if self._low is None else np.minimum(self._low, lows)
        self._high = highs if self._high is None else np.maximum(self._high, highs)
        self._whole = self._whole and bool((actions[:1000] == np.round(actions[:1000])).all())
        zero = np.logical_and.reduce(actions == 0, axis=1)
        self._zero_rows += int(zero.sum())
        self._mark("none", zero, row)
        low, high = self._space.low, self._space.high
        if low is None or high is None or low.shape != lows.shape:
            return
        # Rounding errors of a tanh or of a conversion of units are not faults.
        slack = 1e-6 * np.maximum(1, np.abs(np.where(np.isfinite(high), high, 0)))
        outside = (actions < low - slack) | (actions > high + slack)
        self._outside = self._outside + outside.sum(0)
        self._mark("outside", np.logical_or.reduce(outside, axis=1), row)
        self._edge = self._edge + ((np.abs(actions - low) <= slack) | (np.abs(actions - high) <= slack)).sum(
            0
        )

    @property
    def space(self) -> ActionSpace:
        """Return the declared space, or without one, the discrete choices in the data, as an ingest does."""
        seen = self._space.choices is None and self._space.low is None and len(self._counts)
        return ActionSpace(choices=len(self._counts)) if seen else self._space

    def _add_choices(self, actions: Array, row: Array) -> None:
        wrong = actions < 0
        if self._space.choices is not None:
            wrong |= actions >= self._space.choices
        self._bad += int(wrong.sum())
        self._mark("outside", wrong, row)
        counts = np.bincount(actions[~wrong].astype(np.int64), minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def _mark(self, what: str, flags: Array, row: Array) -> None:
        if what not in self._first and flags.any():
            self._first[what] = int(row[np.argmax(flags)])

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report actions outside the action space, in other units, on its edge, or never taken."""
        if self._rows == 0:
            return
        if self._low is None or self._high is None:
            yield from self._report_choices(summary)
            return
        yield from self._zero_actions()
        low, high = self._space.low, self._space.high
        if low is None or high is None:
            limits = f"{self._low.min():.3g} to {self._high.max():.3g}"
            yield Finding(
                "note",
                "box",
                f"no action space is declared: the range of the data will be used ({limits})",
                "a policy will not leave that range, even if the environment allows it",
                "name the environment (--env), or the range (bounds= of a table, action_space of a source)",
            )
            yield from self._unit(float(self._low.min()), float(self._high.max()), None)
            return
        if low.shape != self._low.shape:
            yield Finding(
                "error",
                "box",
                f"actions have {len(self._low)} dimensions, the action space has {len(low)}",
                "an ingest refuses the data",
                "name the right environment (--env), or set action_space in the source",
            )
            return
        yield from self._outside_box(summary, low, high)
        yield from self._saturated()

    def _report_choices(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        if self._bad:
            yield Finding(
                "error",
                "box",
                f"{self._bad:,} actions are not in 0 … {(summary.actions.choices or 0) - 1}",
                "an ingest refuses the data: these actions do not exist",
                "number the actions from 0",
                (self._first["outside"],),
            )
        counts = np.pad(self._counts, (0, max(0, (summary.actions.choices or 0) - len(self._counts))))
        unseen = [str(choice) for choice in np.flatnonzero(counts == 0)]
        if unseen:
            yield Finding(
                "warning",
                "box",
                f"{len(unseen)} of {len(counts)} actions never occur ({listed(unseen)})",
                "their values are not learned: the estimates of a network are extrapolations, and one of "
                "them may be the largest",
                "use an algorithm that stays close to the data (discrete_bcq, discrete_cql), or record more",
            )
        usual = share(counts.max(), counts.sum())
        parts = {str(choice): int(count) for choice, count in enumerate(counts)}
        yield Fact(
            "actions", f"{len(counts)} choices · the most frequent in {usual} of the rows", {"counts": parts}
        )

    def _zero_actions(self) -> Iterator[Finding]:
        part = self._zero_rows / self._rows
        if part < 1e-3:
            return
        every = self._zero_rows == self._rows
        yield Finding(
            "error" if every else "warning" if part > 0.02 else "note",
            "zero actions",
            f"{share(self._zero_rows, self._rows)} of the actions ({self._zero_rows:,}) are zero in every "
            "dimension",
            "the effect of other actions is not in the data"
            if every
            else (
                "the density of the actions has a spike at zero: log-likelihoods grow without bound, and "
                "policies learn the zero action"
            ),
            "leave out rows without an action, or check how actions were joined to the observations",
            (self._first["none"],),
        )

    def _outside_box(self, summary: DataSummary, low: Array, high: Array) -> Iterator[Finding]:
        if self._low is None or self._high is None:
            return
        total = int(np.sum(self._outside))
        if total:
            worst = float(max(self._low.min(), self._high.max(), key=abs))
            columns = [str(column) for column in np.flatnonzero(self._outside)]
            edges = (float(low.min()), float(high.max()))
            yield Finding(
                "warning",
                "box",
                f"{share(total, self._rows * len(low))} of the action values lie outside [{edges[0]:g}, "
                f"{edges[1]:g}] (columns {listed(columns)}), the furthest at {worst:.4g}",
                "a policy cannot take them: their likelihood is undefined, and behaviour cloning saturates",
                f"{summary.ingest_command} --clip-actions",
                (self._first["outside"],),
            )
        yield from self._unit(
            float(self._low.min()), float(self._high.max()), (float(low.min()), float(high.max()))
        )

    def _unit(self, low: float, high: float, box: tuple[float, float] | None) -> Iterator[Finding]:
        """Report values that seem to have another unit than the box."""
        beyond = box is None or high > 2 * abs(box[1]) or low < -2 * abs(box[0])
        looks = ""
        if beyond and self._whole and low >= 0 and 100 < high <= 255:
            looks = "bytes (0 … 255)"
        elif beyond and 40 < max(high, -low) <= 360:
            looks = "degrees" if low < 0 or high > 100 else "per cent or degrees"
        elif beyond and box is not None:
            looks = "another unit"
        elif box is not None and box[0] < 0 and low >= 0 and high > 0:
            looks = f"a range of [0, {box[1]:g}]"
        if looks:
            inside = f"the box is [{box[0]:g}, {box[1]:g}]" if box else "no box is declared"
            yield Finding(
                "warning",
                "unit",
                f"actions from {low:.4g} to {high:.4g} look like {looks}; {inside}",
                "the output of a policy is scaled to the box; the recorded actions are not",
                "convert the actions in the source, or declare a box with their range (action_space)",
            )

    def _saturated(self) -> Iterator[Finding]:
        part = np.asarray(self._edge) / self._rows
        if part.max() < 0.1:
            return
        worst = int(np.argmax(part))
        yield Finding(
            "note",
            "saturated",
            f"action column {worst} is on a bound of the box in {100 * part[worst]:.0f} % of the rows "
            f"({int((part >= 0.1).sum())} of {part.size} columns in 10 % or more)",
            "the inverse of tanh is infinite there: likelihoods are clipped, and gradients vanish",
            "usual if a controller saturates; otherwise check if actions were clipped before the recording",
        )
