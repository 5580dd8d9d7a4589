"""``off2on data export``: write a data set in the format of Minari."""

import time

import click

from off2on.commands.output import ProgressLine, format_size, plural, print_line


@click.command("export")
@click.argument("name")
@click.argument("minari_id")
@click.option(
    "--format",
    "data_format",
    default="hdf5",
    show_default=True,
    type=click.Choice(["hdf5", "arrow", "parquet"]),
    help="Storage format of Minari.",
)
def export(name: str, minari_id: str, data_format: str) -> None:
    """Export the data set NAME to Minari as MINARI_ID, for example my-lab/forklifts-v0.

    It is written to the folder of Minari: $MINARI_DATASETS_PATH, by default ~/.minari/datasets.
    """
    from datasets_io.export import export_minari
    from datasets_io.shards.reading import open_shards

    shards, started = open_shards(name), time.monotonic()
    with ProgressLine() as progress:
        folder = export_minari(
            shards,
            minari_id,
            data_format,
            lambda rows: progress.show(f"writing    {rows:,} of {shards.rows:,} rows"),
        )
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    facts = f"{shards.rows:,} rows, {plural(shards.episodes, 'episode')}, {format_size(written)}"
    print_line("writing", f"{folder}   {facts}, {time.monotonic() - started:.0f} s")
