"""The figures of the report, each a function from arrays to a matplotlib `Figure`.

Colours are those of Okabe and Ito: blue for scores, orange for losses. Text, widths and dashes repeat what
colours show, for grey print. Figures are made without pyplot, which keeps global state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from off2on.runs import statistics
from off2on.runs.curve import Curve, recovery
from off2on.runs.numbers import points, short
from off2on.runs.statistics import Estimate, FloatArray

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE, SHADE = "#1b1f24", "#5c6570", "#e4e7ea", "#f0f1f3"
WIDE, HALF = (8.6, 2.9), (4.2, 2.35)  # inches
TEXT = 8.5  # points

Traces = Sequence[tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Bars:
    """A line of the comparison: name, final score, and drop (None without an online phase)."""

    name: str
    final: Estimate
    drop: Estimate | None


def handover(
    curves: Sequence[Curve], data_return: float | None = None, reference: tuple[float, float] | None = None
) -> Figure:
    """Draw the scores of one group before and after the handover: seeds, their IQM, the drop as an arrow.

    Args:
        curves: One per seed; all went online, or none.
        data_return: Mean return of the data, drawn as a dashed line.
        reference: Returns that count as 0 and 100; adds an axis of normalised scores.
    """
    figure = Figure(figsize=WIDE)
    panels = _panels(figure, curves)
    for axes, online in panels:
        _seeds(axes, [(c.steps, c.online) if online else (c.updates, c.offline) for c in curves], BLUE)
        if data_return is not None:
            axes.axhline(data_return, color=GREY, linewidth=1, dashes=(4, 3), zorder=1)
    (first, _), (last, went_online) = panels[0], panels[-1]
    low, high = first.get_ylim()
    lowest = statistics.iqm([c.handover - (c.drop or 0.0) for c in curves])  # two lines of text go below it
    lowest = lowest if data_return is None else min(lowest, data_return)
    first.set_ylim(min(low, lowest - 0.2 * (high - low)), high + 0.06 * (high - low))
    first.set_ylabel("return")
    if data_return is not None:
        above = curves[0].handover < data_return  # the curve ends below the line: the text goes above it
        place = {"ha": "right", "va": "bottom" if above else "top"}
        words = f"return of the data, {points(data_return)}"
        _label(first, words, (0.98, data_return), (0, 3 if above else -4), **place)
    final = statistics.iqm([curve.final for curve in curves])
    style = {"color": BLUE, "fontsize": 10, "fontweight": "bold"}
    _label(last, points(final), (0.995, final), (0, 5), ha="right", bbox=None, **style)
    if went_online:
        _drop_arrow(last, curves)
    if reference is not None:
        floor, expert = reference
        scale = (lambda y: 100 * (y - floor) / (expert - floor), lambda n: floor + n * (expert - floor) / 100)
        normal = last.secondary_yaxis("right", functions=scale)
        clean(normal)
        normal.set_ylabel("normalised score")
        normal.tick_params(colors=GREY)
    return figure


def drop_by_seed(curves: Sequence[Curve]) -> Figure:
    """Draw the window in which a drop is looked for: each seed relative to its handover, and their IQM."""
    figure, axes = half()
    early = [curve.steps <= curve.window for curve in curves]
    traces = [(c.steps[e], c.online[e] - c.handover) for c, e in zip(curves, early, strict=True)]
    _seeds(axes, traces, ORANGE)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_ylabel("change since the handover")
    window = max(curve.window for curve in curves)
    count_axis(axes, window, "{}environment steps after the handover")
    return figure


def batch_mix(traces: Traces) -> Figure:
    """Draw the share of offline rows in the online batches, the mean over seeds, as areas.

    Args:
        traces: Of each seed the environment steps of its online evaluations [n], and the share of offline
            rows in the batches since the one before, in [0, 1] [n].
    """
    figure, axes = half()
    grid, shares = statistics.together([x for x, _ in traces], [share for _, share in traces])
    mean = shares.mean(0)
    if not len(grid):  # the evaluations of the seeds do not overlap: one level is drawn, the mean of all
        grid = np.array([max(x[-1] for x, _ in traces)])
        mean = np.array([np.mean([share.mean() for _, share in traces])])
    grid, mean = np.append(0.0, grid), np.append(mean[:1], mean)
    axes.fill_between(grid, 0, mean, step="pre", color="#959da6", linewidth=0, label="offline shards")
    axes.fill_between(grid, mean, 1, step="pre", color="#bfe7da", linewidth=0, label="online replay")
    axes.step(grid, mean, where="pre", color=INK, linewidth=1)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.99), "ncols": 2, "frameon": False}
    axes.legend(fontsize=TEXT, **place)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of each batch")
    count_axis(axes, float(grid[-1]), "{}environment steps")
    return figure


def q_health(
    curves: Sequence[Curve],
    offline: Traces,
    online: Traces,
    mean: float | None = None,
    largest: float | None = None,
) -> Figure:
    """Draw the mean Q of the critics before and after the handover beside the return to go of the data.

    Args:
        curves: One per seed, for the axes.
        offline: Of each seed the updates [n] and the mean Q there [n].
        online: The same in environment steps.
        mean: The data's mean return to go.
        largest: The data's largest: no row supports a Q above it.
    """
    figure = Figure(figsize=(WIDE[0], 2.0))
    panels = _panels(figure, curves)
    lines = [
        (v, name, c) for v, name, c in ((mean, "mean", GREY), (largest, "largest", INK)) if v is not None
    ]
    for axes, is_online in panels:
        _seeds(axes, online if is_online else offline, GREEN)
        for value, _, colour in lines:
            axes.axhline(value, color=colour, linewidth=1, dashes=(4, 3), zorder=1)
    first, last = panels[0][0], panels[-1][0]
    span = max((abs(value) for value, _, _ in lines), default=0.0)
    if span and max((float(abs(q).max()) for _, q in [*offline, *online]), default=0.0) > 20 * span:
        # On a linear axis, a Q that went to the moon would flatten the rest.
        first.set_yscale("symlog", linthresh=span)
    first.margins(y=0.2)
    first.set_ylabel("Q")
    for value, name, _ in lines:
        _label(last, f"{name} return to go of the data", (0.99, value), (0, 2), ha="right")
    return figure


def comparison(rows: Sequence[Bars]) -> Figure:
    """Draw final scores with their intervals beside the drops, a line per group, the best at the top."""
    rows = sorted(rows, key=lambda row: row.final.value)
    height = 0.75 + 0.27 * len(rows)
    figure = Figure(figsize=(WIDE[0], height))
    bottom, top = 0.5 / height, 1 - 0.6 / height
    axes = figure.add_axes((0.2, bottom, 0.4, top))
    drops = figure.add_axes((0.64, bottom, 0.3, top), sharey=axes)
    for panel in (axes, drops):
        clean(panel, "x")
    drops.tick_params(labelleft=False)
    for y, row in enumerate(rows):
        if row.final.interval is not None:
            low, high = row.final.interval
            axes.barh(y, high - low, left=low, height=0.4, color=BLUE, alpha=0.35)
        axes.plot([row.final.value] * 2, [y - 0.3, y + 0.3], color=BLUE, linewidth=2.5)
        size = row.drop.value if row.drop else 0.0
        drops.barh(y, size, height=0.4, color=ORANGE)
        text = points(size) if row.drop else "not online"
        _label(drops, text, (size, y), (4, 0), xycoords="data", va="center", bbox=None)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.use_sticky_edges = False  # bars would begin at the very edge
    axes.margins(x=0.1)
    axes.set_xlabel("final return: IQM" + (", 95 % interval" if any(r.final.interval for r in rows) else ""))
    drops.set_xlim(0, 1.25 * max(row.drop.value if row.drop else 0.0 for row in rows) or 1)
    drops.set_xlabel("drop at the handover (smaller is better)")
    return figure


def _panels(figure: Figure, curves: Sequence[Curve]) -> list[tuple[Axes, bool]]:
    """Make a grey offline and a white online panel that touch at a black line, or the only one of them."""
    updates = max((float(c.updates[-1]) for c in curves if len(c.updates)), default=0.0)
    steps = max((max(float(c.planned), float(c.steps[-1])) for c in curves if c.went_online), default=0.0)
    left, width = 0.08, 0.85
    bottom, height = 0.48 / figure.get_figheight(), 1 - 0.56 / figure.get_figheight()
    share = (0.42 if curves[0].went_online else 1.0) if updates else 0.0
    panels: list[tuple[Axes, bool]] = []
    if share:
        axes = figure.add_axes((left, bottom, share * width, height))
        clean(axes)
        axes.set_facecolor(SHADE)
        axes.grid(color="white")
        count_axis(axes, updates, "offline: {}gradient updates")
        panels.append((axes, False))
    if share < 1:
        shared = panels[0][0] if panels else None
        axes = figure.add_axes((left + share * width, bottom, (1 - share) * width, height), sharey=shared)
        clean(axes)
        count_axis(axes, steps, "online: {}environment steps")
        if shared is not None:
            axes.tick_params(labelleft=False)
            axes.spines["left"].set(visible=True, color="black", linewidth=1.5, zorder=5)
            # Where the two axes meet there would be two numbers on top of one another.
            shared.set_xticks([tick for tick in shared.get_xticks() if tick < 0.93 * updates])
            shared.set_xlim(0, updates)
        panels.append((axes, True))
    return panels


def half() -> tuple[Figure, Axes]:
    """Make a figure of half the width of the page."""
    figure = Figure(figsize=HALF)
    axes = figure.add_axes((0.17, 0.2, 0.79, 0.69))
    clean(axes)
    return figure, axes


def _seeds(axes: Axes, traces: Traces, colour: str) -> None:
    """Draw thin lines for the seeds and a thick one for their IQM; points where a line would be invisible."""
    traces = [(x, y) for x, y in traces if len(x)]
    if not traces:
        return
    if len(traces) > 1:
        for x, y in traces:
            axes.plot(x, y, color=colour, alpha=0.4, linewidth=0.8, marker="." if len(x) < 3 else "")
    grid, rows = statistics.together([x for x, _ in traces], [y for _, y in traces])
    line: dict[str, Any] = {"marker": "o", "markersize": 4, "clip_on": False} if len(grid) < 3 else {}
    axes.plot(grid, statistics.iqm_curve(rows), color=colour, linewidth=2, **line)


def _drop_arrow(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the drop as an arrow from the level of the handover down to the lowest IQM, with its size."""
    loss = statistics.iqm([curve.drop or 0.0 for curve in curves])
    level = statistics.iqm([curve.handover for curve in curves])
    window = max(curve.window for curve in curves)
    if loss == 0:
        _label(axes, f"no drop in the first {short(window)} steps", (0.02, 0.04), xycoords="axes fraction")
        return
    grid, rows = statistics.together([curve.steps for curve in curves], [curve.online for curve in curves])
    early = grid <= window
    at = float(grid[early][statistics.iqm_curve(rows)[early].argmin()]) if early.any() else 0.0
    at = max(at, 0.012 * axes.get_xlim()[1])  # clear of the black line
    arrow = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (at, level - loss), (at, level), arrowprops=arrow, zorder=6)
    axes.plot([0, at], [level, level], color=ORANGE, linewidth=1, linestyle=":", zorder=4)
    text = f"drop {points(loss)},\n{recovery(curves)}"
    _label(axes, text, (at, level - loss), (5, -3), xycoords="data", va="top", color=ORANGE)


def _label(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float] = (0, 0), **style: Any
) -> None:
    """Write text on a patch of the panel's colour, `offset` points from x (share of it) and y (data)."""
    usual: dict[str, Any] = {
        "xycoords": axes.get_yaxis_transform(), "color": GREY, "fontsize": TEXT, "va": "bottom",
        "bbox": {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.8, "pad": 1},
    }  # fmt: skip
    axes.annotate(text, at, offset, textcoords="offset points", zorder=7, **(usual | style))


def clean(axes: Any, grid: Literal["x", "y"] = "y") -> None:
    """Remove frame and ticks, and leave a pale grid along one axis."""
    axes.grid(axis=grid, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=TEXT, length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "−"))
        axis.label.set(color=GREY, fontsize=TEXT)


def count_axis(axes: Axes, most: float, label: str) -> None:
    """Set an x axis from zero to `most` in ones, thousands or millions."""
    units = ((1e6, "million "), (1e3, "thousand "), (1.0, ""))
    size, word = next((size, word) for size, word in units if most >= 2 * size or size == 1)
    axes.set_xlim(0, most or 1)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / size:g}")
    axes.set_xlabel(label.format(word))
