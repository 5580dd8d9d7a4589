"""The figures of a data set, each a function from arrays to a matplotlib `Figure`.

Colours as in `figures`: blue is what is there, orange what should not be, and time runs from dark to light,
which a grey screen shows as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from datasets_io.episode import Array
from off2on.reports.figures import BLUE, GREY, INK, ORANGE, TEXT, WIDE, clean, count_axis, half
from off2on.runs.numbers import points

COLUMNS = 24
"""Most histograms in one figure."""
TIME = "cividis"
"""Colours of time from dark to light, with equal steps also in grey and for colour-blind readers."""


def returns(values: Array) -> Figure:
    """Draw a histogram of the returns, with median and quartiles as lines.

    Args:
        values: Return of each episode [E].
    """
    figure, axes = half()
    _bars(axes, values, _edges(values, 40), color=BLUE, alpha=0.75)
    for value, dashes in zip(np.quantile(values, (0.25, 0.5, 0.75)), ((2, 2), (5, 0), (2, 2)), strict=True):
        axes.axvline(float(value), color=INK, linewidth=1, dashes=dashes)
    axes.set_xlabel(f"return; lines: quartiles, median {points(float(np.median(values)))}")
    axes.set_ylabel("episodes")
    return figure


def returns_over_time(values: Array, terminated: Array) -> Figure:
    """Draw the return of each episode in the order of the data, and their running mean.

    Args:
        values: [E].
        terminated: [E] bool: ended by the task (filled) or cut off (hollow).
    """
    figure, axes = half()
    number = np.arange(len(values))
    shown = np.unique(np.linspace(0, len(values) - 1, min(len(values), 2000)).astype(int))
    for flag, face in ((True, BLUE), (False, "none")):
        some = shown[terminated[shown] == flag]
        axes.scatter(
            number[some], values[some], s=9, facecolor=face, edgecolor=BLUE, linewidth=0.6, alpha=0.7
        )
    if len(values) >= 20:
        axes.plot(*_running(number, values, min(40, len(values) // 5)), color=INK, linewidth=1.5)
    axes.set_ylabel("return; line: mean")
    count_axis(axes, float(len(values)), "{}episodes, in the order of the data")
    return figure


def lengths(values: Array, terminated: Array, limit: int | None = None) -> Figure:
    """Draw the lengths of episodes by their ends: terminated (full) or truncated (hatched).

    Args:
        values: Steps of each episode [E].
        terminated: [E] bool.
        limit: The environment's time limit, drawn as a line.
    """
    figure, axes = half()
    longest = max(int(values.max()), limit or 0)
    edges = np.linspace(0.5, longest + 0.5, min(longest, 40) + 1)
    below = np.zeros(len(edges) - 1)
    for ended, colour, hatch in ((True, BLUE, ""), (False, "#c6d9e8", "////")):
        some = values[terminated == ended]
        words = f"{'ended by the task' if ended else 'cut off'} ({len(some):,})"
        below = below + _bars(
            axes, some, edges, below, color=colour, hatch=hatch, edgecolor=GREY, label=words
        )
    place = {"loc": "lower center", "bbox_to_anchor": (0.45, 0.98), "ncols": 2, "frameon": False}
    axes.legend(fontsize=TEXT - 0.5, handlelength=1.2, columnspacing=1.0, **place)
    if limit is not None:
        axes.axvline(limit, color=INK, linewidth=1.2, dashes=(4, 3))
    axes.set_xlim(0, 1.04 * longest + 0.5)
    axes.set_xlabel("steps of an episode" + ("; line: the time limit" if limit is not None else ""))
    axes.set_ylabel("episodes")
    return figure


def rewards_over_time(row: Array, rewards: Array, rows: int) -> Figure:
    """Draw rewards of sampled rows in the order of the data, and their running mean.

    Args:
        row: Where in the data [n].
        rewards: [n].
        rows: In all.
    """
    figure, axes = half()
    low, high = np.quantile(rewards, (0.001, 0.999))
    shown = np.unique(np.linspace(0, len(row) - 1, min(len(row), 3000)).astype(int))
    axes.scatter(row[shown], rewards[shown].clip(low, high), s=4, color=BLUE, alpha=0.4, linewidth=0)
    axes.plot(*_running(row, rewards, 40), color=INK, linewidth=1.5)
    axes.set_ylabel("reward; line: mean")
    count_axis(axes, float(rows), "{}rows, in the order of the data")
    return figure


def coverage(points_2d: Array, time: Array, explained: Sequence[float], other: Array | None = None) -> Figure:
    """Draw states in their first two principal components, from the first rows (dark) to the last (light).

    Args:
        points_2d: [n, 2].
        time: Place in the data, 0 to 1 [n].
        explained: Share of the variance along both.
        other: States of other data [m, 2], drawn below as grey rings.
    """
    figure = Figure(figsize=(WIDE[0], 3.4))
    axes = figure.add_axes((0.08, 0.15, 0.76, 0.8))
    clean(axes)
    axes.grid(axis="x", color="#e4e7ea", linewidth=0.8)
    if other is not None:
        axes.scatter(other[:, 0], other[:, 1], 10, facecolor="none", edgecolor="#9aa2ab", linewidth=0.5)
    x, y = points_2d[:, 0], points_2d[:, 1]
    axes.scatter(x, y, 5, time, cmap=TIME, vmin=0, vmax=1, linewidth=0, alpha=0.85)
    axes.set_xlabel(f"first principal component ({100 * explained[0]:.0f} % of the variance)")
    axes.set_ylabel(f"second ({100 * explained[1]:.0f} %)")
    bar = figure.add_axes((0.88, 0.15, 0.018, 0.8))
    scale = figure.colorbar(ScalarMappable(Normalize(0, 1), TIME), cax=bar, ticks=[0, 0.5, 1])
    scale.ax.set_yticklabels(["first rows", "", "last"])
    scale.ax.tick_params(labelsize=TEXT, length=0, colors=INK)
    scale.outline.set_visible(False)
    return figure


def histograms(
    values: Array,
    names: Sequence[str],
    low: Array | None = None,
    high: Array | None = None,
) -> Figure:
    """Draw histograms of columns, each with its own scale, and the bounds if there are any.

    Args:
        values: Sampled rows [n, c]; the first `COLUMNS` columns are drawn.
        names: Of the columns.
        low: Bounds of the box [c], drawn as lines; what lies outside is orange and hatched.
        high: Likewise.
    """
    count = min(values.shape[1], COLUMNS)
    across = min(6, max(count, 3))
    down = -(-count // across)
    figure = Figure(figsize=(WIDE[0], 0.18 + 1.02 * down))
    height, width = 1 / down, 0.99 / across
    for index in range(count):
        place = (0.005 + index % across * width, 1 - (index // across + 1) * height)
        axes = figure.add_axes((place[0] + 0.006, place[1] + 0.27 * height, width - 0.014, 0.52 * height))
        bounds = None if low is None or high is None else (float(low[index]), float(high[index]))
        _small(axes, values[:, index], bounds)
        axes.set_title(names[index], fontsize=TEXT - 0.5, color=INK, pad=2, loc="left")
    return figure


def _small(axes: Axes, column: Array, bounds: tuple[float, float] | None) -> None:
    clean(axes)
    axes.grid(visible=False)
    axes.set_yticks([])
    if bounds is None or not np.isfinite(bounds).all():
        inside = np.quantile(column, (0.001, 0.999))
        edges = _edges(column[(column >= inside[0]) & (column <= inside[1])], 32)
        _bars(axes, column, edges, color=BLUE, alpha=0.75)
        ticks = [float(edges[0]), float(edges[-1])]
    else:
        edges = _against_box(axes, column, *bounds)
        ticks = list(bounds)
    low, high = float(edges[0]), float(edges[-1])
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.set_xticks(ticks)
    axes.tick_params(labelsize=TEXT - 1.5, pad=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left" if ticks[0] == low else "center")
    last.set_horizontalalignment("right" if ticks[1] == high else "center")


def _against_box(axes: Axes, column: Array, low: float, high: float) -> Array:
    """Draw the bars, orange outside the bounds, and the bounds; return the edges of the bins."""
    step = max(high - low, 1e-9) / 24
    # The bounds are edges of bins, so that no bar is half outside; far outliers are gathered at the end.
    beyond = np.ceil(np.maximum((low - column.min(), column.max() - high), 0) / step).clip(0, 48).astype(int)
    edges = low + step * np.arange(-beyond[0], 25 + beyond[1])
    edges[beyond[0] + 24] = np.nextafter(high, np.inf)  # a value on the bound is inside
    column = column.clip(edges[0], edges[-1])
    fits = (column >= low) & (column <= high)
    _bars(axes, column[fits], edges, color=BLUE, alpha=0.75)
    _bars(axes, column[~fits], edges, color=ORANGE, hatch="//////")
    for bound in (low, high):
        axes.axvline(bound, color=INK, linewidth=1, dashes=(4, 3))
    return edges


def _bars(axes: Axes, values: Array, edges: Array, bottom: Array | float = 0.0, **style: Any) -> Array:
    """Draw a histogram as bars and return their heights."""
    heights = np.histogram(values, edges)[0].astype(np.float64)
    axes.bar(edges[:-1], heights, np.diff(edges), bottom, align="edge", linewidth=0, **style)
    return heights


def choices(counts: Array) -> Figure:
    """Draw the frequency of each discrete action.

    Args:
        counts: [choices].
    """
    figure, axes = half()
    axes.bar(np.arange(len(counts)), counts / max(counts.sum(), 1), color=BLUE, alpha=0.75, width=0.7)
    if len(counts) <= 20:
        axes.set_xticks(range(len(counts)))
    axes.set_xlabel("action")
    axes.set_ylabel("share of the rows")
    return figure


def _edges(values: Array, most: int) -> Array:
    """Return the edges of bins: one per whole number if there are few, otherwise `most` equal ones."""
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).all())
    if whole and high - low < most:
        return np.arange(low - 0.5, high + 1.5)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, min(most, max(8, len(values) // 3)) + 1)


def _running(place: Array, values: Array, bins: int) -> tuple[Array, Array]:
    """Return the centres of equally full intervals, and the mean of the values in each."""
    pieces = [piece for piece in np.array_split(np.arange(len(values)), bins) if len(piece)]
    return np.array([place[p].mean() for p in pieces]), np.array([values[p].mean() for p in pieces])
