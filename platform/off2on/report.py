"""Run folders in, one HTML page out: no script, no network, small enough to mail, at home on paper.

    find_runs(["runs/hopper-medium-v2/*"])  ->  folders
    load_run(folder)                        ->  RunRecord: what its run.yaml and metrics.csv say
    write_report(folders, out)              ->  report.html, and every figure as a PNG

A folder is all a report needs: it can be made elsewhere, years later, and never imports what trained it.
"""

import base64
import csv
import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from off2on import figures, stats
from off2on.errors import UnknownName, UserError, nearest
from off2on.stats import Curve, Estimate, FloatArray, points, short

LARGEST = 200 * 1024  # bytes of one page
DETAILED = 3  # groups up to which every figure of each is on the page
CROWDED = 10  # figures on a page from which they are coarser


class NoEvaluationError(UserError):
    """A run that has nothing to show yet."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says.

    Attributes:
        folder: Where it is.
        algorithm, data: What was run on what.
        strategy: How it crossed; None if it is not online, or not yet.
        seed: Of the run.
        status: running, finished, interrupted or failed.
        data_return: The data's own mean return.
        reference: The returns that count as 0 and 100, if the data set has them.
        curve: Its scores on both sides of the handover.
        sides: offline, handover or online for each row of `metrics`.
        metrics: The numeric columns of metrics.csv [rows], NaN where a cell is empty.
        about: The whole of run.yaml.
    """

    folder: Path
    algorithm: str
    strategy: str | None
    data: str
    seed: int
    status: str
    data_return: float | None
    reference: tuple[float, float] | None
    curve: Curve
    sides: list[str]
    metrics: Mapping[str, FloatArray]
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Algorithm and strategy, in words."""
        return f"{self.algorithm} × {self.strategy}" if self.strategy else self.algorithm

    @property
    def hyperparameters(self) -> Mapping[str, Mapping[str, Any]]:
        """Value, default and origin of each."""
        return self.about.get("hyperparameters") or {}

    def trace(self, name: str, *sides: str) -> tuple[FloatArray, FloatArray]:
        """Where a column has values on these sides, in updates or, online, environment steps; and those."""
        values = self.metrics.get(name, np.full(len(self.sides), np.nan))
        known = np.isin(self.sides, sides) & np.isfinite(values)
        return self.metrics["updates" if sides == ("offline",) else "env_steps"][known], values[known]


def load_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        NoEvaluationError: Nothing was evaluated yet.
        UserError: It is not a run, or its files are not what a run's files are.
    """
    about = _about(folder)
    sides, metrics = _metrics(folder / "metrics.csv")
    scored = np.isfinite(metrics["score"])
    offline, online = ((np.isin(sides, on) & scored) for on in (["offline"], ["handover", "online"]))
    if not scored.any():
        raise NoEvaluationError(
            f"{folder} has no evaluation yet", f"The run is {about.get('status', 'running')}."
        )
    data = about["data"]
    reference = data.get("reference")
    return RunRecord(
        folder=folder,
        algorithm=str(about["algorithm"]),
        strategy=str(about.get("strategy") or "online") if online.any() else None,
        data=str(data["name"]),
        seed=int(about["seed"]),
        status=str(about.get("status", "running")),
        data_return=data.get("return_mean"),
        reference=(float(reference[0]), float(reference[1])) if reference else None,
        curve=Curve(
            metrics["updates"][offline],
            metrics["score"][offline],
            metrics["env_steps"][online],
            metrics["score"][online],
            planned=int(about.get("online") or 0),
        ),
        sides=sides,
        metrics=metrics,
        about=about,
    )


def find_runs(patterns: Iterable[str], root: Path = Path("runs")) -> list[Path]:
    """The run folders meant by folders, globs, folders of runs, or names with only one match below `root`.

    Raises:
        UnknownName: Nothing matches; names the nearest and the places looked in.
        UserError: A name matches several runs.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        places = [Path(match) for match in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
        runs = [run for place in places for run in _runs_below(place)]
        found |= dict.fromkeys(runs or [_named(pattern, root)])
    return list(found)


def _runs_below(place: Path) -> list[Path]:
    inside = (path.parent for path in place.rglob("run.yaml"))
    return [place] if (place / "run.yaml").is_file() else sorted(inside)


def _named(name: str, root: Path) -> Path:
    known = _runs_below(root)
    parts = Path(name).parts
    matches = [run for run in known if run.parts[-len(parts) :] == parts]
    matches = matches or [run for run in known if name in str(run)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = "\n".join(map(str, matches[:10]))
        raise UserError(f"{len(matches)} runs match '{name}'", listed, f"off2on report {matches[0]}")
    close = nearest(name, [run.name for run in known] + [str(run) for run in known])
    looked = f"Looked for a run.yaml in {name} and below {root} ({len(known)} runs)."
    raise UnknownName(
        f"no run is called '{name}'", close + looked, f"off2on report {known[0]}" if known else ""
    )


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "run.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run: it has no run.yaml", f"Looked for {path}.")
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read", str(error)) from error
    if not isinstance(about, dict) or not isinstance(about.get("data"), dict):
        raise UserError(
            f"{path} does not describe a run", "Expected a mapping with algorithm, data and seed."
        )
    missing = [key for key in ("algorithm", "seed") if key not in about]
    missing += ["data.name"] if "name" not in about["data"] else []
    if missing:
        raise UserError(f"{path} does not describe a run", f"It lacks {', '.join(missing)}.")
    return about


def _metrics(path: Path) -> tuple[list[str], dict[str, FloatArray]]:
    if not path.is_file():
        raise NoEvaluationError(f"{path.parent} has no evaluation yet", f"Looked for {path}.")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    missing = [name for name in ("side", "updates", "env_steps", "score") if name not in header]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", f"It has {', '.join(header) or 'no columns'}.")
    whole = [row for row in rows if len(row) == len(header)]  # a line that is being written is not yet a row
    columns = {name: [row[i] for row in whole] for i, name in enumerate(header)}
    sides = columns.pop("side")
    try:
        numbers = {name: np.array([float(c or "nan") for c in cells]) for name, cells in columns.items()}
    except ValueError as error:
        raise UserError(f"{path} holds a cell that is not a number", str(error)) from error
    return sides, numbers


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the page and its figures.

    Args:
        folders: Run folders. Runs of one algorithm, strategy and data set are seeds of one another.
        out: The page; otherwise report.html in the run, or in the folder that several runs share. The figures
            of a single run go to its own figures/, of several beside the page.

    Returns:
        Where the page is.

    Raises:
        UserError: A folder is not a run, or none of them has an evaluation yet.
    """
    runs, waiting = [], []
    for folder in folders:
        try:
            runs.append(load_run(folder))
        except NoEvaluationError as error:
            waiting.append(error)
    if waiting and not runs:
        raise waiting[0]
    if not runs:
        raise UserError("no runs to report on", "Expected at least one run folder.")
    alone = len(folders) == 1
    home = folders[0] if alone else Path(os.path.commonpath([folder.absolute() for folder in folders]))
    page = home / "report.html" if out is None else out / "report.html" if out.is_dir() else out
    sheet = Sheet(home / "figures" if alone or out is None else page.with_name(f"{page.stem}-figures"))
    runs.sort(key=lambda run: (run.data, run.name, run.seed))
    groups = [Group(*key, list(seeds)) for key, seeds in groupby(runs, lambda run: (run.data, run.name))]
    html = sheet.fill(_page(groups, [error.what for error in waiting], sheet))
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(html, encoding="utf-8")
    os.replace(partial, page)
    return page


@dataclass(frozen=True)
class Group:
    """The seeds of one algorithm and strategy on one data set: all of them are online, or none."""

    data: str
    name: str
    runs: list[RunRecord]

    @property
    def curves(self) -> list[Curve]:
        """One per seed."""
        return [run.curve for run in self.runs]

    @property
    def crossed(self) -> bool:
        """Whether the group is online."""
        return self.runs[0].strategy is not None

    @property
    def slug(self) -> str:
        """The group's name as part of a file's."""
        return _slug(f"{self.data}-{self.name}")

    @property
    def handover(self) -> Estimate:
        """The scores just before the switch."""
        return stats.estimate([curve.handover for curve in self.curves])

    @property
    def drop(self) -> Estimate | None:
        """The drops, None if the group is not online."""
        return stats.estimate([curve.drop or 0.0 for curve in self.curves]) if self.crossed else None

    @property
    def final(self) -> Estimate:
        """The last evaluations."""
        return stats.estimate([curve.scores[-1] for curve in self.curves])


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text)


class Sheet:
    """The figures of a page: saved as files, and put into the page as far as there is room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._figures: list[tuple[int, str, Figure, str]] = []

    def put(self, importance: int, name: str, figure: Figure, alt: str) -> str:
        """Keeps a figure and returns the mark that stands for it until `fill`; 0 is the most important."""
        self._figures.append((importance, name, figure, alt))
        return f"<figure-{len(self._figures) - 1}>"  # text is escaped, so no text can hold a mark

    def fill(self, page: str) -> str:
        """The page with its figures: in the order of importance, until it is as large as a page may be."""
        aside = [
            f"<p class=quiet>{escape(alt)} (The figure would make this page too large to mail: "
            f"<code>{escape(self.folder.name)}/{escape(name)}.png</code>.)</p>"
            for _, name, _, alt in self._figures
        ]
        marks = [mark for mark in range(len(aside)) if f"<figure-{mark}>" in page]
        room = LARGEST - len(page.encode()) - sum(len(aside[mark].encode()) for mark in marks)
        for mark, (_, name, figure, alt) in sorted(enumerate(self._figures), key=lambda item: item[1][0]):
            image = figures.png(figure, dpi=144 if len(marks) < CROWDED else 96)
            figures.save(image, self.folder / f"{name}.png")
            source = base64.b64encode(image).decode()
            width = round(figure.get_figwidth() * 100)
            tag = f'<img width="{width}" alt="{escape(alt)}" src="data:image/png;base64,{source}">'
            cost = len(tag.encode()) - len(aside[mark].encode())
            if mark in marks and cost <= room:
                room, aside[mark] = room - cost, tag
            page = page.replace(f"<figure-{mark}>", aside[mark])
        return page


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1f24; background: #fff;
       max-width: 860px; margin: 2.5em auto; padding: 0 1em }
h1 { font-size: 1.75em; margin: 0; line-height: 1.25 } h2 { font-size: 1.15em; margin: 1.5em 0 .3em }
h3 { font-size: 1em; margin: 1em 0 .2em } p { margin: .3em 0 }
.quiet, dt, th, small, footer { color: #5c6570 } .quiet, footer { font-size: .87em }
dl { display: flex; flex-wrap: wrap; gap: .3em 3.2em; margin: 1em 0; padding: .7em 0;
     border: solid #dfe2e6; border-width: 1px 0 }
dl div { min-width: 8em } dd { margin: 0 } small { display: block; font-size: .87em; font-weight: 400 }
dd b { font-size: 1.6em; line-height: 1.3 } .loss { color: #d55e00 } .score { color: #0072b2 }
img { max-width: 100%; height: auto; display: block }
.pair { display: flex; flex-wrap: wrap; gap: 0 20px } .pair > * { flex: 1 1 400px }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .82em; width: 100%; margin: .5em 0 }
th, td { text-align: right; padding: .25em .5em .25em 0; white-space: nowrap; vertical-align: top;
         border-bottom: 1px solid #e4e7ea }
th:first-child, td:first-child, .text * { text-align: left }
th { font-weight: 600 } .verdict b { font-size: 1.2em }
.caution { border-left: 3px solid #1b1f24; padding-left: .7em; margin: .6em 0 }
pre, code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .87em }
pre { background: #f4f5f7; padding: .6em .8em; margin: .4em 0; white-space: pre-wrap;
      overflow-wrap: anywhere }
footer { margin-top: 1.6em; border-top: 1px solid #dfe2e6; padding-top: .6em }
@page { size: A4; margin: 9mm }
@media print {
  body { font-size: 8pt; line-height: 1.35; margin: 0; padding: 0; max-width: none }
  h2 { margin: .5em 0 0 } dl { margin: .4em 0; padding: .3em 0 } .scroll { overflow: visible }
  footer { margin-top: .5em; padding-top: .2em; font-size: 6pt } .pair { flex-wrap: nowrap }
  img { max-width: 78% } .pair img { max-width: 88% }
  section, tr, pre { break-inside: avoid }
}
</style>
</head>
<body>
$body
</body>
</html>
""")

METHOD = f"""Interquartile mean over the seeds; brackets are 95&nbsp;% stratified-bootstrap intervals
({stats.RESAMPLES:,} resamples). Fewer than {stats.FEWEST_SEEDS} seeds have no interval: there is too little
to resample. <b>Score</b>: the mean undiscounted return of the deterministic policy. <b>Final</b>: the last
evaluation, never the best."""

CROSSING = """<b>At the handover</b>: the score of the policy that is handed over, just before the switch.
<b>Drop</b>: that score less the lowest in the first 20&nbsp;% of the online steps, the evaluation just after
the switch among them. <b>Made good</b>: the first step at which the mean of three evaluations in a row, from
the lowest on, is back at the handover's score; of several seeds, the median. <b>Regret</b>: score lost per
online step, the area under the handover's level and above the curve."""


def _page(groups: list[Group], waiting: list[str], sheet: Sheet) -> str:
    runs = [run for group in groups for run in group.runs]
    data, names = sorted({run.data for run in runs}), sorted({run.name for run in runs})
    title = escape(f"{_some(names, 'kinds of run')} on {_some(data, 'data sets')}")
    alone = len(groups) == 1
    quiet = f"<p class=quiet>{escape(_subtitle(groups[0]))}</p>" if alone else ""
    verdict = _verdict(groups[0]) if alone else _verdicts(groups)
    parts = [f"<header><h1>{title}</h1>{quiet}</header><main>{verdict}"]
    parts += [_curves(group, sheet, len(groups)) for group in groups]
    parts += [_against(name, [group for group in groups if group.data == name], sheet) for name in data]
    parts += [_health(groups, sheet), _runs(groups, waiting), _again(runs)]
    ends = {f"{run.data}: {' and '.join(map(points, run.reference))}" for run in runs if run.reference}
    told = escape("; ".join(sorted(ends)))
    normal = f"<b>Normalised</b>: 100 × (return − random) / (expert − random), {told}."
    notes = [METHOD, CROSSING if any(group.crossed for group in groups) else "", normal if ends else ""]
    body = "\n".join([*parts, "</main>", f"<footer><p>{' '.join(notes)}</p></footer>"])
    return PAGE.substitute(title=title, body=body)


def _some(names: list[str], what: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {what}"


def _subtitle(group: Group) -> str:
    updates = max(curve.updates[-1] if len(curve.updates) else 0.0 for curve in group.curves)
    words = [f"Offline {short(updates)} updates", _seeds(group)]
    if group.crossed:
        steps = max(curve.steps[-1] for curve in group.curves)
        words[0] += f", then online {short(steps)} environment steps"
    words += [str(env)] if (env := group.runs[0].about.get("env")) else []
    wall = [float(run.about["wall_s"]) for run in group.runs if run.about.get("wall_s")]
    words += [f"{_duration(float(np.median(wall)))}{' a seed' if len(wall) > 1 else ''}"] if wall else []
    return " · ".join(words)


@dataclass(frozen=True)
class Cell:
    """One number of the verdict: its title, its kind (loss, score or neither), and the lines below it."""

    title: str
    number: str
    kind: str
    below: list[str]

    def __str__(self) -> str:
        small = "".join(f"<small>{line}</small>" for line in self.below)
        return f"<b class='{self.kind}'>{self.number}</b>{small}"


def _cells(group: Group) -> list[Cell]:
    first, curves = group.runs[0], group.curves

    def below(amount: Estimate) -> list[str]:
        told = [_interval(amount, len(curves))]
        if first.reference is not None:
            low, high = first.reference
            told.append(f"normalised {points(100 * (amount.value - low) / (high - low))}")
        return told

    final, drop = group.final, group.drop
    cells = [Cell("final", points(final.value), "score", below(final))]
    if drop is not None:
        ten = stats.iqm([c.online[-10:].mean() for c in curves])
        cells[0].below.append(f"mean of last ten {points(ten)}")
        switch = f"{points(stats.iqm([c.online[0] for c in curves]))} just after the switch"
        before = Cell("at the handover", points(group.handover.value), "", [*below(group.handover), switch])
        back = stats.recovery(curves) if drop.value > 0 else "nothing to make good"
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


def _verdict(group: Group) -> str:
    cells = "".join(f"<div><dt>{cell.title}</dt><dd>{cell}</dd></div>" for cell in _cells(group))
    return f"<dl>{cells}</dl>"


def _verdicts(groups: list[Group]) -> str:
    titles = ["at the handover", "initial drop", "final", "over the data"]
    rows = []
    for group in groups:
        cells = {cell.title: str(cell) for cell in _cells(group)}
        name = f"{escape(group.name)}<small>{escape(group.data)} · {_seeds(group)}</small>"
        rows.append([name, *(cells.get(title, "–") for title in titles)])
    return _table(["", *titles], rows, "verdict")


def _seeds(group: Group) -> str:
    return f"{len(group.runs)} seeds" if len(group.runs) > 1 else f"one seed ({group.runs[0].seed})"


def _interval(amount: Estimate, seeds: int) -> str:
    if amount.interval is None:
        return f"{('', 'one seed', 'two seeds')[seeds]}: no interval"
    return f"[{points(amount.interval[0])}, {points(amount.interval[1])}]"


def _cautions(group: Group) -> list[str]:
    """What a reader must know before believing the numbers."""
    told = []
    for run in group.runs:
        if run.status != "finished":
            told.append(f"{run.folder.name} is {run.status}: its last evaluation stands for its final score.")
        if lost := int((~np.isfinite(run.metrics["score"])).sum()):
            told.append(f"{run.folder.name} has {lost} evaluations without a score; they are left out.")
    if len({run.seed for run in group.runs}) < len(group.runs):
        told.append("Some of these runs have the same seed: the interval is narrower than it should be.")
    if len({run.about["data"].get("content_hash") for run in group.runs}) > 1:
        told.append("These runs did not learn from the same rows: the hash of their data differs.")
    values: dict[str, set[str]] = {}
    for run in group.runs:
        for name, hp in run.hyperparameters.items():
            values.setdefault(name, set()).add(str(hp.get("value")))
    mixed = [f"{name} ({', '.join(sorted(seen))})" for name, seen in values.items() if len(seen) > 1]
    if mixed:
        told.append(f"These runs are not seeds of one another: they differ in {', '.join(mixed)}.")
    return told


def _curves(group: Group, sheet: Sheet, of: int) -> str:
    """The handover of one group, its drop seed by seed and its batches; `of` is how many groups there are."""
    first, curves = group.runs[0], group.curves
    alt = f"{group.name} on {group.data}: return {points(group.final.value)} at the last evaluation"
    if group.drop is not None:
        alt += f", {points(group.handover.value)} at the handover, drop {points(group.drop.value)}"
    heading = "The handover" if group.crossed else "Learning offline"
    prefix, level = "", 2
    if of > 1:
        heading, prefix, level = f"{group.name} on {group.data}", f"{group.slug}-", 3
    figure = figures.handover(curves, first.data_return, first.reference)
    mark = sheet.put(1, f"{prefix}handover", figure, f"{alt}.")
    words = "" if of == 1 else f"<p class=quiet>{escape(_subtitle(group))}</p>"
    cautions = "".join(f"<p class=caution>{escape(text)}</p>" for text in _cautions(group))
    parts = [f"<section><h2>{escape(heading)}</h2>{words}{cautions}{mark}</section>"]
    pair = []
    if group.crossed:
        low = points(-max(curve.drop or 0.0 for curve in curves))
        alt = f"Change of the return in the first 20 % of the online steps by seed; the lowest is {low}."
        mark = sheet.put(2, f"{prefix}drop", figures.drop_by_seed(curves), alt)
        pair.append(f"<section><h{level}>The drop, seed by seed</h{level}>{mark}</section>")
    fed = [trace for run in group.runs if len((trace := run.trace("offline_share", "online"))[0])]
    if fed:
        mean = np.mean([share.mean() for _, share in fed])
        alt = f"Share of offline rows in the online batches: {mean:.0%} on average."
        mark = sheet.put(3, f"{prefix}batch", figures.batch_mix(fed), alt)
        pair.append(f"<section><h{level}>What the learner was fed</h{level}>{mark}</section>")
    return "".join([*parts, f"<div class=pair>{''.join(pair)}</div>" if pair and of <= DETAILED else ""])


def _against(data: str, groups: list[Group], sheet: Sheet) -> str:
    """The groups on one data set beside one another."""
    if len(groups) < 2:
        return ""
    best, *others = sorted(groups, key=lambda group: -group.final.value)
    figure = figures.comparison([figures.Bars(group.name, group.final, group.drop) for group in groups])
    finals = [f"{group.name} {points(group.final.value)}" for group in [best, *others]]
    rows = []
    for other in others:
        chance = stats.probability_of_improvement(*([c.scores[-1] for c in g.curves] for g in (best, other)))
        told = "too few seeds to say" if chance.interval is None else f"{chance.value:.0%}"
        if chance.interval is not None:
            told += f" [{chance.interval[0]:.0%}, {chance.interval[1]:.0%}]"
            told += ", so these seeds do not tell the two apart" if chance.interval[0] <= 0.5 else ""
        rows.append(f"{escape(other.name)}: {told}")
    mark = sheet.put(0, f"comparison-{_slug(data)}", figure, f"Final returns: {', '.join(finals)}.")
    return (
        f"<section><h2>Against the other runs on {escape(data)}</h2>{mark}<p class=quiet>Probability that a "
        f"seed of {escape(best.name)} ends above one of {'; of '.join(rows)}.</p></section>"
    )


def _health(groups: list[Group], sheet: Sheet) -> str:
    parts = []
    for group in groups:
        if len(groups) > 1:
            parts.append(f"<h3>{escape(group.name)} on {escape(group.data)}</h3>")
        parts += [f"<p class=caution>{escape(text)}</p>" for run in group.runs for text in _q_warning(run)]
        offline, online = (
            [trace for run in group.runs if len((trace := run.trace("q", *sides))[0])]
            for sides in (("offline",), ("handover", "online"))
        )
        if offline or online:
            data = group.runs[0].about["data"]
            mean, largest = data.get("return_to_go_mean"), data.get("return_to_go_max")
            alt = f"Mean Q, at the end {points(float(np.mean([q[-1] for _, q in online or offline])))}."
            alt += f" The largest return to go in the data: {points(largest)}." if largest is not None else ""
            figure = figures.q_health(group.curves, offline, online, mean, largest)
            mark = sheet.put(4, "q" if len(groups) == 1 else f"{group.slug}-q", figure, alt)
            parts.append(mark if len(groups) <= DETAILED else "")
        speeds = []
        for unit, side in (("updates", "offline"), ("updates", "online"), ("steps", "online")):
            pace = [t for run in group.runs for t in run.trace(f"{unit}_per_s", side)[1] if t > 0]
            speeds += [f"{short(float(np.median(pace)))} {unit}/s {side}"] if pace else []
        parts.append(f"<p class=quiet>{' · '.join(speeds)}</p>")
    if len(groups) > DETAILED:
        parts.append(f"<p class=quiet>The figures of each group are in {escape(sheet.folder.name)}/.</p>")
    return f"<section><h2>Health: Q against the data's return to go</h2>{''.join(parts)}</section>"


EXTRAPOLATES = """No data supports such a value: the critic is extrapolating. Usual cures: a stronger pull
towards the data, or a more pessimistic critic."""
HOPES = """Either the policy now does better than the data ever did, or the critic is too hopeful: the scores
tell which."""


def _q_warning(run: RunRecord) -> list[str]:
    """A line if Q passed the largest return to go in the data, offline or else online."""
    largest = run.about["data"].get("return_to_go_max")
    if largest is None:
        return []
    for sides, unit, meaning in (
        (("offline",), "update", EXTRAPOLATES),
        (("handover", "online"), "environment step", HOPES),
    ):
        where, q = run.trace("q", *sides)
        above = np.flatnonzero(q > largest)
        if len(above):
            value, at = points(float(q[above[0]])), f"{unit} {where[above[0]]:,.0f}"
            passed = f"Q passed the largest return to go in the data ({value} > {points(largest)}) at {at}."
            return [f"Seed {run.seed}: {passed} {meaning}"]
    return []


def _runs(groups: list[Group], waiting: list[str]) -> str:
    several = len({group.data for group in groups}) > 1
    rows = []
    for run in (run for group in groups for run in group.runs):
        curve, spread = run.curve, run.trace("score_std", "offline", "handover", "online")[1]
        before = curve.handover if curve.crossed and len(curve.offline) else None
        pace = run.trace("updates_per_s", "offline", "online")[1]
        rows.append([
            f"<code>{escape(f'{run.data}/' * several + run.folder.name)}</code>", str(run.seed),
            _cell(before), _cell(curve.after), _cell(curve.drop),
            "not yet" if curve.crossed and curve.made_good is None else _cell(curve.made_good, short),
            _cell(curve.scores[-1]), _cell(spread[-1] if len(spread) else None), _cell(curve.regret),
            _cell(float(np.median(pace)) if len(pace) else None, short),
            _cell(run.about.get("wall_s"), _duration), escape(run.status),
        ])  # fmt: skip
    heads = [
        "run",
        "seed",
        "before",
        "after",
        "drop",
        "made good",
        "final",
        "± episodes",
        "regret",
        "updates/s",
    ]
    late = "".join(f"<p class=quiet>Left out: {escape(what)}.</p>" for what in waiting)
    return f"<section><h2>Runs</h2>{_table([*heads, 'time', 'status'], rows)}{late}</section>"


def _cell(value: float | None, form: Callable[[float], str] = points) -> str:
    return "–" if value is None else form(float(value))


def _table(heads: list[str], rows: list[list[str]], kind: str = "") -> str:
    """A table of cells that are HTML already, without the columns in which no row says anything."""
    kept = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    head = "".join(f"<th scope=col>{heads[i]}</th>" for i in kept)
    body = "".join(f"<tr>{''.join(f'<td>{row[i]}</td>' for i in kept)}</tr>" for row in rows)
    table = f"<table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=scroll>{table}</div>"


def _again(runs: list[RunRecord]) -> str:
    """The commands, where all of it was made, and what in it is not the default."""
    commands = dict.fromkeys(str(run.about["command"]) for run in runs if run.about.get("command"))
    made = dict.fromkeys(f"<p class=quiet>{escape(_provenance(run.about))}</p>" for run in runs)
    changed = dict.fromkeys(
        (run.name, name, *(str(hp.get(key)) for key in ("value", "default", "origin")))
        for run in runs
        for name, hp in run.hyperparameters.items()
        if hp.get("origin", "default") != "default"
    )
    heads = ["run of", "hyperparameter", "value", "default", "set by"]
    differs = _table(heads, [[escape(cell) for cell in row] for row in changed], "text")
    nothing = "<p class=quiet>Nothing: every hyperparameter has its default.</p>"
    return (
        f"<section><h2>To run this again</h2><pre>{escape(chr(10).join(commands))}</pre>{''.join(made)}</section>"
        f"<section><h2>What differs from the defaults</h2>{differs if changed else nothing}</section>"
    )


def _provenance(about: Mapping[str, Any]) -> str:
    data = about["data"]
    words = [f"{name} {version}" for name, version in (about.get("versions") or {}).items()]
    words += [f"commit {about['commit']}"] if about.get("commit") else []
    rows = [f"{data[what]:,} {what}" for what in ("rows", "episodes") if data.get(what)]
    words += [f"shards {str(data['content_hash'])[:19]}"] if data.get("content_hash") else []
    words += [", ".join(rows)] if rows else []
    words += [str(about["device"])] if about.get("device") else []
    words += [f"{about['threads']} thread{'s' * (about['threads'] != 1)}"] if about.get("threads") else []
    return " · ".join(words)


def _duration(seconds: float) -> str:
    total = round(seconds)
    for size, small, names in ((86_400, 3_600, ("d", "h")), (3_600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if total >= size:
            return f"{total // size} {names[0]} {total % size // small} {names[1]}"
    return f"{total} s"
