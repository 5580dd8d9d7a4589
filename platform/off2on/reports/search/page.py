"""The page of a search.

Only a finished trial can be the best: the score of one that was stopped early is that of fewer updates.
"""

from html import escape

import numpy as np

from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from off2on.errors import UserError
from off2on.reports import sections
from off2on.reports.run import PAGE
from off2on.reports.search import cost, figures
from off2on.reports.search.best import OPTIMISTIC, best_yaml, command, named, searched, verdict
from off2on.reports.search.importance import importance
from off2on.reports.search.record import Search, Trial, load_search
from off2on.reports.sections import Sheet
from off2on.runs.bucket_mirror import copy, gather
from off2on.runs.folder import write
from off2on.runs.numbers import duration, points, short

MEASURES = {
    "final_score": "mean return at the last evaluation",
    "handover_score": "mean return just before the switch",
    "smallest_drop": "the drop after the switch, negative",
    "area": "mean return over the online steps",
    "fqe": "return estimated from the data by fitted Q evaluation",
}
WAYS = {
    "random": "random search",
    "grid": "grid search",
    "optuna": "Optuna",
    "pbt": "population-based training",
}
BEST, PAGE_FILE, FIGURES = "best.yaml", "report.html", "figures"
ROWS = 60  # of the table on the page; all are in trials.csv


def write_findings(place: Place) -> tuple[Place, Place]:
    """Writes report.html with its figures, and best.yaml.

    Args:
        place: Of the search, perhaps in a bucket: search.yaml, trials.csv and trials/.

    Returns:
        Where the page and best.yaml are.

    Raises:
        UserError: It is no search, or no trial finished with a score.
    """
    folder = gather(place)
    search = load_search(folder)
    if not search.finished:
        counts = ", ".join(f"{count} {status}" for status, count in search.counts.items())
        raise UserError(
            f"no trial of {place} has finished with a score yet.",
            f"{place / 'trials.csv'} has {counts or 'no trial'}.",
            f"off2on tune {file} --resume" if (file := search.about.get("file")) else "",
        )
    sheet = Sheet(folder / FIGURES)
    write(folder / BEST, best_yaml(search))
    write(folder / PAGE_FILE, sheet.fill(_page(search, sheet)))
    if isinstance(place, Location):
        for name in (BEST, PAGE_FILE, FIGURES):
            copy(folder / name, place / name)
    return place / PAGE_FILE, place / BEST


def _page(search: Search, sheet: Sheet) -> str:
    _, data = named(search)
    title = escape(f"{searched(search)} on {' and '.join(data)}: a search")
    counts = ", ".join(f"{count} {status}" for status, count in search.counts.items())
    words = [f"{len(search.trials)} trials ({counts})"]
    words += [WAYS.get(str(by), str(by))] if (by := search.about.get("by")) else []
    words += ["asha stops early"] if search.about.get("stop_early") == "asha" else []
    words += [f"maximised: {search.objective}"]
    parts = [
        f"<header><h1>{title}</h1><p class=quiet>{escape(' · '.join(words))}</p></header><main>",
        _numbers(search),
        f"<p>{escape(verdict(search))} {OPTIMISTIC.format(len(search.finished))}</p>",
        f"<pre>{escape(command(search))}</pre>",
        _drawn(search, sheet),
        _mattered(search, sheet),
        cost.section(search, sheet),
        _table(search),
    ]
    meaning = MEASURES.get(search.objective, search.objective)
    meaning += ", normalised, mean over the data sets" if len(data) > 1 else ""
    foot = f"""<b>Score</b>: {escape(meaning)}; the mean over the seeds of a trial, in brackets its
95&nbsp;% interval. Trials that were stopped early were scored after fewer updates: they are not compared with
the others. <b>Time of the trials</b>: one after the other."""
    body = "\n".join([*parts, f"</main><footer><p>{foot}</p></footer>"])
    return PAGE.substitute(title=title, body=body)


def _numbers(search: Search) -> str:
    """The numbers that count."""
    best, *others = search.finished
    cells = [("best", points(best.score), "score", [_interval(best), f"trial {best.name}"])]
    if others:
        ahead = f"+{points(best.score - others[0].score)}"
        cells.append(("over the second best", ahead, "", [others[0].told, f"trial {others[0].name}"]))
    default = next((trial for trial in search.finished if trial.is_default), None)
    if default is not None:
        cells.append(
            ("the defaults", points(default.score), "", [_interval(default), f"trial {default.name}"])
        )
    total = cost.spent(search.trials)
    costs = [f"{short(total[name])} {what}" for name, what in cost.WHAT.items() if total[name]]
    cells.append(("spent", duration(total["seconds"]), "", costs))
    told = ""
    for title, number, kind, below in cells:
        small = "".join(f"<small>{escape(line)}</small>" for line in below)
        told += f"<div><dt>{title}</dt><dd><b class='{kind}'>{number}</b>{small}</dd></div>"
    return f"<dl>{told}</dl>"


def _interval(trial: Trial) -> str:
    if trial.interval is None:
        return f"seeds: {trial.seeds or '?'}, no interval"
    return f"[{points(trial.interval[0])}, {points(trial.interval[1])}]"


def _drawn(search: Search, sheet: Sheet) -> str:
    """Parallel coordinates, and the score against each hyperparameter."""
    shown = search.finished + [trial for trial in search.trials if trial.status == "stopped"]
    scores = np.array([trial.score for trial in search.finished])
    axes, ours = search.axes(shown), search.axes(search.finished)
    if not ours or len(scores) < 2:  # those that were stopped may have what no finished one has
        return ""
    best = ", ".join(f"{name} {value}" for name, value in search.finished[0].values.items() if value)
    whole = figures.parallel(axes, np.append(scores, np.full(len(shown) - len(scores), np.nan)))
    lines = sheet.put(0, "parallel", whole, f"All trials; the best has {best}.")
    low, high = np.array([trial.interval or (np.nan, np.nan) for trial in search.finished]).T
    panels = figures.against_score(ours, scores, low, high)
    each = sheet.put(2, "parameters", panels, "The score against each hyperparameter.")
    share = f"{figures.BEST:.0%}"
    return f"""<section><h2>All trials</h2>{lines}<p class=quiet>Blue: the best {share} of the finished
trials, thick the best of all. Dotted: stopped early.</p></section>
<section><h2>The score against each hyperparameter</h2>{each}<p class=quiet>Finished trials with their
intervals; a ring around the best.</p></section>"""


def _mattered(search: Search, sheet: Sheet) -> str:
    """Importance, or why nothing can be said."""
    axes = search.axes(search.finished)
    if not axes:
        return ""
    scores = np.array([trial.score for trial in search.finished])
    found = importance(np.stack([axis.values for axis in axes], axis=1), scores)
    told = f"<p>Nothing can be said: {escape(found.why)}.</p>"
    if not found.why:
        names = [axis.name for axis in axes]
        most = f"{names[int(found.shares.argmax())]} matters most."
        mark = sheet.put(1, "importance", figures.importances(names, found.shares), most)
        told = f"""{mark}<p class=quiet>A forest of trees predicts {found.explained:.0%} of the variance of
trials it has not seen. Bars: what it loses when a hyperparameter is shuffled, which is its share alone and
together with others. A few per cent are no more than chance.</p>"""
    return f"<section><h2>What the score depends on</h2>{told}</section>"


def _table(search: Search) -> str:
    rows = []
    for trial in search.trials[:ROWS]:
        score = points(trial.score) if np.isfinite(trial.score) else "–"
        score += f"<small>{_interval(trial)}</small>" if trial.interval else ""
        values = [escape(trial.values[name]) or "–" for name in search.names]
        costs = [short(trial.spent[name]) if name in trial.spent else "–" for name in cost.WHAT]
        time = duration(trial.spent["seconds"]) if "seconds" in trial.spent else "–"
        seeds, status = escape(trial.seeds) or "–", escape(trial.status)
        rows.append([escape(trial.name), score, *values, seeds, *costs, time, status])
    names = [escape(name) for name in search.names]
    heads = ["trial", "score", *names, "seeds", "updates", "steps", "episodes", "time", "status"]
    left = len(search.trials) - len(rows)
    more = f"<p class=quiet>{left} more are in trials.csv.</p>" if left else ""
    return f"<section><h2>Trials</h2>{sections.table(heads, rows)}{more}</section>"
