"""What the doctor found, as one HTML page with pictures: no script, no network, nothing beside it.

`write_data_report` writes it.
"""

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from datasets_io.diagnosis import Diagnosis, Finding
from datasets_io.diagnosis.finding import SEVERITIES
from datasets_io.diagnosis.neighbours import Projection
from datasets_io.diagnosis.sample import CAPACITY, MAX_COLUMNS, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from off2on.reports import data_figures, figures
from off2on.reports.run import PAGE
from off2on.runs.folder import write
from off2on.runs.numbers import points, short

DOTS = 4000
"""States on the picture of coverage at most."""
DPI = 120

STYLE = """<style>
dl { gap: .3em 1.6em; justify-content: space-between } dl div { min-width: 0 }
.finding { border-left: 4px solid #959da6; padding: .1em 0 .1em .8em; margin: .9em 0 }
.finding.error { border-color: #d55e00; border-left-width: 9px } .finding.warning { border-color: #1b1f24 }
.finding h3 { margin: 0 } .tag { font-size: .8em; font-weight: 600; color: #5c6570; margin-right: .5em }
.error .tag { color: #d55e00 } .warning .tag { color: #1b1f24 }
.facts td { white-space: normal; text-align: left; padding-right: 1.2em }
.facts td:first-child { font-weight: 600; white-space: nowrap }
.facts small { max-width: 60em }
</style>"""


def write_data_report(diagnosis: Diagnosis, where: str, page: Path) -> Path:
    """Writes the page, whole or not at all.

    Args:
        diagnosis: What was found.
        where: The data's folder or file, for the heading.
        page: Where it goes.

    Returns:
        The same path.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    write(page, data_report(diagnosis, where))
    return page


def data_report(diagnosis: Diagnosis, where: str) -> str:
    """The page as text; see `write_data_report`."""
    title = escape(f"The data {diagnosis.name}")
    parts = [f"{STYLE}<header><h1>{title}</h1><p class=quiet>{escape(where)}</p></header><main>"]
    parts += [_verdict(diagnosis), _findings(diagnosis.findings)]
    if diagnosis.summary is not None:
        parts += _pictures(diagnosis.summary)
    parts += [_facts(diagnosis), "</main>", f"<footer><p>{_METHOD}</p></footer>"]
    return PAGE.substitute(title=title, body="\n".join(parts))


_METHOD = f"""Every row was read once. Counts, ranges and returns are of all rows; distances, fits and
pictures are of a uniform random sample of at most {CAPACITY:,} rows, the same in every run, and of at most
{MAX_COLUMNS} columns of the observations, evenly spread, where there are more. <b>Error</b>: learning from data
as they are would go wrong. <b>Warning</b>: it may. <b>Note</b>: worth knowing. A check that is silent has not
proved that all is well."""


def _verdict(diagnosis: Diagnosis) -> str:
    summary = diagnosis.summary
    cells = []
    for severity in SEVERITIES:
        count = diagnosis.count(severity)
        kind = "loss" if severity == "error" and count else ""
        cells.append((f"{severity}s", f"<b class='{kind}'>{count}</b>", ""))
    if summary is not None:
        returns = summary.episodes.returns
        cells.append(("rows", f"<b>{short(summary.rows)}</b>", f"{len(summary.episodes):,} episodes"))
        spread = f"{points(float(returns.min()))} to {points(float(returns.max()))}"
        cells.append(("mean return", f"<b class=score>{points(float(returns.mean()))}</b>", spread))
    effective = [fact.values["rows"] for fact in diagnosis.facts if fact.name == "effective"]
    cells += [("independent rows", f"<b>{short(rows)}</b>", "by autocorrelation") for rows in effective]
    inner = "".join(
        f"<div><dt>{name}</dt><dd>{big}<small>{small}</small></dd></div>" for name, big, small in cells
    )
    return f"<dl>{inner}</dl>"


def _findings(findings: list[Finding]) -> str:
    if not findings:
        return "<section><h2>Findings</h2><p>Nothing to report.</p></section>"
    return f"<section><h2>Findings</h2>{''.join(map(_finding, findings))}</section>"


def _finding(finding: Finding) -> str:
    rows = f"<span class=quiet> · {escape(finding.where)}</span>" if finding.rows else ""
    do = ""
    if finding.do:
        do = f"<pre>{escape(finding.do)}</pre>" if finding.is_command else f"<p>→ {escape(finding.do)}</p>"
    return (
        f"<div class='finding {finding.severity}'><h3><span class=tag>{finding.severity} · "
        f"{escape(finding.check)}</span></h3><p>{escape(finding.what)}{rows}</p><p "
        f"class=quiet>{escape(finding.means)}</p>{do}</div>"
    )


def _facts(diagnosis: Diagnosis) -> str:
    if not diagnosis.facts:
        return ""
    rows = "".join(
        f"<tr><td>{escape(fact.name)}</td><td>{escape(fact.text)}<small>{escape(fact.caution)}</small></td></tr>"
        for fact in diagnosis.facts
    )
    return f"<section><h2>Numbers</h2><table class='facts text'><tbody>{rows}</tbody></table></section>"


def _pictures(summary: DataSummary) -> Iterator[str]:
    """All sections with figures, the most telling first."""
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
            "Lengths of episodes, and their ends",
            data_figures.lengths(lengths, done, summary.time_limit),
            f"Lengths; {int(done.sum()):,} episodes ended by the task, {int((~done).sum()):,} cut off.",
        ),
        rewards,
    )
    if windows is not None:
        yield _actions(summary, windows)
        yield _coverage(summary, windows)
        yield _columns(windows)


def _actions(summary: DataSummary, windows: Windows) -> str:
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
    words = "Dashed lines: the box; orange and hatched: outside it." if fits else "No box is declared."
    return _section("Actions against their box", figure, f"Histograms of the actions. {words}", words)


def _coverage(summary: DataSummary, windows: Windows) -> str:
    project = Projection.of(windows.obs[:, 1])
    if project is None or project.axes.shape[1] < 2:
        return ""
    chosen = np.random.default_rng(0).permutation(len(windows))[:DOTS]
    dots, other = project(windows.obs[chosen, 1])[:, :2], None
    words = "Each dot is a state, dark early in the data, light late. Where there are none, a critic guesses."
    if summary.against is not None:
        name, beside = summary.against
        other = project(beside.obs[:DOTS:2, 1])[:, :2]
        words += f" Grey rings: states of {name}."
    figure = data_figures.coverage(dots, chosen / len(windows), project.explained[:2].tolist(), other)
    return _section("States that were visited", figure, words, words)


def _columns(windows: Windows) -> str:
    values = windows.obs[:, 1].astype(np.float64)
    chosen = spread_columns(values.shape[1], data_figures.COLUMNS)
    figure = data_figures.histograms(values[:, chosen], [f"obs {column}" for column in chosen])
    words = "Each on its own scale; the outermost 0.1 % on either side are left out."
    if len(chosen) < values.shape[1]:
        words += f" {len(chosen)} of {values.shape[1]} columns, evenly spread."
    return _section(
        "Observations, column by column", figure, f"Histograms of the observations. {words}", words
    )


def _pair(*items: tuple[str, Figure | None, str]) -> str:
    inner = "".join(_section(title, figure, alt) for title, figure, alt in items if figure is not None)
    return f"<div class=pair>{inner}</div>"


def _section(title: str, figure: Figure, alt: str, words: str = "") -> str:
    source = base64.b64encode(figures.png(figure, dpi=DPI)).decode()
    width = round(figure.get_figwidth() * 100)
    image = f'<img width="{width}" alt="{escape(alt)}" src="data:image/png;base64,{source}">'
    quiet = f"<p class=quiet>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{quiet}{image}</section>"
