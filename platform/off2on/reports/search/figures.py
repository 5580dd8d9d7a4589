"""The figures of a search, in the style of `reports.figures`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from off2on.reports.figures import BLUE, GREY, INK, TEXT, WIDE, clean, count_axis
from off2on.reports.search.bandit import Selection
from off2on.reports.search.record import Axis
from off2on.runs.numbers import points
from off2on.runs.statistics import FloatArray

BEST = 0.25
"""Share of the trials that are coloured."""

MOST_TICKS = 5
"""Most choices that are all labelled at an axis."""


def parallel(axes: Sequence[Axis], scores: FloatArray) -> Figure:
    """Draw a line per trial through its values to its score: the best quarter blue, the very best thick.

    Args:
        axes: What is searched.
        scores: Of each trial [N], the best first; NaN of those that were stopped early, which end before it.
    """
    figure = Figure(figsize=(WIDE[0], WIDE[1] + 0.3))
    panel = figure.add_axes((0.07, 0.06, 0.86, 0.76))
    panel.axis("off")
    every = [*axes, Axis("score", scores)]
    heights = np.stack([_height(axis) for axis in every], axis=1)  # [N, axes]
    for place, axis in enumerate(axes):
        heights[:, place] += 0.05 * _apart(len(scores)) if axis.words else 0.0
    scored = int(np.isfinite(scores).sum())
    best = max(1, round(BEST * scored))
    for trial in reversed(range(len(scores))):  # the best are drawn last, on top
        style: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "alpha": 0.45}
        if trial >= scored:
            style = {"color": GREY, "linewidth": 0.8, "alpha": 0.6, "linestyle": (0, (1, 2))}
        elif trial < best:
            style = {"color": BLUE, "linewidth": 3 if trial == 0 else 1.4, "alpha": 1 if trial == 0 else 0.75}
        panel.plot(range(len(every)), heights[trial], clip_on=False, solid_capstyle="round", **style)
    few = len(every) < 8
    patch = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
    for place, axis in enumerate(every):
        panel.plot([place, place], [0, 1], color=INK, linewidth=1, zorder=3, clip_on=False)
        panel.annotate(
            axis.name, (place, 1.0), (0, 9), textcoords="offset points", ha="center", va="bottom",
            fontsize=TEXT, fontweight="bold", color=INK, annotation_clip=False, rotation=0 if few else 15,
        )  # fmt: skip
        for height, text in _ticks(axis):
            panel.annotate(
                text, (place, height), (4, 0), textcoords="offset points", va="center", fontsize=TEXT,
                color=INK, bbox=patch, zorder=4, annotation_clip=False,
            )  # fmt: skip
    panel.set_xlim(0, len(every) - 1)
    panel.set_ylim(0, 1)
    return figure


def _range(axis: Axis) -> tuple[float, float]:
    values = np.log10(axis.values) if axis.log else axis.values
    return float(np.nanmin(values)), float(np.nanmax(values))


def _height(axis: Axis) -> FloatArray:
    """Scale values to 0 … 1, from the smallest to the largest."""
    low, high = _range(axis)
    values = np.log10(axis.values) if axis.log else axis.values
    return np.asarray(
        (values - low) / (high - low) if high > low else np.where(np.isfinite(values), 0.5, np.nan)
    )


def _apart(count: int) -> FloatArray:
    """Return small offsets [count] in [-0.5, 0.5) that separate trials with the same word."""
    return np.asarray(np.arange(count) * 0.618 % 1 - 0.5)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return heights and texts of ticks: every word, or the smallest, the largest and values between."""
    if axis.words:
        last = max(1, len(axis.words) - 1)
        return [
            (number / last if len(axis.words) > 1 else 0.5, word) for number, word in enumerate(axis.words)
        ]
    low, high = _range(axis)
    listed = axis.listed
    if listed is None or len(listed) > MOST_TICKS:
        places = np.linspace(low, high, 3 if high > low else 1)
        listed = 10**places if axis.log else places
    within = np.log10(listed) if axis.log else listed
    heights = (within - low) / (high - low) if high > low else np.full(len(listed), 0.5)
    form = points if axis.name == "score" else "{:.3g}".format
    return [(float(height), form(value)) for height, value in zip(heights, listed, strict=True)]


def importances(names: Sequence[str], shares: FloatArray) -> Figure:
    """Draw shares of the variance of the scores, the largest at the top."""
    order = np.argsort(shares)
    height = 0.65 + 0.27 * len(names)
    figure = Figure(figsize=(WIDE[0], height))
    axes = figure.add_axes((0.2, 0.5 / height, 0.7, 1 - 0.6 / height))
    clean(axes, "x")
    for y, which in enumerate(order):
        size = max(0.0, float(shares[which]))
        axes.barh(y, size, height=0.5, color=BLUE)
        axes.annotate(
            f"{size:.0%}",
            (size, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=TEXT,
            color=GREY,
        )
    axes.set_yticks(range(len(names)), [names[which] for which in order])
    axes.set_xlim(0, 1.1 * max(1e-6, float(shares.max())))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("share of the variance of the scores")
    return figure


def against_score(axes: Sequence[Axis], scores: FloatArray, low: FloatArray, high: FloatArray) -> Figure:
    """Draw the score against each hyperparameter, a panel for each.

    Args:
        axes: What is searched.
        scores: Of the finished trials [N], the best first.
        low: Lower ends of their intervals [N], NaN where there is none.
        high: Upper ends [N].
    """
    columns = min(4, max(2, len(axes)))
    rows = math.ceil(len(axes) / columns)
    height = 0.15 + 2.0 * rows
    figure = Figure(figsize=(WIDE[0], height))
    wide, tall = 0.9 / columns, (2.0 * rows) / height / rows
    for number, axis in enumerate(axes):
        row, column = divmod(number, columns)
        box = (0.08 + column * wide, 1 - (row + 1) * tall + 0.45 / height, 0.84 * wide, tall - 0.55 / height)
        panel = figure.add_axes(box, sharey=figure.axes[0] if figure.axes else None)
        clean(panel)
        _scatter(panel, axis, scores, low, high)
        if column:
            panel.tick_params(labelleft=False)
        else:
            panel.set_ylabel("score")
    return figure


def _scatter(panel: Axes, axis: Axis, scores: FloatArray, low: FloatArray, high: FloatArray) -> None:
    x = axis.values + (0.4 * _apart(len(scores)) if axis.words else 0.0)
    panel.vlines(x, low, high, color=BLUE, alpha=0.3, linewidth=1)
    panel.plot(x, scores, "o", color=BLUE, markersize=3.5, alpha=0.75, markeredgewidth=0)
    panel.plot(x[:1], scores[:1], "o", color="none", markeredgecolor=INK, markersize=8)  # the best
    panel.set_xlabel(axis.name)
    if axis.words:
        panel.set_xticks(range(len(axis.words)), [word[:12] for word in axis.words])
        panel.set_xlim(-0.6, len(axis.words) - 0.4)
        return
    if axis.log:
        panel.set_xscale("log")
        panel.minorticks_off()
    if axis.listed is not None and len(axis.listed) <= MOST_TICKS:
        panel.set_xticks(axis.listed)
    elif axis.log:
        subs = (1.0, 3.0) if np.ptp(_range(axis)) < 1.5 else (1.0,)
        panel.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    else:
        panel.locator_params(axis="x", nbins=4)
    panel.margins(x=0.1)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")


def budget(found: Selection, default: float | None, data_return: float | None) -> Figure:
    """Draw the return of the deployed policy and of the episodes played, against evaluation episodes."""
    figure = Figure(figsize=WIDE)
    axes = figure.add_axes((0.09, 0.18, 0.6, 0.78))
    clean(axes)
    pulls = np.arange(1, len(found.chosen) + 1)
    axes.fill_between(pulls, found.low, found.high, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(pulls, found.chosen, color=BLUE, linewidth=2, label="the policy that is chosen (2a)")
    axes.plot(
        pulls, found.earned, color=INK, linewidth=1.2, dashes=(6, 2), label="earned while choosing (2b)"
    )
    axes.axhline(found.best, color=GREY, linewidth=1, dashes=(1, 1.5), label="the best of those drawn")
    if default is not None:
        axes.axhline(default, color=INK, linewidth=1.2, label="the defaults, unsearched")
    if data_return is not None:
        axes.axhline(data_return, color=GREY, linewidth=1, dashes=(4, 3), label="the data's own return")
    axes.set_ylabel("return")
    count_axis(axes, float(pulls[-1]), "{}evaluation episodes")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=3, fontsize=TEXT)
    return figure
