"""``off2on data check``: the doctor for data, on a terminal, as JSON or as a page."""

import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.arguments import SourceArguments, source_arguments
from off2on.commands.output import ProgressLine, format_size, plural, print_json, print_line
from off2on.errors import UnknownName

if TYPE_CHECKING:
    from datasets_io import Shards
    from datasets_io.diagnosis import Diagnosis, Finding
    from datasets_io.sources.catalogue import Resolved

REFUSED = 3
"""The exit code, as for data that an ingest refuses."""


@click.command(short_help="Examine a data set, or data that are not one yet.")
@click.argument("source", metavar="NAME|SOURCE")
@click.argument("words", nargs=-1, metavar="[PATH] [NAME=VALUE …]")
@click.option("--html", metavar="FILE", help="Write a page with pictures, too.")
@click.option("--json", "json_", is_flag=True, help="Findings and numbers as JSON.")
@click.option("--against", metavar="NAME", help="Compare the states with those of this data set.")
@click.option("--env", metavar="ID", help="Gymnasium id of the environment they were recorded in.")
@click.option("--columns", multiple=True, metavar="ROLE=COLUMN,…", help="Of a table, as for 'data add'.")
@click.pass_context
def check(
    ctx: click.Context,
    source: str,
    words: tuple[str, ...],
    html: str | None,
    json_: bool,
    against: str | None,
    env: str | None,
    columns: tuple[str, ...],
) -> None:
    """Look for what would spoil learning, and say what to do about it.

    NAME is a data set, of which every byte is compared with its manifest first; SOURCE is whatever
    'off2on data add' takes, and nothing is written. The exit code is 3 if there is an error.
    """
    from datasets_io.shards.reading import open_shards

    beside = None if against is None else open_shards(against)
    given = source_arguments(source, words, columns, env)
    with ProgressLine() as ticker:
        found = _find(source, given, ticker)
        if isinstance(found, tuple):
            typed = [source, *([given.path] if given.path else [])]
            typed += ["--env", env] if env else []
            typed += [word for text in columns for word in ("--columns", text)]
            typed += [word for word in words if word != given.path]
            where, first, diagnosis = _of_source(found, typed, beside, ticker)
        else:
            where, first, diagnosis = _of_shards(found, beside, ticker)
        if html is not None:
            from off2on.reports.data import write_data_report

            ticker.show(f"drawing    {html}")
            write_data_report(diagnosis, where, Path(html))
    if json_:
        print_json({**diagnosis.to_json(), "path": where})
    else:
        _tell(diagnosis, first)
    if html is not None:
        click.echo(f"{'page':<10} {html}", err=json_)
    ctx.exit(REFUSED if diagnosis.count("error") else 0)


def _find(name: str, given: SourceArguments, ticker: ProgressLine) -> "Shards | Resolved":
    """The data set of this name if there is one and nothing else was said; otherwise a source."""
    from datasets_io.shards.reading import open_shards
    from datasets_io.sources.catalogue import resolve_source

    missing: UnknownName | None = None
    if given.path is None and not given.options:
        try:
            return open_shards(name)
        except UnknownName as error:
            missing = error

    def downloading(have: int, total: int) -> None:
        ticker.show(f"download   {format_size(have)} of {format_size(total)}")

    try:
        return resolve_source(name, given.path, given.options, downloading)
    except UnknownName:
        if missing is not None and ":" not in name:  # it was meant as a name: that is what there is to say
            raise missing from None
        raise


def _of_shards(
    shards: "Shards", beside: "Shards | None", ticker: ProgressLine
) -> "tuple[str, str, Diagnosis]":
    """Where the data are, what the first line says, and what was found."""
    from datasets_io.diagnosis import diagnose_shards
    from off2on.commands.describe import stored

    ticker.show(f"reading    {shards.path}")
    shards.verify()
    manifest = shards.manifest
    kept = f"{stored(manifest)}, every SHA-256 as written on {manifest.created[:10]}"
    diagnosis = diagnose_shards(shards, beside, _counting(ticker))
    return str(shards.path), f"{'whole':<10} {shards.path}   {kept}", diagnosis


def _of_source(
    resolved: "Resolved", typed: Sequence[str], beside: "Shards | None", ticker: ProgressLine
) -> "tuple[str, str, Diagnosis]":
    """The same of a source."""
    from datasets_io.diagnosis import diagnose_source

    again = shlex.join(["off2on", "data", "add", *typed])
    diagnosis = diagnose_source(
        resolved.source, resolved.path, resolved.name, again, beside, _counting(ticker)
    )
    where = str(resolved.path or resolved.source.description)
    read = plural(0 if diagnosis.summary is None else diagnosis.summary.rows, "row")
    return where, f"{'read':<10} {where}   {read}, nothing written", diagnosis


def _counting(ticker: ProgressLine) -> Any:
    return lambda rows: ticker.show(f"checking   {rows:,} rows")


def _tell(diagnosis: "Diagnosis", first: str) -> None:
    """Findings, the gravest first, then numbers."""
    click.echo(first)
    counts = [
        plural(count, kind) for kind in ("error", "warning", "note") if (count := diagnosis.count(kind))
    ]
    print_line("found", ", ".join(counts) or "nothing")
    for finding in diagnosis.findings:
        _tell_finding(finding)
    if diagnosis.facts:
        click.echo()
    for fact in diagnosis.facts:
        _paragraph(f"{fact.name:<14} ", fact.text)


def _tell_finding(finding: "Finding") -> None:
    """What, where, why it matters, and what to do."""
    click.echo()
    where = f" · {finding.where}" if finding.rows else ""
    _paragraph(f"{finding.severity:<9} {finding.check:<13} ", finding.what + where)
    _paragraph(" " * 24, finding.means)
    if finding.do:
        _paragraph(f"{'try:' if finding.is_command else 'do:':>22}  ", finding.do)


def _paragraph(label: str, text: str) -> None:
    """Aligned under itself on a terminal; elsewhere one line, for grep."""
    if not sys.stdout.isatty():
        click.echo(f"{label}{text}".rstrip())
        return
    width = max(60, min(110, shutil.get_terminal_size().columns))
    lines = textwrap.wrap(text, width - len(label), break_long_words=False, break_on_hyphens=False) or [""]
    for number, piece in enumerate(lines):
        click.echo(f"{label if number == 0 else ' ' * len(label)}{piece}".rstrip())
