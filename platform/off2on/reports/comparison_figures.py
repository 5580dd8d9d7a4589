"""The figures of a comparison, in the style of `figures`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from off2on.reports.figures import BLUE, GREY, INK, TEXT, WIDE, Bars, clean, comparison, count_axis
from off2on.reports.groups import Group
from off2on.runs import statistics
from off2on.runs.statistics import FloatArray

STYLES = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (1, 1)),
    (0, (9, 3)),
    (0, (4, 1, 1, 1, 1, 1)),
)
"""Dashes that distinguish lines without colours."""


def bars(groups: Sequence[Group]) -> Figure:
    """Draw final scores with their intervals beside the drops."""
    return comparison([Bars(group.name, group.final, group.drop) for group in groups])


def courses(groups: Sequence[Group], data_return: float | None) -> Figure:
    """Draw the IQM over the seeds of each group against environment steps."""
    figure = Figure(figsize=(WIDE[0], WIDE[1] + 0.4))
    axes = figure.add_axes((0.09, 0.16, 0.66, 0.8))
    clean(axes)
    longest = 0.0
    for number, group in enumerate(groups):
        steps, scores = statistics.together(
            [curve.steps for curve in group.curves], [curve.online for curve in group.curves]
        )
        shade = BLUE if number % 2 == 0 else INK
        style = STYLES[number % len(STYLES)]
        axes.plot(
            steps, statistics.iqm_curve(scores), color=shade, linestyle=style, label=group.name, linewidth=1.5
        )
        longest = max(longest, float(steps[-1]))
    if data_return is not None:
        axes.axhline(data_return, color=GREY, linewidth=1, label="the data's own return")
    axes.set_ylabel("return: IQM over seeds")
    count_axis(axes, longest, "{}environment steps")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=3, fontsize=TEXT)
    return figure


def profiles(gains: Mapping[str, FloatArray]) -> Figure:
    """Draw for each variant the share of its runs with a gain above each level."""
    figure = Figure(figsize=WIDE)
    axes = figure.add_axes((0.09, 0.18, 0.66, 0.78))
    clean(axes)
    every = np.concatenate(list(gains.values()))
    room = 0.05 * (np.ptp(every) or 1.0)
    levels = np.linspace(every.min() - room, every.max() + room, 400)
    for number, (variant, values) in enumerate(gains.items()):
        shade = BLUE if number % 2 == 0 else INK
        style = STYLES[number % len(STYLES)]
        axes.plot(
            levels,
            statistics.profile(values, levels),
            color=shade,
            linestyle=style,
            label=variant,
            linewidth=1.5,
        )
    axes.axvline(1, color=GREY, linewidth=1, label="the data's own return")
    axes.set_xlabel("gain over the data's own return (1)")
    axes.set_ylabel("share of runs above it")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=3, fontsize=TEXT)
    return figure
