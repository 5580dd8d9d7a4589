"""Runs in, one HTML page out: no script, no network, small enough to mail, at home on paper.

`write_report` writes report.html, and every figure as a PNG of its own.
"""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from off2on.errors import UserError
from off2on.reports import sections
from off2on.reports.groups import Group, clashes, gather
from off2on.reports.sections import Sheet
from off2on.runs import statistics
from off2on.runs.folder import write
from off2on.runs.numbers import points
from off2on.runs.record import NoEvaluationError, load_run


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
    html = sheet.fill(_page(gather(runs), [error.what for error in waiting], sheet))
    page.parent.mkdir(parents=True, exist_ok=True)
    write(page, html)
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
({statistics.RESAMPLES:,} resamples). Fewer than {statistics.FEWEST_SEEDS} seeds have no interval: there
is too little to resample. <b>Score</b>: the mean undiscounted return of the deterministic policy.
<b>Final</b>: the last evaluation, never the best."""

CROSSING = """<b>At the handover</b>: the score of the policy that is handed over, just before the switch.
<b>Drop</b>: that score less the lowest in the first 20&nbsp;% of the online steps, after a warm-up if
there is one, the evaluation just after the switch among them. <b>Made good</b>: the first step at which
the mean of three evaluations in a row, from the lowest on, is back at the handover's score; of several
seeds, the median. <b>Regret</b>: score lost per online step, the area under the handover's level and
above the curve."""


def _page(groups: list[Group], waiting: list[str], sheet: Sheet) -> str:
    runs = [run for group in groups for run in group.runs]
    data, names = sorted({group.data for group in groups}), sorted({run.name for run in runs})
    title = escape(f"{_some(names, 'kinds of run')} on {_some(data, 'data sets')}")
    alone = len(groups) == 1
    quiet = f"<p class=quiet>{escape(groups[0].subtitle)}</p>" if alone else ""
    verdict = sections.verdict(groups[0]) if alone else sections.verdicts(groups)
    parts = [f"<header><h1>{title}</h1>{quiet}</header><main>{sections.warned(clashes(runs))}{verdict}"]
    parts += [sections.curves(group, sheet, len(groups)) for group in groups]
    parts += [sections.changed(runs[0])] if alone else []
    for name in data:
        parts.append(sections.against(name, [group for group in groups if group.data == name], sheet))
    parts += [sections.health(groups, sheet), sections.table_of_runs(groups, waiting), sections.again(runs)]
    ends = {f"{run.data}: {' and '.join(map(points, run.reference))}" for run in runs if run.reference}
    told = escape("; ".join(sorted(ends)))
    normal = f"<b>Normalised</b>: 100 × (return − random) / (expert − random), {told}."
    scores = [run.about.get("score") or {} for run in runs]
    taken_over = {str(score["why"]) for score in scores if score.get("standing") == "convention"}
    normal += "".join(f" This is {escape(why)}." for why in sorted(taken_over))
    notes = [METHOD, CROSSING if any(group.went_online for group in groups) else "", normal if ends else ""]
    body = "\n".join([*parts, "</main>", f"<footer><p>{' '.join(notes)}</p></footer>"])
    return PAGE.substitute(title=title, body=body)


def _some(names: list[str], what: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {what}"
