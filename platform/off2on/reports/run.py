"""The report of one run or of several: one HTML page, and every figure as a PNG file."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets_io.errors import printable
from off2on.errors import UserError
from off2on.reports import sections
from off2on.reports.groups import Group, clashes, group_runs
from off2on.reports.page import FigureSheet, render
from off2on.runs import statistics
from off2on.runs.folder import write
from off2on.runs.numbers import points
from off2on.runs.record import NoEvaluationError, RunRecord, load_run


def write_report(
    folders: Sequence[Path], out: Path | None = None, note: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the page and its figures, and return the path of the page.

    Args:
        folders: Run folders. Runs of one algorithm, strategy and data set are seeds of one group.
        out: Path of the page; by default report.html in the run, or in the folder that several runs share;
            in the current one if they share only the root of the disk. The figures of a single run go to
            its figures/, those of several beside the page.
        note: Function that shows a line, one for each run that is left out.

    Raises:
        UserError: None of the folders is a run with an evaluation.
    """
    runs: list[RunRecord] = []
    left_out: list[UserError] = []
    for folder in folders:
        try:
            runs.append(load_run(folder))
        except UserError as error:
            left_out.append(error)
    if left_out and not runs:
        raise left_out[0]
    if not runs:
        raise UserError("no runs to report on", "Expected at least one run folder.")
    reasons = [reason_left_out(error) for error in left_out]
    for reason in reasons:
        note(f"left out   {reason}.")
    single = len(folders) == 1
    home = folders[0] if single else Path(os.path.commonpath([folder.absolute() for folder in folders]))
    home = Path() if home == home.parent else home  # the root of the disk is no place for a page
    page = home / "report.html" if out is None else out / "report.html" if out.is_dir() else out
    sheet = FigureSheet(home / "figures" if single or out is None else page.with_name(f"{page.stem}-figures"))
    data = page_data(group_runs(runs), reasons, sheet)
    write(page, sheet.fill(render("run.html", **data)))
    return page


def page_data(groups: list[Group], left_out: list[str], sheet: FigureSheet) -> dict[str, Any]:
    """Return the data of the page.

    Args:
        groups: The runs, grouped by data set, algorithm and strategy.
        left_out: Reasons why runs are not on the page.
        sheet: Takes the figures.
    """
    runs = [run for group in groups for run in group.runs]
    data, names = sorted({group.data for group in groups}), sorted({run.name for run in runs})
    single = len(groups) == 1
    compared = [sections.comparison(name, [g for g in groups if g.data == name], sheet) for name in data]
    return {
        "title": f"{_joined(names, 'kinds of run')} on {_joined(data, 'data sets')}",
        "subtitle": groups[0].subtitle if single else "",
        "clashes": clashes(runs),
        "verdict": groups[0].verdict() if single else None,
        "verdicts": sections.verdicts(groups),
        "groups": [sections.curves(group, sheet, len(groups)) for group in groups],
        "handover": sections.handover(runs[0]) if single else None,
        "comparisons": [each for each in compared if each is not None],
        "health": [sections.health(group, sheet, len(groups)) for group in groups],
        "figures_folder": sheet.folder.name if len(groups) > sections.DETAILED else "",
        "runs": sections.table_of_runs(groups),
        "left_out": left_out,
        "commands": list(dict.fromkeys(run.metadata.command for run in runs if run.metadata.command)),
        "provenance": list(dict.fromkeys(sections.provenance(run.metadata) for run in runs)),
        "changed": sections.changed_settings(runs),
        "any_online": any(group.went_online for group in groups),
        **_references(runs),
        **method(),
    }


def reason_left_out(error: UserError) -> str:
    """Return in one line, without a full stop, why a run is not on a page."""
    if isinstance(error, NoEvaluationError):
        return error.what
    place = f"{error.where}: " if error.where else ""
    return printable(" ".join(f"{place}{error.what} {error.expected}".split())).rstrip(".")


def method() -> dict[str, str]:
    """Return the numbers of the statistics, for the footer of a page."""
    return {"resamples": f"{statistics.RESAMPLES:,}", "fewest_seeds": str(statistics.FEWEST_SEEDS)}


def _references(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    ends = {f"{run.data}: {' and '.join(map(points, run.reference))}" for run in runs if run.reference}
    scores = [run.metadata.score for run in runs]
    reasons = {score.why for score in scores if score is not None and score.standing == "convention"}
    return {"references": sorted(ends), "conventions": sorted(reasons)}


def _joined(names: list[str], kind: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {kind}"
