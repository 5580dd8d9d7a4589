"""The sections of the page, each a function from groups of runs to HTML; their figures go onto a `Sheet`."""

import base64
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from off2on.reports import figures
from off2on.reports.groups import Cell, Group, q_warning
from off2on.runs import statistics
from off2on.runs.folder import write
from off2on.runs.numbers import duration, points, short
from off2on.runs.record import RunRecord

LARGEST = 200 * 1024  # bytes of one page
DETAILED = 3  # groups up to which every figure of each is on the page
CROWDED = 10  # figures on a page from which they are coarser


class Sheet:
    """The figures of a page: saved as files, and put into the page as far as there is room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._figures: list[tuple[int, str, Figure, str]] = []

    def put(self, importance: int, name: str, figure: Figure, alt: str) -> str:
        """Keeps a figure and returns the mark that stands for it until `fill`; 0 is the most important."""
        self._figures.append((importance, re.sub(r"[^\w.]+", "-", name), figure, alt))
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
        self.folder.mkdir(parents=True, exist_ok=True)
        for mark, (_, name, figure, alt) in sorted(enumerate(self._figures), key=lambda item: item[1][0]):
            image = figures.png(figure, dpi=144 if len(marks) < CROWDED else 96)
            write(self.folder / f"{name}.png", image)
            source = base64.b64encode(image).decode()
            width = round(figure.get_figwidth() * 100)
            tag = f'<img width="{width}" alt="{escape(alt)}" src="data:image/png;base64,{source}">'
            cost = len(tag.encode()) - len(aside[mark].encode())
            if mark in marks and cost <= room:
                room, aside[mark] = room - cost, tag
            page = page.replace(f"<figure-{mark}>", aside[mark])
        return page


def verdict(group: Group) -> str:
    """The numbers that count, of one group."""
    cells = "".join(f"<div><dt>{cell.title}</dt><dd>{_amount(cell)}</dd></div>" for cell in group.verdict())
    return f"<dl>{cells}</dl>"


def verdicts(groups: list[Group]) -> str:
    """The numbers that count, one line per group."""
    titles = ["at the handover", "initial drop", "final", "over the data"]
    rows = []
    for group in groups:
        cells = {cell.title: _amount(cell) for cell in group.verdict()}
        name = f"{escape(group.name)}<small>{escape(group.data)} · {group.seeds}</small>"
        rows.append([name, *(cells.get(title, "–") for title in titles)])
    return table(["", *titles], rows, "verdict")


def _amount(cell: Cell) -> str:
    small = "".join(f"<small>{line}</small>" for line in cell.below)
    return f"<b class='{cell.kind}'>{cell.number}</b>{small}"


def curves(group: Group, sheet: Sheet, of: int) -> str:
    """The handover of one group, its drop seed by seed and its batches; `of` is how many groups there are."""
    first, lines = group.runs[0], group.curves
    alt = f"{group.name} on {group.data}: return {points(group.final.value)} at the last evaluation"
    if group.drop is not None:
        alt += f", {points(group.handover.value)} at the handover, drop {points(group.drop.value)}"
    heading = "The handover" if group.went_online else "Learning offline"
    level = 2
    if of > 1:
        heading, level = f"{group.name} on {group.data}", 3
    figure = figures.handover(lines, first.data_return, first.reference)
    mark = sheet.put(1, _file("handover", group, of), figure, f"{alt}.")
    words = "" if of == 1 else f"<p class=quiet>{escape(group.subtitle)}</p>"
    parts = [f"<section><h2>{escape(heading)}</h2>{words}{warned(group.cautions())}{mark}</section>"]
    pair = []
    if group.went_online:
        low = points(-max(curve.drop or 0.0 for curve in lines))
        alt = f"Change of the return in the first 20 % of the online steps by seed; the lowest is {low}."
        mark = sheet.put(2, _file("drop", group, of), figures.drop_by_seed(lines), alt)
        pair.append(f"<section><h{level}>The drop, seed by seed</h{level}>{mark}</section>")
    fed = [trace for run in group.runs if len((trace := run.trace("offline_share", "online"))[0])]
    if fed:
        mean = np.mean([share.mean() for _, share in fed])
        alt = f"Share of offline rows in the online batches: {mean:.0%} on average."
        mark = sheet.put(3, _file("batch", group, of), figures.batch_mix(fed), alt)
        pair.append(f"<section><h{level}>What the learner was fed</h{level}>{mark}</section>")
    return "".join([*parts, f"<div class=pair>{''.join(pair)}</div>" if pair and of <= DETAILED else ""])


def changed(run: RunRecord) -> str:
    """What a run's handover changed, and what was found there; nothing if that was not kept."""
    if not run.handover:
        return ""
    moved = [each for each in run.handover["changes"] if each["offline"] != each["online"]]
    rows = [[escape(str(each[key])) for key in ("what", "offline", "online")] for each in moved]
    marks = {True: "as it must be", False: "not as it should be", None: "to be known"}
    found = [
        [escape(str(each["what"])), marks[each["passed"]], escape(str(each["found"]))]
        for each in run.handover["checks"]
    ]
    changes, checks = (
        table(["", "offline", "online"], rows, "text"),
        table(["checked", "", ""], found, "text"),
    )
    return f"<section><h2>What changed at the handover of seed {run.seed}</h2>{changes}{checks}</section>"


def _file(name: str, group: Group, of: int) -> str:
    return name if of == 1 else f"{group.data}-{group.name}-{name}"


def warned(cautions: list[str]) -> str:
    """What a reader must know first, a paragraph each."""
    return "".join(f"<p class=caution>{escape(text)}</p>" for text in cautions)


def against(data: str, groups: list[Group], sheet: Sheet) -> str:
    """The groups on one data set beside one another; nothing if there is only one."""
    if len(groups) < 2:
        return ""
    best, *others = sorted(groups, key=lambda group: -group.final.value)
    figure = figures.comparison([figures.Bars(group.name, group.final, group.drop) for group in groups])
    finals = [f"{group.name} {points(group.final.value)}" for group in [best, *others]]
    rows = []
    for other in others:
        chance = statistics.probability_of_improvement(
            *([c.scores[-1] for c in g.curves] for g in (best, other))
        )
        told = "too few seeds to say" if chance.interval is None else f"{chance.value:.0%}"
        if chance.interval is not None:
            told += f" [{chance.interval[0]:.0%}, {chance.interval[1]:.0%}]"
            told += ", so these seeds do not tell the two apart" if chance.interval[0] <= 0.5 else ""
        rows.append(f"{escape(other.name)}: {told}")
    mark = sheet.put(0, f"comparison-{data}", figure, f"Final returns: {', '.join(finals)}.")
    return (
        f"<section><h2>Against the other runs on {escape(data)}</h2>{mark}<p class=quiet>Probability that a "
        f"seed of {escape(best.name)} ends above one of {'; of '.join(rows)}.</p></section>"
    )


def health(groups: list[Group], sheet: Sheet) -> str:
    """Q of each group against what the data really returned, and the speeds."""
    parts = []
    for group in groups:
        if len(groups) > 1:
            parts.append(f"<h3>{escape(group.name)} on {escape(group.data)}</h3>")
        parts.append(warned([warning for run in group.runs if (warning := q_warning(run)) is not None]))
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
            mark = sheet.put(4, _file("q", group, len(groups)), figure, alt)
            parts.append(mark if len(groups) <= DETAILED else "")
        speeds = []
        for unit, side in (("updates", "offline"), ("updates", "online"), ("steps", "online")):
            pace = [t for run in group.runs for t in run.trace(f"{unit}_per_s", side)[1] if t > 0]
            speeds += [f"{short(float(np.median(pace)))} {unit}/s {side}"] if pace else []
        parts.append(f"<p class=quiet>{' · '.join(speeds)}</p>")
    if len(groups) > DETAILED:
        parts.append(f"<p class=quiet>The figures of each group are in {escape(sheet.folder.name)}/.</p>")
    return f"<section><h2>Health: Q against the data's return to go</h2>{''.join(parts)}</section>"


HEADS = ["run", "seed", "before", "after", "drop", "made good", "final", "± episodes", "regret", "updates/s"]


def table_of_runs(groups: list[Group], waiting: list[str]) -> str:
    """One line per run.

    Args:
        groups: All groups.
        waiting: What is said of the runs without an evaluation.
    """
    several = len({group.data for group in groups}) > 1
    rows = []
    for run in (run for group in groups for run in group.runs):
        curve, spread = run.curve, run.trace("score_std", "offline", "handover", "online")[1]
        before = curve.handover if curve.went_online and len(curve.offline) else None
        pace = run.trace("updates_per_s", "offline", "online")[1]
        rows.append([
            f"<code>{escape(f'{run.data}/' * several + run.folder.name)}</code>", str(run.seed),
            _cell(before), _cell(curve.after), _cell(curve.drop),
            "not yet" if curve.went_online and curve.recovered is None else _cell(curve.recovered, short),
            _cell(curve.scores[-1]), _cell(spread[-1] if len(spread) else None), _cell(curve.regret),
            _cell(float(np.median(pace)) if len(pace) else None, short),
            _cell(run.about.get("wall_s"), duration), escape(run.status),
        ])  # fmt: skip
    late = "".join(f"<p class=quiet>Left out: {escape(what)}.</p>" for what in waiting)
    return f"<section><h2>Runs</h2>{table([*HEADS, 'time', 'status'], rows)}{late}</section>"


def _cell(value: float | None, form: Callable[[float], str] = points) -> str:
    return "–" if value is None else form(float(value))


def table(heads: list[str], rows: list[list[str]], kind: str = "") -> str:
    """A table of cells that are HTML already, without the columns in which no row says anything."""
    kept = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    head = "".join(f"<th scope=col>{heads[i]}</th>" for i in kept)
    body = "".join(f"<tr>{''.join(f'<td>{row[i]}</td>' for i in kept)}</tr>" for row in rows)
    table = f"<table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=scroll>{table}</div>"


def again(runs: list[RunRecord]) -> str:
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
    differs = table(heads, [[escape(cell) for cell in row] for row in changed], "text")
    nothing = "<p class=quiet>Nothing: every hyperparameter has its default.</p>"
    lines = escape("\n".join(commands))
    return (
        f"<section><h2>To run this again</h2><pre>{lines}</pre>{''.join(made)}</section>"
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
