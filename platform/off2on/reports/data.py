"""The report of `off2on data check`: findings, numbers and figures of a data set on one HTML page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from datasets_io.diagnosis import Diagnosis
from datasets_io.diagnosis.finding import SEVERITIES
from datasets_io.diagnosis.neighbours import Projection
from datasets_io.diagnosis.sample import CAPACITY, MAX_COLUMNS, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from off2on.reports import data_figures
from off2on.reports.images import image_of, png
from off2on.reports.page import Cell, PageTable, render
from off2on.runs.folder import write
from off2on.runs.numbers import points, short

DOTS = 4000
"""Most states in the figure of coverage."""
DPI = 120

Part = dict[str, Any]
"""A section with a figure: title, caption, alt, image, width."""


def write_data_report(diagnosis: Diagnosis, where: str, page: Path) -> Path:
    """Write the page in one step and return its path.

    Args:
        diagnosis: The findings.
        where: Folder or file of the data, for the heading.
        page: Path of the page.
    """
    write(page, data_report(diagnosis, where))
    return page


def data_report(diagnosis: Diagnosis, where: str) -> str:
    """Return the page as text; see `write_data_report`."""
    return render("data.html", **page_data(diagnosis, where))


def page_data(diagnosis: Diagnosis, where: str) -> dict[str, Any]:
    """Return the data of the page."""
    facts: list[list[str | Cell]] = [[fact.name, Cell(fact.text, [fact.caution])] for fact in diagnosis.facts]
    return {
        "title": f"The data {diagnosis.name}",
        "subtitle": where,
        "verdict": _verdict(diagnosis),
        "findings": diagnosis.findings,
        "figures": [] if diagnosis.summary is None else list(_figures(diagnosis.summary)),
        "facts": PageTable([], facts, "facts text"),
        "sample_rows": f"{CAPACITY:,}",
        "sample_columns": MAX_COLUMNS,
    }


def _verdict(diagnosis: Diagnosis) -> list[tuple[str, Cell]]:
    """Return the main numbers with their titles."""
    summary = diagnosis.summary
    cells = []
    for severity in SEVERITIES:
        count = diagnosis.count(severity)
        kind = "loss" if severity == "error" and count else ""
        cells.append((f"{severity}s", Cell(str(count), [], "strong", kind)))
    if summary is not None:
        returns = summary.episodes.returns
        rows = Cell(short(summary.rows), [f"{len(summary.episodes):,} episodes"], "strong")
        spread = f"{points(float(returns.min()))} to {points(float(returns.max()))}"
        mean = Cell(points(float(returns.mean())), [spread], "strong", "score")
        cells += [("rows", rows), ("mean return", mean)]
    effective = [fact.values["rows"] for fact in diagnosis.facts if fact.name == "effective"]
    below = ["by autocorrelation"]
    return cells + [("independent rows", Cell(short(rows), below, "strong")) for rows in effective]


def _figures(summary: DataSummary) -> Iterator[list[Part]]:
    """Yield the sections with figures, one or two beside each other."""
    episodes, windows = summary.episodes, summary.windows
    done = episodes.terminated.astype(bool)
    lengths, returns = episodes.lengths.astype(np.float64), episodes.returns
    yield _pair(
        ("Returns", data_figures.returns(returns), f"Returns, median {points(float(np.median(returns)))}."),
        (
            "Returns in the order of the data",
            data_figures.returns_over_time(returns, done),
            "Return of each episode by its number; filled dots ended by the task.",
        ),
    )
    rewards: tuple[str, Figure | None, str] = ("Rewards", None, "")
    if windows is not None:
        place = np.arange(len(windows)) * summary.rows / len(windows)
        figure = data_figures.rewards_over_time(place, windows.rewards.astype(np.float64), summary.rows)
        rewards = (
            "Rewards in the order of the data",
            figure,
            "Sampled rewards by row, and their running mean.",
        )
    yield _pair(
        (
            "Lengths and ends of episodes",
            data_figures.lengths(lengths, done, summary.time_limit),
            f"Lengths; {int(done.sum()):,} episodes ended by the task, {int((~done).sum()):,} cut off.",
        ),
        rewards,
    )
    if windows is not None:
        yield [_actions(summary, windows)]
        yield from ([part] for part in _coverage(summary, windows))
        yield [_columns(windows)]


def _actions(summary: DataSummary, windows: Windows) -> Part:
    acts = windows.actions[:, 1].astype(np.float64)
    if summary.discrete:
        counts = np.bincount(acts[:, 0].astype(int), minlength=summary.actions.choices or 1).astype(
            np.float64
        )
        return _section("Actions", data_figures.choices(counts), "How often each action was taken.")
    low, high = summary.actions.low, summary.actions.high
    fits = low is not None and high is not None and len(low) >= acts.shape[1]
    kept = spread_columns(len(low), acts.shape[1]) if fits and low is not None else np.arange(acts.shape[1])
    names = [f"action {column}" for column in kept]
    box = (low[kept], high[kept]) if fits and low is not None and high is not None else (None, None)
    figure = data_figures.histograms(acts, names, *box)
    words = (
        "Dashed lines: the bounds; orange and hatched: outside them." if fits else "No bounds are declared."
    )
    return _section("Actions and their bounds", figure, f"Histograms of the actions. {words}", words)


def _coverage(summary: DataSummary, windows: Windows) -> list[Part]:
    project = Projection.of(windows.obs[:, 1])
    if project is None or project.axes.shape[1] < 2:
        return []
    chosen = np.random.default_rng(0).permutation(len(windows))[:DOTS]
    dots, other = project(windows.obs[chosen, 1])[:, :2], None
    words = "Each dot is a state; early ones are dark. Where there are none, a critic extrapolates."
    if summary.against is not None:
        name, beside = summary.against
        other = project(beside.obs[:DOTS:2, 1])[:, :2]
        words += f" Grey rings: states of {name}."
    figure = data_figures.coverage(dots, chosen / len(windows), project.explained[:2].tolist(), other)
    return [_section("Visited states", figure, words, words)]


def _columns(windows: Windows) -> Part:
    values = windows.obs[:, 1].astype(np.float64)
    chosen = spread_columns(values.shape[1], data_figures.COLUMNS)
    figure = data_figures.histograms(values[:, chosen], [f"obs {column}" for column in chosen])
    words = "Each has its own scale; the outermost 0.1 % at each end are left out."
    if len(chosen) < values.shape[1]:
        words += f" {len(chosen)} of {values.shape[1]} columns, evenly spread."
    return _section("Observations by column", figure, f"Histograms of the observations. {words}", words)


def _pair(*items: tuple[str, Figure | None, str]) -> list[Part]:
    return [_section(title, figure, alt) for title, figure, alt in items if figure is not None]


def _section(title: str, figure: Figure, alt: str, caption: str = "") -> Part:
    image = image_of(figure, png(figure, dpi=DPI))
    return {"title": title, "caption": caption, "alt": alt, **image}
