"""The page of a search.

Only a finished trial can be the best: a trial that was stopped early was scored after fewer updates.
"""

from typing import Any

import numpy as np

from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from off2on.errors import UserError
from off2on.reports.page import Cell, FigureSheet, PageTable, render
from off2on.reports.search import cost, figures
from off2on.reports.search.best import OPTIMISTIC, best_yaml, command, named, searched, verdict
from off2on.reports.search.importance import importance
from off2on.reports.search.record import SearchRecord, TrialRecord, load_search
from off2on.runs.bucket_mirror import copy, fetch_all
from off2on.runs.folder import write
from off2on.runs.numbers import duration, points, short

MEASURES = {
    "final_score": "mean return at the last evaluation",
    "handover_score": "mean return at the handover",
    "smallest_drop": "the drop after the handover, negative",
    "area": "mean return over the online steps",
    "fqe": "return estimated from the data by fitted Q evaluation",
}
METHODS = {
    "random": "random search",
    "grid": "grid search",
    "optuna": "Optuna",
    "pbt": "population-based training",
}
BEST, PAGE_FILE, FIGURES = "best.yaml", "report.html", "figures"
ROWS = 60
"""Most rows of the table on the page; all are in trials.csv."""


def write_search_report(place: Place) -> tuple[Place, Place]:
    """Write report.html with its figures and best.yaml, and return the locations of both.

    Args:
        place: Location of the search, perhaps in a bucket: search.yaml, trials.csv and trials/.

    Raises:
        UserError: It is not a search, or no trial has finished with a score.
    """
    folder = fetch_all(place)
    search = load_search(folder)
    if not search.finished:
        counts = ", ".join(f"{count} {status}" for status, count in search.counts.items())
        raise UserError(
            f"no trial of {place} has finished with a score yet.",
            f"{place / 'trials.csv'} has {counts or 'no trial'}.",
            f"off2on tune {file} --resume" if (file := search.metadata.get("file")) else "",
        )
    sheet = FigureSheet(folder / FIGURES)
    write(folder / BEST, best_yaml(search))
    write(folder / PAGE_FILE, sheet.fill(render("search.html", **page_data(search, sheet))))
    if isinstance(place, Location):
        for name in (BEST, PAGE_FILE, FIGURES):
            copy(folder / name, place / name)
    return place / PAGE_FILE, place / BEST


def page_data(search: SearchRecord, sheet: FigureSheet) -> dict[str, Any]:
    """Return the data of the page; `sheet` takes the figures."""
    _, data = named(search)
    counts = ", ".join(f"{count} {status}" for status, count in search.counts.items())
    facts = [f"{len(search.trials)} trials ({counts})"]
    facts += [METHODS.get(str(by), str(by))] if (by := search.metadata.get("by")) else []
    facts += ["early stopping by ASHA"] if search.metadata.get("stop_early") == "asha" else []
    facts += [f"maximised: {search.objective}"]
    meaning = MEASURES.get(search.objective, search.objective)
    return {
        "title": f"Search of {searched(search)} on {' and '.join(data)}",
        "subtitle": " · ".join(facts),
        "cells": _numbers(search),
        "verdict": f"{verdict(search)} {OPTIMISTIC.format(len(search.finished))}",
        "command": command(search),
        "drawn": _drawn(search, sheet),
        "importance": _importance(search, sheet),
        "cost": cost.section(search, sheet),
        "trials": _table(search),
        "more_trials": max(0, len(search.trials) - ROWS),
        "meaning": meaning + (", normalised, mean over the data sets" if len(data) > 1 else ""),
    }


def _numbers(search: SearchRecord) -> list[tuple[str, Cell]]:
    """Return the main numbers with their titles."""
    best, *others = search.finished
    lines = [_interval(best), f"trial {best.name}"]
    cells = [("best", Cell(points(best.score), lines, "strong", "score"))]
    if others:
        ahead = f"+{points(best.score - others[0].score)}"
        lines = [others[0].score_text, f"trial {others[0].name}"]
        cells.append(("over the second best", Cell(ahead, lines, "strong")))
    default = next((trial for trial in search.finished if trial.is_default), None)
    if default is not None:
        lines = [_interval(default), f"trial {default.name}"]
        cells.append(("the defaults", Cell(points(default.score), lines, "strong")))
    total = cost.spent(search.trials)
    lines = [f"{short(total[name])} {unit}" for name, unit in cost.UNITS.items() if total[name]]
    return [*cells, ("spent", Cell(duration(total["seconds"]), lines, "strong"))]


def _interval(trial: TrialRecord) -> str:
    if trial.interval is None:
        return f"seeds: {trial.seeds or '?'}, no interval"
    return f"[{points(trial.interval[0])}, {points(trial.interval[1])}]"


def _drawn(search: SearchRecord, sheet: FigureSheet) -> dict[str, Any] | None:
    """Return parallel coordinates and the score against each hyperparameter; None with too few trials."""
    shown = search.finished + [trial for trial in search.trials if trial.status == "stopped"]
    scores = np.array([trial.score for trial in search.finished])
    axes, ours = search.axes(shown), search.axes(search.finished)
    if not ours or len(scores) < 2:  # stopped trials may have values that no finished one has
        return None
    best = ", ".join(f"{name} {value}" for name, value in search.finished[0].values.items() if value)
    parallel = figures.parallel(axes, np.append(scores, np.full(len(shown) - len(scores), np.nan)))
    low, high = np.array([trial.interval or (np.nan, np.nan) for trial in search.finished]).T
    panels = figures.against_score(ours, scores, low, high)
    return {
        "parallel": sheet.add(0, "parallel", parallel, f"All trials; the best has {best}."),
        "panels": sheet.add(2, "parameters", panels, "The score against each hyperparameter."),
        "share": f"{figures.BEST:.0%}",
    }


def _importance(search: SearchRecord, sheet: FigureSheet) -> dict[str, Any] | None:
    """Return the importance of the hyperparameters, or the reason why it is not known."""
    axes = search.axes(search.finished)
    if not axes:
        return None
    scores = np.array([trial.score for trial in search.finished])
    found = importance(np.stack([axis.values for axis in axes], axis=1), scores)
    if found.why:
        return {"why": found.why}
    names = [axis.name for axis in axes]
    alt = f"{names[int(found.shares.argmax())]} has the largest effect."
    mark = sheet.add(1, "importance", figures.importances(names, found.shares), alt)
    return {"why": "", "figure": mark, "explained": f"{found.explained:.0%}"}


def _table(search: SearchRecord) -> PageTable:
    rows: list[list[str | Cell]] = []
    for trial in search.trials[:ROWS]:
        score = points(trial.score) if np.isfinite(trial.score) else "–"
        values = [trial.values[name] or "–" for name in search.names]
        costs = [short(trial.spent[name]) if name in trial.spent else "–" for name in cost.UNITS]
        time = duration(trial.spent["seconds"]) if "seconds" in trial.spent else "–"
        cell = Cell(score, [_interval(trial)]) if trial.interval else score
        rows.append([trial.name, cell, *values, trial.seeds or "–", *costs, time, trial.status])
    heads = ["trial", "score", *search.names, "seeds", "updates", "steps", "episodes", "time", "status"]
    return PageTable(heads, rows)
