"""The seeds of one algorithm on one data set, and what their numbers say in words.

Everything here is text, not HTML: what comes from a run is escaped where it is put into the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from datasets_io.scores import compare
from off2on.errors import UserError
from off2on.runs import statistics
from off2on.runs.curve import Curve, recovery
from off2on.runs.numbers import duration, points, short
from off2on.runs.record import RunRecord
from off2on.runs.statistics import Estimate

ALIKE = ("env", "new_data", "online", "eval_episodes")
"""The options besides the hyperparameters that seeds of one another share."""


@dataclass(frozen=True)
class Cell:
    """One number of the verdict: its title, its kind (loss, score or neither), and the lines below it."""

    title: str
    number: str
    kind: str
    below: list[str]


@dataclass(frozen=True)
class Group:
    """The seeds of one algorithm and strategy on one data set: all of them are online, or none.

    Attributes:
        data: The data set; where others of its name were scored otherwise, what these scores belong to.
        name: Algorithm and strategy, in words.
        runs: One a seed.
    """

    data: str
    name: str
    runs: list[RunRecord]

    @property
    def curves(self) -> list[Curve]:
        """One per seed."""
        return [run.curve for run in self.runs]

    @property
    def went_online(self) -> bool:
        """Whether the group is online."""
        return self.runs[0].strategy is not None

    @property
    def handover(self) -> Estimate:
        """The scores just before the switch."""
        return statistics.estimate([curve.handover for curve in self.curves])

    @property
    def drop(self) -> Estimate | None:
        """The drops, None if the group is not online."""
        return statistics.estimate([curve.drop or 0.0 for curve in self.curves]) if self.went_online else None

    @property
    def final(self) -> Estimate:
        """The last evaluations."""
        return statistics.estimate([curve.scores[-1] for curve in self.curves])

    @property
    def seeds(self) -> str:
        """How many they are, or which one it is."""
        return f"{len(self.runs)} seeds" if len(self.runs) > 1 else f"one seed ({self.runs[0].seed})"

    @property
    def subtitle(self) -> str:
        """How long it ran on each side, and where."""
        own = [curve.updates[-1] if len(curve.updates) else 0.0 for curve in self.curves]
        updates = max(*own, *(float(run.about.get("updates") or 0) for run in self.runs))  # or another run's
        words = [f"Offline {short(updates)} updates", self.seeds]
        if self.went_online:
            steps = max(curve.steps[-1] for curve in self.curves)
            words[0] += f", then online {short(steps)} environment steps"
        words += [str(env)] if (env := self.runs[0].about.get("env")) else []
        wall = [float(run.about["wall_s"]) for run in self.runs if run.about.get("wall_s")]
        words += [f"{duration(float(np.median(wall)))}{' a seed' if len(wall) > 1 else ''}"] if wall else []
        return " · ".join(words)

    def verdict(self) -> list[Cell]:
        """The numbers that count: at the handover, initial drop, final, over the data; those there are."""
        first, curves = self.runs[0], self.curves

        def below(amount: Estimate) -> list[str]:
            told = [_interval(amount, len(curves))]
            if first.reference is not None:
                low, high = first.reference
                told.append(f"normalised {points(100 * (amount.value - low) / (high - low))}")
            return told

        final, drop = self.final, self.drop
        cells = [Cell("final", points(final.value), "score", below(final))]
        if drop is not None:
            last = min(10, *(len(c.online) - 1 for c in curves))  # the first is the handover's
            if last > 1:
                mean = statistics.iqm([c.online[-last:].mean() for c in curves])
                cells[0].below.append(f"mean of the last {last} {points(mean)}")
            switch = f"{points(statistics.iqm([c.online[0] for c in curves]))} just after the switch"
            before = Cell("at the handover", points(self.handover.value), "", [*below(self.handover), switch])
            back = recovery(curves) if drop.value > 0 else "nothing to make good"
            size, kind = (points(-drop.value), "loss") if drop.value > 0 else ("none", "")
            cells = [before, Cell("initial drop", size, kind, [_interval(drop, len(curves)), back]), *cells]
        base = first.data_return
        if base is not None:
            # A ratio of returns means nothing when they are negative, so then it is a difference.
            gain = final.through(lambda score: score / base if base > 0 else score - base)

            def form(value: float) -> str:
                return f"×{value:.2f}" if base > 0 else "+" * (value > 0) + points(value)

            span = [] if gain.interval is None else [f"[{form(gain.interval[0])}, {form(gain.interval[1])}]"]
            own = f"data's own return {points(base)}"
            cells.append(Cell("over the data", form(gain.value), "", [*span, own]))
        return cells

    def cautions(self) -> list[str]:
        """What a reader must know before believing the numbers."""
        told = []
        for run in self.runs:
            name = run.folder.name
            if run.status != "finished":
                told.append(f"{name} is {run.status}: its last evaluation stands for its final score.")
            if lost := int((~np.isfinite(run.metrics["score"])).sum()):
                told.append(f"{name} has {lost} evaluations without a score; they are left out.")
        score = self.runs[0].about.get("score") or {}
        if score.get("standing") == "refused":
            told.append(f"No normalised scores: {score['why']}.")
        if len({run.seed for run in self.runs}) < len(self.runs):
            told.append("Some of these runs have the same seed: the interval is narrower than it should be.")
        if len({run.about["data"].get("content_hash") for run in self.runs}) > 1:
            told.append("These runs did not learn from the same rows: the hash of their data differs.")
        values: dict[str, set[str]] = {}
        for run in self.runs:
            said = {name: run.about.get("plan", {}).get(name, {}) for name in ALIKE}
            for name, hp in {**said, **run.hyperparameters}.items():
                values.setdefault(name, set()).add(str(hp.get("value")))
        mixed = [f"{name} ({', '.join(sorted(seen))})" for name, seen in values.items() if len(seen) > 1]
        if mixed:
            told.append(f"These runs are not seeds of one another: they differ in {', '.join(mixed)}.")
        return told


def gather(runs: Sequence[RunRecord]) -> list[Group]:
    """Groups the runs; scores that must not be compared are kept apart as if on other data."""

    def data(run: RunRecord) -> str:
        keys = {other.key for other in runs if other.data == run.data}
        return run.data if len(keys) == 1 else str(run.key)

    found: dict[tuple[str, str], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (data(run), run.name, run.seed)):
        found.setdefault((data(run), run.name), []).append(run)
    return [Group(*key, seeds) for key, seeds in found.items()]


def clashes(runs: Sequence[RunRecord]) -> list[str]:
    """Why runs that a reader would put side by side must not be: what differs, for each two kinds of them."""
    told = []
    for one, other in combinations(sorted({run.key for run in runs}, key=str), 2):
        try:
            if one.task == other.task:
                compare(one, other)
        except UserError as error:
            told.append(f"These {error.what} {error.hint}")
    return told


def _interval(amount: Estimate, seeds: int) -> str:
    if amount.interval is None:
        return f"{('', 'one seed', 'two seeds')[seeds]}: no interval"
    return f"[{points(amount.interval[0])}, {points(amount.interval[1])}]"


EXTRAPOLATES = """No data supports such a value: the critic is extrapolating. Usual cures: a stronger pull
towards the data, or a more pessimistic critic."""
HOPES = """Either the policy now does better than the data ever did, or the critic is too hopeful: the scores
tell which."""


def q_warning(run: RunRecord) -> str | None:
    """Says where Q passed the largest return to go in the data, offline or else online; None if nowhere."""
    largest = run.about["data"].get("return_to_go_max")
    if largest is None:
        return None
    for sides, unit, meaning in (
        (("offline",), "update", EXTRAPOLATES),
        (("handover", "online"), "environment step", HOPES),
    ):
        where, q = run.trace("q", *sides)
        above = np.flatnonzero(q > largest)
        if len(above):
            value, at = points(float(q[above[0]])), f"{unit} {where[above[0]]:,.0f}"
            passed = f"Q passed the largest return to go in the data ({value} > {points(largest)}) at {at}."
            return f"Seed {run.seed}: {passed} {meaning}"
    return None
