"""Groups of runs: the seeds of one algorithm and strategy on one data set, their numbers and cautions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from datasets_io.scores import compare
from off2on.errors import UserError
from off2on.reports.page import Cell
from off2on.runs import statistics
from off2on.runs.curve import Curve, recovery
from off2on.runs.metadata import RecordedValue
from off2on.runs.numbers import duration, points, short
from off2on.runs.record import RunRecord
from off2on.runs.statistics import Estimate

SHARED_OPTIONS = (
    "env", "new_data", "updates", "online", "eval_episodes", "precision", "learners", "workers", "envs",
)  # fmt: skip
"""Options that the seeds of a group share, besides the hyperparameters and online settings."""


@dataclass(frozen=True)
class Group:
    """The seeds of one algorithm and strategy on one data set; all went online, or none.

    Attributes:
        data: The data set; the score key, if other runs on it have another one.
        name: Algorithm and strategy.
        runs: A run per seed.
    """

    data: str
    name: str
    runs: list[RunRecord]

    @property
    def curves(self) -> list[Curve]:
        """The curves, one per seed."""
        return [run.curve for run in self.runs]

    @property
    def went_online(self) -> bool:
        """True if the runs have an online phase."""
        return self.runs[0].strategy is not None

    @property
    def handover(self) -> Estimate:
        """The scores at the end of the offline phase."""
        return statistics.estimate([curve.handover for curve in self.curves])

    @property
    def drop(self) -> Estimate | None:
        """The drops; None without an online phase."""
        return statistics.estimate([curve.drop or 0.0 for curve in self.curves]) if self.went_online else None

    @property
    def final(self) -> Estimate:
        """The scores of the policies that the runs leave, see `Curve.final`."""
        return statistics.estimate([curve.final for curve in self.curves])

    @property
    def seeds(self) -> str:
        """The number of seeds, or the only seed."""
        return f"{len(self.runs)} seeds" if len(self.runs) > 1 else f"one seed ({self.runs[0].seed})"

    @property
    def subtitle(self) -> str:
        """Updates, environment steps, environment and duration, in one line."""
        own = [curve.updates[-1] if len(curve.updates) else 0.0 for curve in self.curves]
        updates = max(*own, *(float(run.metadata.updates) for run in self.runs))  # or another run's
        words = [f"Offline {short(updates)} updates", self.seeds]
        if self.went_online:
            steps = max(curve.steps[-1] for curve in self.curves)
            words[0] += f", then online {short(steps)} environment steps"
        words += [env] if (env := self.runs[0].metadata.env) else []
        wall = [run.metadata.wall_s for run in self.runs if run.metadata.wall_s]
        words += [f"{duration(float(np.median(wall)))}{' per seed' if len(wall) > 1 else ''}"] if wall else []
        return " · ".join(words)

    def verdict(self) -> list[tuple[str, Cell]]:
        """Return the main numbers with their titles: at the handover, initial drop, final, over the data."""
        first, curves = self.runs[0], self.curves

        def below(amount: Estimate) -> list[str]:
            lines = [_interval(amount, len(curves))]
            if first.reference is not None:
                low, high = first.reference
                lines.append(f"normalised {points(100 * (amount.value - low) / (high - low))}")
            return lines

        final, drop = self.final, self.drop
        cells: list[tuple[str, Cell]] = []
        final_lines = below(final)
        if drop is not None:
            last = min(10, *(len(c.online) - 1 for c in curves))  # the first is the handover's
            if last > 1 and all(run.returns_in_service is None for run in self.runs):
                mean = statistics.iqm([c.online[-last:].mean() for c in curves])
                final_lines.append(f"mean of the last {last} {points(mean)}")
            after = f"{points(statistics.iqm([c.online[0] for c in curves]))} right after it"
            before = [*below(self.handover), after]
            cells.append(("at the handover", Cell(points(self.handover.value), before, "strong")))
            back = recovery(curves) if drop.value > 0 else "no drop"
            size, kind = (points(-drop.value), "loss") if drop.value > 0 else ("none", "")
            lines = [_interval(drop, len(curves)), back]
            cells.append(("initial drop", Cell(size, lines, "strong", kind)))
        cells.append(("final", Cell(points(final.value), final_lines, "strong", "score")))
        base = first.data_return
        if base is not None:
            # A ratio of negative returns has no meaning: then it is a difference.
            gain = final.through(lambda score: score / base if base > 0 else score - base)

            def form(value: float) -> str:
                return f"×{value:.2f}" if base > 0 else "+" * (value > 0) + points(value)

            span = [] if gain.interval is None else [f"[{form(gain.interval[0])}, {form(gain.interval[1])}]"]
            own = f"return of the data {points(base)}"
            cells.append(("over the data", Cell(form(gain.value), [*span, own], "strong")))
        return cells

    def cautions(self) -> list[str]:
        """Return what limits the meaning of the numbers."""
        cautions = []
        for run in self.runs:
            name = run.folder.name
            if run.status != "finished":
                guarded = run.returns_in_service is not None
                used = "" if guarded else ": its last evaluation is used as its final score"
                cautions.append(f"{name} is {run.status}{used}.")
            if lost := int((~np.isfinite(run.metrics["score"])).sum()):
                cautions.append(f"{name} has {lost} evaluations without a score; they are left out.")
        if any(run.returns_in_service is not None for run in self.runs):
            cautions.append(
                "Final scores are those of the policies that the guard left in service, which policy.pt has; "
                "the curve has the scores of all policies that it tested."
            )
        score = self.runs[0].metadata.score
        if score is not None and score.standing == "refused":
            cautions.append(f"No normalised scores: {score.why}.")
        if len({run.seed for run in self.runs}) < len(self.runs):
            cautions.append(
                "Some of these runs have the same seed: the interval is narrower than it should be."
            )
        if len({run.metadata.data.content_hash for run in self.runs}) > 1:
            cautions.append("These runs were not trained on the same rows: the hash of their data differs.")
        values: dict[str, set[str]] = {}
        for run in self.runs:
            plan = run.metadata.plan  # a run of an older version lacks some of them
            options = {name: plan[name] for name in SHARED_OPTIONS if name in plan}
            options["guard"] = RecordedValue("on" if run.returns_in_service is not None else "off")
            for name, hp in {**options, **run.hyperparameters}.items():
                values.setdefault(name, set()).add(str(hp.value))
        mixed = [f"{name} ({', '.join(sorted(seen))})" for name, seen in values.items() if len(seen) > 1]
        if mixed:
            cautions.append(f"These runs differ in more than their seeds: {', '.join(mixed)}.")
        return cautions


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Group the runs; scores with different keys are kept apart like different data sets."""

    def data(run: RunRecord) -> str:
        keys = {other.key for other in runs if other.data == run.data}
        return run.data if len(keys) == 1 else str(run.key)

    found: dict[tuple[str, str], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (data(run), run.name, run.seed)):
        found.setdefault((data(run), run.name), []).append(run)
    return [Group(*key, seeds) for key, seeds in found.items()]


def clashes(runs: Sequence[RunRecord]) -> list[str]:
    """Return the reasons why runs on this page cannot be compared, one for each pair of score keys."""
    reasons = []
    for one, other in combinations(sorted({run.key for run in runs}, key=str), 2):
        try:
            if one.task == other.task:
                compare(one, other)
        except UserError as error:
            reasons.append(f"These {error.what} {error.hint}")
    return reasons


def _interval(amount: Estimate, seeds: int) -> str:
    if amount.interval is None:
        return f"{('', 'one seed', 'two seeds')[seeds]}: no interval"
    return f"[{points(amount.interval[0])}, {points(amount.interval[1])}]"


EXTRAPOLATES = (
    "No data supports such a value: the critic extrapolates. Usual remedies: stronger regularisation towards "
    "the data, or a more pessimistic critic."
)
OVERESTIMATES = (
    "Either the policy is now better than the data, or the critic overestimates: the scores show which."
)


def q_warning(run: RunRecord) -> str | None:
    """Return a warning if Q exceeded the largest return to go of the data, offline or online; else None."""
    largest = run.metadata.data.return_to_go_max
    if largest is None:
        return None
    for sides, unit, meaning in (
        (("offline",), "update", EXTRAPOLATES),
        (("handover", "online"), "environment step", OVERESTIMATES),
    ):
        where, q = run.trace("q", *sides)
        above = np.flatnonzero(q > largest)
        if len(above):
            value, at = points(float(q[above[0]])), f"{unit} {where[above[0]]:,.0f}"
            text = f"Q exceeded the largest return to go of the data ({value} > {points(largest)}) at {at}."
            return f"Seed {run.seed}: {text} {meaning}"
    return None
