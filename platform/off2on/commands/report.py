"""``off2on report``: write the report of runs as one HTML page."""

import os
from pathlib import Path

import click

from datasets_io.errors import printable
from off2on.commands.output import plural


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Path of the page, or a folder for it.  [beside the runs]"
)
def report(runs: tuple[str, ...], out: Path | None) -> None:
    """Write one HTML file with figures, from one run or several.

    RUN is a folder, a glob, a folder of runs, or a name with only one match below ./runs.
    """
    from datasets_io.storage.replacing import PARTIAL
    from off2on.reports.run import write_report
    from off2on.runs.record import find_runs, runs_below

    def is_wanted(path: Path) -> bool:
        return not os.path.exists(path) or (path.suffix != PARTIAL and bool(runs_below(path)))

    # A shell's glob also finds earlier reports with their figures, and unfinished copies, beside the runs.
    wanted = [run for run in runs if len(runs) == 1 or is_wanted(Path(run))]
    folders = find_runs(wanted or runs)
    click.echo(f"reading    {plural(len(folders), 'run')}", err=True)
    click.echo(printable(str(write_report(folders, out, note=lambda line: click.echo(line, err=True)))))
