"""Ways across from the same handovers: run folders in, one page and one table out.

The table, scores.csv, has a row per run, and every number of the page can be computed from those that are
finished: where a run is on its way says nothing about where it ends. Scores of different tasks are put
together only where their scale does not matter: in the probability of improvement, and in the performance
profile of gains over the data's own return.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from off2on.errors import UserError
from off2on.reports import comparison_figures as figures
from off2on.reports import sections
from off2on.reports.groups import Group
from off2on.reports.run import CROSSING, METHOD, PAGE
from off2on.reports.sections import Sheet
from off2on.runs import statistics
from off2on.runs.folder import write
from off2on.runs.numbers import points, short
from off2on.runs.record import NoEvaluationError, RunRecord, load_run
from off2on.runs.statistics import Estimate

Cells = Mapping[tuple[str, str], Sequence[Path]]
"""(handover, way) to the folders of its seeds."""

MEASURES = ("after", "lowest", "drop", "made_good", "area", "regret", "final")
COLUMNS = (
    *("handover", "way", "data", "algorithm", "strategy", "seed", "data_return", "score"),
    *MEASURES,
    *("env_steps", "updates", "wall_s", "status", "command"),
)


def write_comparison(out: Path, cells: Cells, left_out: Mapping[tuple[str, str], str]) -> tuple[Path, Path]:
    """Writes report.html, its figures and scores.csv.

    Args:
        out: Their folder.
        cells: The runs.
        left_out: The pairs that were not run, and why.

    Returns:
        Where the page and the table are.

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
            except (NoEvaluationError, UserError):
                notes.append(f"{' × '.join(pair)}: {folder} has no evaluation yet")
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
    sheet = Sheet(out / "figures")
    write(out / "report.html", sheet.fill(_page(finished, notes, sheet)))
    return out / "report.html", table


def _row(handover: str, way: str, run: RunRecord) -> dict[str, Any]:
    curve = run.curve
    early = curve.online[curve.steps <= curve.window]
    return {
        "handover": handover,
        "way": way,
        "data": run.data,
        "algorithm": run.algorithm,
        "strategy": run.strategy,
        "seed": run.seed,
        "data_return": run.data_return,
        "score": curve.handover,
        "after": curve.after,
        "lowest": float(early.min()) if len(early) else None,
        "drop": curve.drop,
        "made_good": curve.recovered,
        "area": curve.area,
        "regret": curve.regret,
        "final": float(curve.scores[-1]),
        "env_steps": int(curve.steps[-1]) if curve.went_online else 0,
        "updates": int(run.metrics["updates"][-1]),
        "wall_s": run.about.get("wall_s"),
        "status": run.status,
        "command": run.about.get("command"),
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _page(found: Mapping[tuple[str, str], list[RunRecord]], notes: list[str], sheet: Sheet) -> str:
    ways = list(dict.fromkeys(way for _, way in found))
    tasks = {
        handover: {
            way: Group(handover, way, found[handover, way]) for way in ways if (handover, way) in found
        }
        for handover in dict.fromkeys(handover for handover, _ in found)
    }
    # Means over different handovers are no comparison; a gain is counted in sizes of the data's own return.
    shared, apart = {}, []
    for name, groups in tasks.items():
        if len(groups) < len(ways):
            apart.append(f"{name} × {_list([way for way in ways if way not in groups])} is missing")
        elif not all(run.data_return for group in groups.values() for run in group.runs):
            apart.append(f"the data of {name} have no return of their own")
        else:
            shared[name] = groups
    notes = notes + [f"{why}: its runs count nothing where handovers are put together" for why in apart]
    seeds = max(len(runs) for runs in found.values())
    title = f"{len(ways)} ways across from {len(tasks)} handovers"
    parts = [f"<header><h1>{title}</h1><p class=quiet>seeds of each: {seeds}</p></header><main>"]
    parts += [_together(shared, ways, sheet)] if len(shared) > 1 else []
    parts += [_task(name, groups, sheet) for name, groups in tasks.items()]
    left = "".join(f"<li>{escape(note)}</li>" for note in notes)
    parts += [f"<section><h2>Left out</h2><ul class=quiet>{left}</ul></section>"] if notes else []
    made = f"""All runs with their numbers and commands are in scores.csv. <b>P(above)</b>: the probability
that a seed ends above one of the other way. That all of {seeds} seeds end above all of {seeds} others happens
once in {math.comb(2 * seeds, seeds)} pairs of ways that are equally good."""
    body = "\n".join([*parts, f"</main><footer><p>{made} {METHOD} {CROSSING}</p></footer>"])
    return PAGE.substitute(title=title, body=body)


def verdict(groups: Mapping[str, Group]) -> str:
    """Who won and who lost, in words, and what these seeds cannot tell apart."""
    if len(groups) < 2:
        return "There is only one way to speak of."
    first, *others = sorted(groups.values(), key=lambda group: -group.final.value)
    told = [f"{first.name} ends highest, at {points(first.final.value)}"]
    beaten: list[str] = []
    level: list[str] = []
    for other in others:
        low = _chance(first, other).interval
        (beaten if low is not None and low[0] > 0.5 else level).append(other.name)
    told += [f"above {_list(beaten)}"] if beaten else []
    count = "one seed does" if len(first.runs) == 1 else f"{len(first.runs)} seeds do"
    told += [f"{count} not tell it apart from {_list(level)}"] if level else []
    words = "; ".join(told) + f". {others[-1].name} ends lowest, at {points(others[-1].final.value)}."
    least, *_, most = sorted(groups.values(), key=lambda group: group.drop.value if group.drop else 0.0)
    if least.drop is None or most.drop is None or most.drop.value == least.drop.value:
        return words
    deeper = statistics.probability_of_improvement(
        *([curve.drop or 0.0 for curve in each.curves] for each in (most, least))
    ).interval
    sure = "" if deeper is not None and deeper[0] > 0.5 else ", which these seeds do not tell apart"
    words += f" {most.name} drops most, by {points(most.drop.value)}, {least.name} least, by "
    return f"{words}{points(least.drop.value)}{sure}."


def _task(name: str, groups: Mapping[str, Group], sheet: Sheet) -> str:
    """One handover: its words, its table, its figures."""
    one = next(iter(groups.values()))
    base, run = next(iter(groups)), one.runs[0]
    rows = []
    for way, group in groups.items():
        better = None if way == base else _chance(group, groups[base])
        back = sum(curve.recovered is not None for curve in group.curves)
        numbers = [group.final, group.drop, *(_measured(group, what) for what in ("area", "regret"))]
        chance = _amount(better, "{:.0%}".format)
        rows.append([escape(way), *map(_amount, numbers), f"{back} of {len(group.runs)}", chance])
    heads = ["way", "final", "drop", "mean score online", "regret per step", "made good", f"P(above {base})"]
    steps = short(max(float(curve.steps[-1]) for curve in one.curves))
    before = statistics.estimate([curve.handover for curve in one.curves])
    told = f"{run.algorithm} on {run.data}, {steps} environment steps from {points(before.value)}"
    told += "" if run.data_return is None else f"; the data's own return is {points(run.data_return)}"
    bars = figures.bars(list(groups.values()))
    courses = figures.courses(list(groups.values()), run.data_return)
    marks = sheet.put(0, f"{name}-bars", bars, f"Final scores and drops of {_list(list(groups))}.")
    marks += sheet.put(1, f"{name}-courses", courses, f"Scores online of {_list(list(groups))}.")
    table = sections.table([escape(head) for head in heads], rows)
    words = f"<p class=quiet>{escape(told)}.</p><p>{escape(verdict(groups))}</p>"
    return f"<section><h2>{escape(name)}</h2>{words}{table}{marks}</section>"


def _together(tasks: Mapping[str, Mapping[str, Group]], ways: list[str], sheet: Sheet) -> str:
    """Handovers that every way set out from: how often each is above the first, and the profile of gains."""
    base, rows = ways[0], []
    gains = {way: [_gains(groups[way]) for groups in tasks.values()] for way in ways}
    for way in ways:
        chances = [_chance(groups[way], groups[base]).value for groups in tasks.values()]
        mean = "–" if way == base else f"{np.mean(chances):.0%}"
        rows.append([escape(way), _amount(statistics.estimate(*gains[way])), mean])
    heads = ["way", "gain over the data", escape(f"P(above {base}), mean over handovers")]
    figure = figures.profiles({way: np.concatenate(each) for way, each in gains.items()})
    mark = sheet.put(2, "profile", figure, "Performance profiles of the gains.")
    what = "<b>Gain</b>: 1 + (final − data's own return) / |data's own return|, of all runs of a way."
    parts = f"{sections.table(heads, rows)}{mark}<p class=quiet>{what}</p>"
    return f"<section><h2>{escape(_list(list(tasks)))} together</h2>{parts}</section>"


def _gains(group: Group) -> statistics.FloatArray:
    """Final scores in sizes of the data's own return, which is 1 [seeds]."""
    finals = np.array([curve.scores[-1] for curve in group.curves])
    own = np.array([run.data_return or np.nan for run in group.runs])
    return np.asarray(1 + (finals - own) / np.abs(own))


def _measured(group: Group, what: str) -> Estimate | None:
    values = [getattr(curve, what) for curve in group.curves]
    return None if None in values else statistics.estimate(values)


def _chance(one: Group, other: Group) -> Estimate:
    return statistics.probability_of_improvement(
        *([curve.scores[-1] for curve in each.curves] for each in (one, other))
    )


def _amount(amount: Estimate | None, form: Any = points) -> str:
    """A number above its interval."""
    if amount is None:
        return "–"
    low_high = amount.interval
    below = "" if low_high is None else f"<small>[{form(low_high[0])}, {form(low_high[1])}]</small>"
    return f"{form(amount.value)}{below}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
