"""``off2on data check``: check data for faults, and print findings on the terminal, as JSON or as a page."""

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
"""Exit code for data with an error, as for data that an ingest refuses."""


@click.command(short_help="Check a data set, or data before they are added.")
@click.argument("source", metavar="NAME|SOURCE")
@click.argument("words", nargs=-1, metavar="[PATH] [NAME=VALUE …]")
@click.option("--html", metavar="FILE", help="Also write an HTML page with figures.")
@click.option("--json", "json_", is_flag=True, help="Print findings and statistics as JSON.")
@click.option("--against", metavar="NAME", help="Compare the states with those of this data set.")
@click.option("--env", metavar="ID", help="Gymnasium id of the environment of the data.")
@click.option(
    "--columns", multiple=True, metavar="ROLE=COLUMN,…", help="Columns of a table, as for 'data add'."
)
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
    """Check data for faults that impair training, and recommend actions.

    NAME is a data set; its files are first compared with the hashes in its manifest. SOURCE is a source as
    for 'off2on data add'; no data set is written. The exit code is 3 if there is an error.
    """
    from datasets_io.shards.reading import open_shards

    other = None if against is None else open_shards(against)
    arguments = source_arguments(source, words, columns, env)
    with ProgressLine() as progress:
        found = _find(source, arguments, progress)
        if isinstance(found, tuple):
            command = [source, *([arguments.path] if arguments.path else [])]
            command += ["--env", env] if env else []
            command += [word for text in columns for word in ("--columns", text)]
            command += [word for word in words if word != arguments.path]
            path, first, diagnosis = _of_source(found, command, other, progress)
        else:
            path, first, diagnosis = _of_shards(found, other, progress)
        if html is not None:
            from off2on.reports.data import write_data_report

            progress.show(f"drawing    {html}")
            write_data_report(diagnosis, path, Path(html))
    if json_:
        print_json({**diagnosis.to_json(), "path": path})
    else:
        _print_diagnosis(diagnosis, first)
    if html is not None:
        click.echo(f"{'page':<10} {html}", err=json_)
    ctx.exit(REFUSED if diagnosis.count("error") else 0)


def _find(name: str, arguments: SourceArguments, progress: ProgressLine) -> "Shards | Resolved":
    """Open the data set of this name if it exists and no path or option is given; otherwise find a source."""
    from datasets_io.shards.reading import open_shards
    from datasets_io.sources.catalogue import resolve_source

    missing: UnknownName | None = None
    if arguments.path is None and not arguments.options:
        try:
            return open_shards(name)
        except UnknownName as error:
            missing = error

    def show_download(have: int, total: int) -> None:
        progress.show(f"download   {format_size(have)} of {format_size(total)}")

    try:
        return resolve_source(name, arguments.path, arguments.options, show_download)
    except UnknownName:
        if missing is not None and ":" not in name:  # probably a misspelt name of a data set
            raise missing from None
        raise


def _of_shards(
    shards: "Shards", other: "Shards | None", progress: ProgressLine
) -> "tuple[str, str, Diagnosis]":
    """Check a data set; return its path, the first line of the output, and the diagnosis."""
    from datasets_io.diagnosis import diagnose_shards
    from off2on.commands.describe import stored

    progress.show(f"reading    {shards.path}")
    shards.verify()
    manifest = shards.manifest
    verified = f"{stored(manifest)}, every SHA-256 as written on {manifest.created[:10]}"
    diagnosis = diagnose_shards(shards, other, _counting(progress))
    return str(shards.path), f"{'verified':<10} {shards.path}   {verified}", diagnosis


def _of_source(
    resolved: "Resolved", command: Sequence[str], other: "Shards | None", progress: ProgressLine
) -> "tuple[str, str, Diagnosis]":
    """Check a source; return its path, the first line of the output, and the diagnosis."""
    from datasets_io.diagnosis import diagnose_source

    ingest_command = shlex.join(["off2on", "data", "add", *command])
    diagnosis = diagnose_source(
        resolved.source, resolved.path, resolved.name, ingest_command, other, _counting(progress)
    )
    path = str(resolved.path or resolved.source.description)
    read = plural(0 if diagnosis.summary is None else diagnosis.summary.rows, "row")
    return path, f"{'read':<10} {path}   {read}, nothing written", diagnosis


def _counting(progress: ProgressLine) -> Any:
    return lambda rows: progress.show(f"checking   {rows:,} rows")


def _print_diagnosis(diagnosis: "Diagnosis", first: str) -> None:
    """Print the findings, highest severity first, then the statistics."""
    click.echo(first)
    counts = [
        plural(count, kind) for kind in ("error", "warning", "note") if (count := diagnosis.count(kind))
    ]
    print_line("found", ", ".join(counts) or "nothing")
    for finding in diagnosis.findings:
        _print_finding(finding)
    if diagnosis.facts:
        click.echo()
    for fact in diagnosis.facts:
        _paragraph(f"{fact.name:<14} ", fact.text)


def _print_finding(finding: "Finding") -> None:
    """Print a finding: observation, rows, effect and recommended action."""
    click.echo()
    rows = f" · {finding.where}" if finding.rows else ""
    _paragraph(f"{finding.severity:<9} {finding.check:<13} ", finding.what + rows)
    _paragraph(" " * 24, finding.means)
    if finding.do:
        _paragraph(f"{'try:' if finding.is_command else 'do:':>22}  ", finding.do)


def _paragraph(label: str, text: str) -> None:
    """Print wrapped and indented text on a terminal; elsewhere one line, for grep."""
    if not sys.stdout.isatty():
        click.echo(f"{label}{text}".rstrip())
        return
    width = max(60, min(110, shutil.get_terminal_size().columns))
    lines = textwrap.wrap(text, width - len(label), break_long_words=False, break_on_hyphens=False) or [""]
    for number, piece in enumerate(lines):
        click.echo(f"{label if number == 0 else ' ' * len(label)}{piece}".rstrip())
