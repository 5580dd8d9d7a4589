"""``off2on data``: commands for data sets."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.arguments import command_line, parse_count, parse_number, source_arguments
from off2on.commands.check import check
from off2on.commands.export import export
from off2on.commands.output import ProgressLine, format_size, plural, print_table
from off2on.errors import DataError, Exists, UserError

if TYPE_CHECKING:
    from datasets_io import Shards
    from datasets_io.storage import Place


@click.group()
def data() -> None:
    """List, add, show, check and export data sets."""


data.add_command(export)


@data.command("list")
@click.option("--catalogue", is_flag=True, help="List the names that can be downloaded or generated.")
def list_(catalogue: bool) -> None:
    """List the data sets in the data folder."""
    from datasets_io.scores import key_of, mean_normalised
    from datasets_io.shards.reading import Shards, data_folders, data_root
    from datasets_io.sources.catalogue import known_names

    if catalogue:
        click.echo("\n".join(known_names()))
        return
    root = data_root()
    rows: list[tuple[str, ...]] = [("name", "rows", "episodes", "return", "normalised", "environment")]
    for folder in data_folders(root):
        try:
            shards = Shards(folder)
        except DataError as error:
            rows.append((folder.name, "damaged", "", "", "", error.what))
            continue
        returns, score = shards.returns, mean_normalised(key_of(shards.manifest), shards.returns)
        rows.append(
            (
                folder.name,
                f"{shards.rows:,}",
                f"{shards.episodes:,}",
                f"{returns.mean():.1f} ± {returns.std():.1f}",
                f"{score:.1f}" if score is not None else "–",
                shards.env_id or "–",
            )
        )
    if len(rows) > 1:
        print_table(rows, right=(1, 2, 3, 4))
    else:
        click.echo(f"{root} contains no data set", err=True)
    click.echo(f"{len(known_names())} more can be added by name: off2on data list --catalogue", err=True)


@data.command()
@click.argument("source")
@click.argument("words", nargs=-1, metavar="[PATH] [NAME=VALUE …]")
@click.option(
    "--name", metavar="NAME", help="Name of the data set and its folder.  [default: name of the source]"
)
@click.option("--if-missing", is_flag=True, help="Do nothing if the data set exists.")
@click.option("--overwrite", is_flag=True, help="Replace the data set if it exists.")
@click.option("--append", metavar="NAME", help="Add the data to data set NAME as a new generation (NAME@1).")
@click.option(
    "--nan",
    default="refuse",
    show_default=True,
    type=click.Choice(["refuse", "drop-episode"]),
    help="How to handle data with NaN.",
)
@click.option(
    "--clip-actions", is_flag=True, help="Clip actions to the action space instead of reporting them."
)
@click.option("--env", metavar="ID", help="Gymnasium id of the environment of the data.")
@click.option(
    "--discount",
    type=parse_number,
    metavar="X",
    help="Store the return-to-go with this discount as column 'ret'.",
)
@click.option(
    "--columns",
    multiple=True,
    metavar="ROLE=COLUMN,…",
    help="Columns of a table, for example obs=x,v actions=u rewards=r episode=trip step=t",
)
@click.option(
    "--rows-per-shard",
    type=parse_count,
    metavar="N",
    default="100k",
    show_default=True,
    help="Approximate number of rows per file.",
)
@click.option(
    "--store-next-obs", is_flag=True, help="Store the next observation with every row (off2on derives it)."
)
@click.option("--address", metavar="HOST:PORT", help="Ray cluster on which to read the data.  [$RAY_ADDRESS]")
def add(
    source: str,
    words: tuple[str, ...],
    name: str | None,
    if_missing: bool,
    overwrite: bool,
    append: str | None,
    nan: str,
    clip_actions: bool,
    env: str | None,
    discount: float | None,
    columns: tuple[str, ...],
    rows_per_shard: int,
    store_next_obs: bool,
    address: str | None,
) -> None:
    """Read SOURCE, check the data, and write them as a data set.

    SOURCE is toy-pendulum or maze-umaze; an id of D4RL, downloaded unless PATH is given; minari/ and an id
    of Minari; a file or pattern ending in .hdf5, .h5, .csv, .parquet, .arrow, .npz or .tfrecord, or a folder
    of LeRobot, RLDS or Hugging Face, local or in s3:// or gs://; a new name with such a PATH, or with a
    folder of tables or of RLlib's episodes; or package.module:Class. NAME=VALUE are options of the source,
    for example episodes=10 for toy-pendulum.
    """
    from datasets_io.ingestion.appending import append as add_generation
    from datasets_io.ingestion.ingest import check_discount, ingest
    from datasets_io.shards.reading import data_root
    from datasets_io.sources.catalogue import resolve_source
    from datasets_io.storage.names import check_name, is_valid_name
    from datasets_io.storage.writable import check_writable, example_folder
    from off2on.commands.describe import print_summary
    from off2on.runs.numbers import duration

    if append is not None:
        _check_append_options(
            name=name,
            overwrite=overwrite,
            if_missing=if_missing,
            discount=discount,
            store_next_obs=store_next_obs,
        )
    check_discount(discount)  # before the download
    arguments = source_arguments(source, words, columns, env)
    started = time.monotonic()
    root = data_root()
    expected_name = source.removeprefix("d4rl/") if name is None else check_name(name)
    known = append is None and not overwrite and is_valid_name(expected_name)
    if known and _exists(root / expected_name, if_missing):
        return  # before the download
    if append is None:
        another = f"OFF2ON_DATA={example_folder('data')} {command_line()}"
        check_writable(root, f"the data folder {root}", another)
    with ProgressLine() as progress, _cluster(address):

        def show_download(received: int, total: int) -> None:
            progress.show(f"download   {format_size(received)} of {format_size(total)}")

        def show_writing(rows: int, parts: int, total: int) -> None:
            left = (total - parts) * (time.monotonic() - started) / parts if parts else None
            of_parts = f", {parts} of {total} parts" if total > 1 else ""
            time_left = f", {duration(left)} left" if total > 1 and left else ""
            progress.show(f"writing    {rows:,} rows{of_parts}{time_left}")

        resolved = resolve_source(source, arguments.path, arguments.options, show_download)
        ingest_options: dict[str, Any] = {
            "rows_per_shard": rows_per_shard,
            "nan": nan,
            "clip_actions": clip_actions,
        }
        if append is not None:
            shards = add_generation(
                resolved.source, resolved.path, _open(append), progress=show_writing, **ingest_options
            )
        else:
            final = root / (resolved.name if name is None else name)
            if not overwrite and _exists(final, if_missing):
                return
            shards = ingest(
                resolved.source,
                resolved.path,
                root,
                name=final.name,
                discount=discount,
                store_new_obs=store_next_obs,
                overwrite=overwrite,
                progress=show_writing,
                **ingest_options,
            )
    print_summary(shards, resolved.path, time.monotonic() - started)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster, if one is given, and print its machines on stderr."""
    from off2on.training.process import cluster_address, ray_started

    if (where := cluster_address(address)) is None:
        yield
        return
    from off2on.training.cluster.preflight import describe_readers

    os.environ["RAY_ADDRESS"] = where  # with it, an ingest uses the cluster from its first part
    with ray_started(where, 0):
        click.echo(describe_readers(), err=True)
        yield


@data.command()
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="Print the manifest and the scores as JSON.")
def show(name: str, json_: bool) -> None:
    """Show the manifest, statistics and scores of a data set."""
    from off2on.commands.describe import describe

    describe(_open(name), json_)


data.add_command(check)


def _open(name: str) -> "Shards":
    from datasets_io.shards.reading import open_shards

    return open_shards(name)


def _check_append_options(**options: Any) -> None:
    """Raise if an option is given that the existing data set already determines."""
    for option in (name for name, value in options.items() if value is not None and value is not False):
        raise UserError(
            f"--{option.replace('_', '-')} cannot be used with --append.",
            "A new generation is stored in the same way as the other generations of the data set.",
        )


def _exists(folder: "Place", accept_existing: bool) -> bool:
    """Return true if the data set exists, with a message on stderr; raise if it must not exist."""
    from datasets_io import storage
    from datasets_io.ingestion.workspace import tidy
    from datasets_io.shards.manifest import MANIFEST_FILE
    from datasets_io.shards.reading import Shards

    if not storage.is_file(folder / MANIFEST_FILE):
        return False
    tidy(folder)
    if not accept_existing:
        raise Exists(
            f"{folder} exists.",
            "--overwrite replaces it, --if-missing leaves it as it is.",
            f"--name {folder.name}-2",
        )
    shards = Shards(folder)
    click.echo(f"{folder} exists: {shards.rows:,} rows, {plural(shards.episodes, 'episode')}", err=True)
    return True
