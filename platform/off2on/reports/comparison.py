"""The comparison of variants of the online phase from the same handovers: one page and one table.

The table, scores.csv, has a row per run. The page uses finished runs only, because the score of an
unfinished run says nothing about its final one. Scores of different tasks are combined only where their
scale does not matter: in the probability of improvement, and in the performance profile of gains over the
return of the data.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from off2on.errors import UserError
from off2on.reports import comparison_figures as figures
from off2on.reports.groups import Group
from off2on.reports.page import Cell, FigureSheet, PageTable, render
from off2on.reports.run import method, reason_left_out
from off2on.runs import statistics
from off2on.runs.folder import write
from off2on.runs.numbers import points, short
from off2on.runs.record import RunRecord, load_run
from off2on.runs.statistics import Estimate

Cells = Mapping[tuple[str, str], Sequence[Path]]
"""(handover, variant) to the folders of its seeds."""

MEASURES = ("after", "lowest", "drop", "recovered", "area", "regret", "final")
COLUMNS = (
    *("handover", "variant", "data", "algorithm", "strategy", "seed", "data_return", "score"),
    *MEASURES,
    *("env_steps", "updates", "wall_s", "status", "command"),
)


def write_comparison(out: Path, cells: Cells, left_out: Mapping[tuple[str, str], str]) -> tuple[Path, Path]:
    """Write report.html, its figures and scores.csv, and return the paths of the page and the table.

    Args:
        out: Their folder.
        cells: The runs.
        left_out: The pairs that were not run, with the reasons.

    Raises:
        UserError: No run is finished yet.
    """
    found: dict[tuple[str, str], list[RunRecord]] = {}
    finished: dict[tuple[str, str], list[RunRecord]] = {}
    notes = [f"{' × '.join(pair)}: {why}" for pair, why in left_out.items()]
    for pair, folders in cells.items():
        for folder in folders:
            try:
                run = load_run(folder)
            except UserError as error:
                notes.append(f"{' × '.join(pair)}: {reason_left_out(error)}")
                continue
            found.setdefault(pair, []).append(run)
            if run.status == "finished":
                finished.setdefault(pair, []).append(run)
            else:
                notes.append(f"{' × '.join(pair)}: seed {run.seed} is {run.status}")
    if not finished:
        raise UserError(f"no run below {out} is finished yet.", "", "leave out --report-only")
    table = out / "scores.csv"
    write(table, _csv([_row(*pair, run) for pair, runs in found.items() for run in runs]))
    sheet = FigureSheet(out / "figures")
    data = page_data(finished, notes, sheet)
    write(out / "report.html", sheet.fill(render("comparison.html", **data)))
    return out / "report.html", table


def _row(handover: str, variant: str, run: RunRecord) -> dict[str, Any]:
    curve = run.curve
    early = curve.online[curve.steps <= curve.window]
    return {
        "handover": handover,
        "variant": variant,
        "data": run.data,
        "algorithm": run.algorithm,
        "strategy": run.strategy,
        "seed": run.seed,
        "data_return": run.data_return,
        "score": curve.handover,
        "after": curve.after,
        "lowest": float(early.min()) if len(early) else None,
        "drop": curve.drop,
        "recovered": curve.recovered,
        "area": curve.area,
        "regret": curve.regret,
        "final": curve.final,
        "env_steps": int(curve.steps[-1]) if curve.went_online else 0,
        "updates": int(run.metrics["updates"][-1]),
        "wall_s": run.metadata.wall_s or None,
        "status": run.status,
        "command": run.metadata.command,
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def page_data(
    found: Mapping[tuple[str, str], list[RunRecord]], notes: list[str], sheet: FigureSheet
) -> dict[str, Any]:
    """Return the data of the page.

    Args:
        found: (handover, variant) to its finished runs.
        notes: Runs that are left out, with the reasons.
        sheet: Takes the figures.
    """
    variants = list(dict.fromkeys(variant for _, variant in found))
    tasks = {
        handover: {
            variant: Group(handover, variant, found[handover, variant])
            for variant in variants
            if (handover, variant) in found
        }
        for handover in dict.fromkeys(handover for handover, _ in found)
    }
    # A mean over different handovers is no comparison; a gain is counted in units of the data's return.
    shared, excluded = {}, []
    for name, groups in tasks.items():
        if len(groups) < len(variants):
            missing = [variant for variant in variants if variant not in groups]
            excluded.append(f"{name} × {_list(missing)} is missing")
        elif not all(run.data_return for group in groups.values() for run in group.runs):
            excluded.append(f"the data of {name} have no return")
        else:
            shared[name] = groups
    seeds = max(len(runs) for runs in found.values())
    return {
        "title": f"{len(variants)} variants from {len(tasks)} handovers",
        "subtitle": f"seeds of each: {seeds}",
        "together": _together(shared, variants, sheet) if len(shared) > 1 else None,
        "tasks": [_task(name, groups, sheet) for name, groups in tasks.items()],
        "notes": notes
        + [f"{why}: its runs are left out of the comparison over handovers" for why in excluded],
        "seeds": seeds,
        "orders": math.comb(2 * seeds, seeds),
        **method(),
    }


def verdict(groups: Mapping[str, Group]) -> str:
    """Return which variants end highest and drop most, and which ones these seeds do not separate."""
    if len(groups) < 2:
        return "There is only one variant."
    first, *others = sorted(groups.values(), key=lambda group: -group.final.value)
    parts = [f"{first.name} ends highest, at {points(first.final.value)}"]
    beaten: list[str] = []
    level: list[str] = []
    for other in others:
        low = _chance(first, other).interval
        (beaten if low is not None and low[0] > 0.5 else level).append(other.name)
    parts += [f"above {_list(beaten)}"] if beaten else []
    count = "one seed does" if len(first.runs) == 1 else f"{len(first.runs)} seeds do"
    parts += [f"{count} not separate it from {_list(level)}"] if level else []
    words = "; ".join(parts) + f". {others[-1].name} ends lowest, at {points(others[-1].final.value)}."
    least, *_, most = sorted(groups.values(), key=lambda group: group.drop.value if group.drop else 0.0)
    if least.drop is None or most.drop is None or most.drop.value == least.drop.value:
        return words
    deeper = statistics.probability_of_improvement(
        *([curve.drop or 0.0 for curve in each.curves] for each in (most, least))
    ).interval
    sure = "" if deeper is not None and deeper[0] > 0.5 else ", which these seeds do not separate"
    words += f" {most.name} drops most, by {points(most.drop.value)}, {least.name} least, by "
    return f"{words}{points(least.drop.value)}{sure}."


def _task(name: str, groups: Mapping[str, Group], sheet: FigureSheet) -> dict[str, Any]:
    """Return the section of one handover: facts, verdict, table, figures."""
    one = next(iter(groups.values()))
    base, run = next(iter(groups)), one.runs[0]
    rows: list[list[str | Cell]] = []
    for variant, group in groups.items():
        better = None if variant == base else _chance(group, groups[base])
        recovered = sum(curve.recovered is not None for curve in group.curves)
        numbers = [group.final, group.drop, *(_measured(group, name) for name in ("area", "regret"))]
        chance = _amount(better, "{:.0%}".format)
        rows.append([variant, *map(_amount, numbers), f"{recovered} of {len(group.runs)}", chance])
    heads = [
        "variant",
        "final",
        "drop",
        "mean score online",
        "regret per step",
        "recovered",
        f"P(above {base})",
    ]
    steps = short(max(float(curve.steps[-1]) for curve in one.curves))
    before = statistics.estimate([curve.handover for curve in one.curves])
    facts = f"{run.algorithm} on {run.data}, {steps} environment steps from {points(before.value)}"
    facts += "" if run.data_return is None else f"; the return of the data is {points(run.data_return)}"
    members, names = list(groups.values()), _list(list(groups))
    bars = sheet.add(0, f"{name}-bars", figures.bars(members), f"Final scores and drops of {names}.")
    courses = figures.courses(members, run.data_return)
    return {
        "name": name,
        "facts": facts,
        "verdict": verdict(groups),
        "table": PageTable(heads, rows),
        "figures": [bars, sheet.add(1, f"{name}-courses", courses, f"Scores online of {names}.")],
    }


def _together(
    tasks: Mapping[str, Mapping[str, Group]], variants: list[str], sheet: FigureSheet
) -> dict[str, Any]:
    """Return the section of the handovers that have runs of every variant: gains and their profile."""
    base = variants[0]
    rows: list[list[str | Cell]] = []
    gains = {variant: [_gains(groups[variant]) for groups in tasks.values()] for variant in variants}
    for variant in variants:
        chances = [_chance(groups[variant], groups[base]).value for groups in tasks.values()]
        mean = "–" if variant == base else f"{np.mean(chances):.0%}"
        rows.append([variant, _amount(statistics.estimate(*gains[variant])), mean])
    figure = figures.profiles({variant: np.concatenate(each) for variant, each in gains.items()})
    return {
        "title": f"{_list(list(tasks))} together",
        "table": PageTable(["variant", "gain over the data", f"P(above {base}), mean over handovers"], rows),
        "figure": sheet.add(2, "profile", figure, "Performance profiles of the gains."),
    }


def _gains(group: Group) -> statistics.FloatArray:
    """Return final scores [seeds] relative to the return of the data, which counts as 1."""
    finals = np.array([curve.final for curve in group.curves])
    own = np.array([run.data_return or np.nan for run in group.runs])
    return np.asarray(1 + (finals - own) / np.abs(own))


def _measured(group: Group, what: str) -> Estimate | None:
    values = [getattr(curve, what) for curve in group.curves]
    return None if None in values else statistics.estimate(values)


def _chance(one: Group, other: Group) -> Estimate:
    return statistics.probability_of_improvement(
        *([curve.final for curve in each.curves] for each in (one, other))
    )


def _amount(amount: Estimate | None, form: Any = points) -> str | Cell:
    """Return a number with its interval below it."""
    if amount is None:
        return "–"
    bounds = amount.interval
    return Cell(form(amount.value), [] if bounds is None else [f"[{form(bounds[0])}, {form(bounds[1])}]"])


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
