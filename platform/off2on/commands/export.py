"""``off2on data export``: write a data set in the format of Minari or d3rlpy."""

import time
from pathlib import Path

import click

from off2on.commands.output import ProgressLine, format_size, plural, print_line
from off2on.errors import UserError


@click.command("export")
@click.argument("name")
@click.argument("target")
@click.option(
    "--format",
    "data_format",
    type=click.Choice(["hdf5", "arrow", "parquet"]),
    help="Storage format of Minari.  [default: hdf5]",
)
def export(name: str, target: str, data_format: str | None) -> None:
    """Export the data set NAME to Minari or d3rlpy.

    TARGET is an id of Minari, for example my-lab/forklifts-v0: it is written to the folder of Minari,
    $MINARI_DATASETS_PATH, by default ~/.minari/datasets. Or it is a file that ends in .h5 or .hdf5, which
    ReplayBuffer.load of d3rlpy 2 reads.
    """
    from datasets_io.export import export_d3rlpy, export_minari
    from datasets_io.export.d3rlpy import SUFFIXES
    from datasets_io.shards.reading import open_shards

    is_file = target.endswith(SUFFIXES)
    if is_file and data_format is not None:
        raise UserError(f"--format {data_format} is of Minari; {target} is a file of d3rlpy.")
    shards, started = open_shards(name), time.monotonic()
    with ProgressLine() as progress:

        def show(rows: int) -> None:
            progress.show(f"writing    {rows:,} of {shards.rows:,} rows")

        if is_file:
            written_to = export_d3rlpy(shards, Path(target), show)
        else:
            written_to = export_minari(shards, target, data_format or "hdf5", show)
    files = [written_to] if is_file else [file for file in written_to.rglob("*") if file.is_file()]
    written = sum(file.stat().st_size for file in files)
    facts = f"{shards.rows:,} rows, {plural(shards.episodes, 'episode')}, {format_size(written)}"
    print_line("writing", f"{written_to}   {facts}, {time.monotonic() - started:.0f} s")
