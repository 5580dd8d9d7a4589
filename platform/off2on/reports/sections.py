"""The sections of the report of runs: each function returns data, and adds its figures to the sheet."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from off2on.reports import figures
from off2on.reports.groups import Group, q_warning
from off2on.reports.page import Cell, FigureSheet, PageTable
from off2on.runs import statistics
from off2on.runs.metadata import RunMetadata
from off2on.runs.numbers import duration, points, short
from off2on.runs.record import RunRecord

DETAILED = 3
"""Number of groups up to which all figures of each are on the page."""


def verdicts(groups: list[Group]) -> PageTable:
    """Return the main numbers, a row per group."""
    titles = ["at the handover", "initial drop", "final", "over the data"]
    rows: list[list[str | Cell]] = []
    for group in groups:
        cells = dict(group.verdict())
        name = Cell(group.name, [f"{group.data} · {group.seeds}"])
        rows.append([name, *(cells.get(title, "–") for title in titles)])
    return PageTable(["", *titles], rows, "verdict")


def curves(group: Group, sheet: FigureSheet, count: int) -> dict[str, Any]:
    """Return the curve of a group with its cautions, the drop by seed, and the composition of its batches.

    Args:
        group: The group.
        sheet: Takes the figures.
        count: Number of groups on the page.
    """
    first, lines = group.runs[0], group.curves
    alt = f"{group.name} on {group.data}: return {points(group.final.value)} at the end"
    if group.drop is not None:
        alt += f", {points(group.handover.value)} at the handover, drop {points(group.drop.value)}"
    heading = "The handover" if group.went_online else "Offline training"
    figure = figures.handover(lines, first.data_return, first.reference)
    section = {
        "heading": heading if count == 1 else f"{group.name} on {group.data}",
        "subtitle": "" if count == 1 else group.subtitle,
        "level": 2 if count == 1 else 3,
        "cautions": group.cautions(),
        "figure": sheet.add(1, _file("handover", group, count), figure, f"{alt}."),
    }
    details = []
    if group.went_online:
        low = points(-max(curve.drop or 0.0 for curve in lines))
        alt = f"Change of the return in the first 20 % of the online steps by seed; the lowest is {low}."
        mark = sheet.add(2, _file("drop", group, count), figures.drop_by_seed(lines), alt)
        details.append({"title": "The drop by seed", "figure": mark})
    shares = [trace for run in group.runs if len((trace := run.trace("offline_share", "online"))[0])]
    if shares:
        mean = np.mean([share.mean() for _, share in shares])
        alt = f"Share of offline rows in the online batches: {mean:.0%} on average."
        mark = sheet.add(3, _file("batch", group, count), figures.batch_mix(shares), alt)
        details.append({"title": "Offline rows in the batches", "figure": mark})
    return {**section, "details": details if count <= DETAILED else []}


def handover(run: RunRecord) -> dict[str, Any] | None:
    """Return the changes and checks at a run's handover; None if they were not recorded."""
    if run.handover is None:
        return None
    results = {True: "passed", False: "warning", None: "information"}
    checks = [[each.what, results[each.passed], each.found] for each in run.handover.checks]
    changes = [[each.what, each.offline, each.online] for each in run.handover.changed]
    return {
        "seed": run.seed,
        "changes": PageTable(["", "offline", "online"], changes, "text"),
        "checks": PageTable(["check", "result", "found"], checks, "text"),
    }


def _file(name: str, group: Group, count: int) -> str:
    return name if count == 1 else f"{group.data}-{group.name}-{name}"


def comparison(data: str, groups: list[Group], sheet: FigureSheet) -> dict[str, Any] | None:
    """Return the comparison of the groups on one data set; None if there is only one."""
    if len(groups) < 2:
        return None
    best, *others = sorted(groups, key=lambda group: -group.final.value)
    figure = figures.comparison([figures.Bars(group.name, group.final, group.drop) for group in groups])
    finals = [f"{group.name} {points(group.final.value)}" for group in [best, *others]]
    chances = []
    for other in others:
        chance = statistics.probability_of_improvement(*([c.final for c in g.curves] for g in (best, other)))
        text = "too few seeds to decide" if chance.interval is None else f"{chance.value:.0%}"
        if chance.interval is not None:
            text += f" [{chance.interval[0]:.0%}, {chance.interval[1]:.0%}]"
            text += ", which does not separate the two" if chance.interval[0] <= 0.5 else ""
        chances.append(f"{other.name}: {text}")
    mark = sheet.add(0, f"comparison-{data}", figure, f"Final returns: {', '.join(finals)}.")
    return {"data": data, "figure": mark, "best": best.name, "others": chances}


def health(group: Group, sheet: FigureSheet, count: int) -> dict[str, Any]:
    """Return Q of a group beside the returns of the data, warnings, and speeds.

    Args:
        group: The group.
        sheet: Takes the figure.
        count: Number of groups on the page.
    """
    offline, online = (
        [trace for run in group.runs if len((trace := run.trace("q", *sides))[0])]
        for sides in (("offline",), ("handover", "online"))
    )
    mark = None
    if offline or online:
        data = group.runs[0].metadata.data
        mean, largest = data.return_to_go_mean, data.return_to_go_max
        alt = f"Mean Q, at the end {points(float(np.mean([q[-1] for _, q in online or offline])))}."
        alt += f" The largest return to go in the data: {points(largest)}." if largest is not None else ""
        figure = figures.q_health(group.curves, offline, online, mean, largest)
        mark = sheet.add(4, _file("q", group, count), figure, alt)
    speeds = []
    for unit, side in (("updates", "offline"), ("updates", "online"), ("steps", "online")):
        pace = [t for run in group.runs for t in run.trace(f"{unit}_per_s", side)[1] if t > 0]
        speeds += [f"{short(float(np.median(pace)))} {unit}/s {side}"] if pace else []
    return {
        "title": f"{group.name} on {group.data}" if count > 1 else "",
        "warnings": [warning for run in group.runs if (warning := q_warning(run)) is not None],
        "figure": mark if count <= DETAILED else None,
        "speeds": speeds,
    }


RUN_COLUMNS = (
    *("run", "seed", "before", "after", "drop", "recovered", "final", "± episodes", "regret", "updates/s"),
    *("time", "status"),
)


def table_of_runs(groups: list[Group]) -> PageTable:
    """Return the table of the runs, a row for each."""
    several = len({group.data for group in groups}) > 1
    rows: list[list[str | Cell]] = []
    for run in (run for group in groups for run in group.runs):
        curve, spread = run.curve, run.trace("score_std", "offline", "handover", "online")[1]
        if run.returns_in_service is not None:
            spread = np.array([np.std(run.returns_in_service)])
        before = curve.handover if curve.went_online and len(curve.offline) else None
        pace = run.trace("updates_per_s", "offline", "online")[1]
        rows.append([
            Cell(f"{run.data}/" * several + run.folder.name, style="code"), str(run.seed),
            _cell(before), _cell(curve.after), _cell(curve.drop),
            "not yet" if curve.went_online and curve.recovered is None else _cell(curve.recovered, short),
            _cell(curve.final), _cell(spread[-1] if len(spread) else None), _cell(curve.regret),
            _cell(float(np.median(pace)) if len(pace) else None, short),
            _cell(run.metadata.wall_s or None, duration), run.status,
        ])  # fmt: skip
    return PageTable(RUN_COLUMNS, rows)


def _cell(value: float | None, form: Callable[[float], str] = points) -> str:
    return "–" if value is None else form(float(value))


def changed_settings(runs: Sequence[RunRecord]) -> PageTable:
    """Return the hyperparameters and online settings that differ from their defaults."""
    changed = dict.fromkeys(
        (run.name, name, str(hp.value), str(hp.default), hp.origin)
        for run in runs
        for name, hp in run.hyperparameters.items()
        if hp.origin != "default"
    )
    return PageTable(["run of", "hyperparameter", "value", "default", "set by"], list(changed), "text")


def provenance(metadata: RunMetadata) -> str:
    """Return versions, commit, data and device of a run, in one line."""
    data, threads = metadata.data, metadata.threads
    words = [f"{name} {version}" for name, version in (metadata.versions or {}).items()]
    words += [f"commit {metadata.commit}"] if metadata.commit else []
    rows = [f"{count:,} {unit}" for unit in ("rows", "episodes") if (count := getattr(data, unit))]
    words += [f"shards {data.content_hash[:19]}"] if data.content_hash else []
    words += [", ".join(rows)] if rows else []
    words += [metadata.device] if metadata.device else []
    words += [f"{threads} thread{'s' * (threads != 1)}"] if threads else []
    return " · ".join(words)
