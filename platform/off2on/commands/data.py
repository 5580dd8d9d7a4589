"""``off2on data``: recorded data as shards."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.arguments import source_arguments, whole
from off2on.commands.check import check
from off2on.commands.export import export
from off2on.commands.output import ProgressLine, format_size, plural, print_line, print_table
from off2on.errors import DataError, Exists, UserError

if TYPE_CHECKING:
    from datasets_io import Manifest, Shards
    from datasets_io.storage import Place


@click.group()
def data() -> None:
    """Recorded data: list, add, show, check, export."""


data.add_command(export)


@data.command("list")
@click.option("--catalogue", is_flag=True, help="The names that can be added without a file.")
def list_(catalogue: bool) -> None:
    """The data sets that are there."""
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
        click.echo(f"{root} holds no data set", err=True)
    click.echo(f"{len(known_names())} more can be added by name: off2on data list --catalogue", err=True)


@data.command()
@click.argument("source")
@click.argument("words", nargs=-1, metavar="[PATH] [NAME=VALUE …]")
@click.option("--name", metavar="NAME", help="Of the data set and its folder.  [the source's]")
@click.option("--if-missing", is_flag=True, help="Do nothing if it is there already.")
@click.option("--overwrite", is_flag=True, help="Replace it.")
@click.option("--append", metavar="NAME", help="Add to that data set instead, as a new generation: NAME@1.")
@click.option(
    "--nan",
    default="refuse",
    show_default=True,
    type=click.Choice(["refuse", "drop-episode"]),
    help="Of data with NaN.",
)
@click.option("--clip-actions", is_flag=True, help="Clip actions to their box instead of reporting them.")
@click.option("--env", metavar="ID", help="Gymnasium id of the environment it was recorded in.")
@click.option(
    "--discount", type=float, metavar="X", help="Store the return to go with this discount as 'ret'."
)
@click.option(
    "--columns",
    multiple=True,
    metavar="ROLE=COLUMN,…",
    help="Of a table: obs=x,v actions=u rewards=r episode=trip",
)
@click.option("--rows-per-shard", type=whole, metavar="N", default="100k", show_default=True)
@click.option("--store-next-obs", is_flag=True, help="With every row, for other readers; ours derives it.")
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster to read it on.  [$RAY_ADDRESS]")
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
    """Read SOURCE, check it, and write it as shards.

    SOURCE is toy-pendulum or maze-umaze; an id of D4RL, downloaded unless PATH is given; minari/ and an id
    of Minari; a file, folder or pattern ending in .hdf5, .h5, .csv, .parquet, .npz or .tfrecord, here or in
    s3:// or gs://; a name of your own with such a PATH; or package.module:Class. NAME=VALUE are options of
    the source, such as episodes=10 for toy-pendulum.
    """
    from datasets_io.ingestion.appending import append as add_generation
    from datasets_io.ingestion.ingest import ingest
    from datasets_io.shards.reading import data_root
    from datasets_io.sources.catalogue import resolve_source
    from off2on.runs.numbers import duration

    if append is not None:
        _refuse_beside_append(
            name=name,
            overwrite=overwrite,
            if_missing=if_missing,
            discount=discount,
            store_next_obs=store_next_obs,
        )
    given = source_arguments(source, words, columns, env)
    started = time.monotonic()
    root = data_root()
    likely = name or source.removeprefix("d4rl/")
    if append is None and not overwrite and _is_there(root / likely, source, if_missing):
        return  # before anything is downloaded
    with ProgressLine() as ticker, _cluster(address):

        def downloading(have: int, total: int) -> None:
            ticker.show(f"download   {format_size(have)} of {format_size(total)}")

        def writing(rows: int, parts: int, of: int) -> None:
            left = (of - parts) * (time.monotonic() - started) / parts if parts else None
            of_parts = f", {parts} of {of} parts" if of > 1 else ""
            time_left = f", {duration(left)} left" if of > 1 and left else ""
            ticker.show(f"writing    {rows:,} rows{of_parts}{time_left}")

        resolved = resolve_source(source, given.path, given.options, downloading)
        rules: dict[str, Any] = {"rows_per_shard": rows_per_shard, "nan": nan, "clip_actions": clip_actions}
        if append is not None:
            shards = add_generation(resolved.source, resolved.path, _open(append), progress=writing, **rules)
        else:
            final = root / (name or resolved.name)
            if not overwrite and _is_there(final, source, if_missing):
                return
            shards = ingest(
                resolved.source,
                resolved.path,
                root,
                name=final.name if name is None else name,
                discount=discount,
                store_new_obs=store_next_obs,
                overwrite=overwrite,
                progress=writing,
                **rules,
            )
    _tell(shards, resolved.path, time.monotonic() - started)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """The cluster that is named, joined, with a word about it on stderr; or nothing."""
    from off2on.training.process import cluster_address, ray_started

    if (where := cluster_address(address)) is None:
        yield
        return
    from off2on.training.cluster.preflight import readers

    os.environ["RAY_ADDRESS"] = where  # an ingest begins by itself where there is none
    with ray_started(where, 0):
        click.echo(readers(), err=True)
        yield


@data.command()
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="The manifest and the scores as JSON.")
def show(name: str, json_: bool) -> None:
    """Everything known about a data set."""
    from off2on.commands.describe import describe

    describe(_open(name), json_)


data.add_command(check)


def _open(name: str) -> "Shards":
    from datasets_io.shards.reading import open_shards

    return open_shards(name)


def _refuse_beside_append(**options: Any) -> None:
    """A generation is as the data set is that it is added to."""
    for option in (name for name, value in options.items() if value):
        raise UserError(
            f"--{option.replace('_', '-')} says nothing beside --append.",
            "A generation goes into the data set that --append names, and is stored as the others are.",
        )


def _is_there(folder: "Place", source: str, is_fine: bool) -> bool:
    """Whether a whole data set is there, said on stderr; raises unless that is fine."""
    from datasets_io import storage
    from datasets_io.shards.manifest import MANIFEST_FILE
    from datasets_io.shards.reading import Shards

    if not storage.is_file(folder / MANIFEST_FILE):
        return False
    if not is_fine:
        raise Exists(
            f"{folder} exists.",
            "--overwrite replaces it, --if-missing leaves it as it is.",
            f"off2on data add {source} --name {folder.name}-2",
        )
    shards = Shards(folder)
    click.echo(f"{folder} is there: {shards.rows:,} rows, {plural(shards.episodes, 'episode')}", err=True)
    return True


def _tell(shards: "Shards", path: "Place | None", seconds: float) -> None:
    """The facts of what was just written."""
    from datasets_io import storage
    from off2on.commands.describe import stored

    manifest = shards.manifest
    if path is not None and storage.is_file(path):
        read = f"{path}   {format_size(storage.size(path))}, {manifest.rows:,} rows"
    else:
        read = f"{path or manifest.description}   {manifest.rows:,} rows"
    print_line("reading", read)
    _tell_checked(manifest)
    content = f"sha256:{manifest.content_hash[:4]}…{manifest.content_hash[-3:]}"
    print_line("writing", f"{shards.path}   {stored(manifest)}, {seconds:.0f} s · {content}")
    print_line("score", _score(manifest))
    _tell_known(manifest.name)


def _tell_known(name: str) -> None:
    """What was reported of data of this name."""
    from datasets_io.diagnosis.known_defects import known_defects

    for number, known in enumerate(known_defects(name)):
        print_line("" if number else "known", f"{known.what} ({known.issue}): {known.do}")


def _tell_checked(manifest: "Manifest") -> None:
    kinds = {fault.kind for fault in manifest.faults}
    said = ["episodes with NaN left out" if "nan" in kinds else "no NaN"]
    space = manifest.action_space
    box = f"0 … {space['n'] - 1}" if space["type"] == "Discrete" else _box(space["low"], space["high"])
    said.append(f"actions {'not all ' if 'outside' in kinds else ''}in {box}")
    ends = f"{manifest.terminated:,} ended by the task, {manifest.truncated:,} cut off"
    said.append(f"{plural(manifest.episodes, 'episode')}, {ends}")
    print_line("checking", " · ".join(said))
    for fault in manifest.faults:
        print_line("", str(fault))


def _box(low: Any, high: Any) -> str:
    return (
        "their box"
        if isinstance(low, list) or isinstance(high, list)
        else f"[{float(low):g}, {float(high):g}]"
    )


def _score(manifest: "Manifest") -> str:
    from datasets_io.scores import key_of, mean_normalised
    from off2on.commands.describe import scale

    score = mean_normalised(key_of(manifest), manifest.returns)
    mean = sum(manifest.returns) / manifest.episodes
    own = f"the data's own return is {mean:.1f} ({min(manifest.returns):.1f} … {max(manifest.returns):.1f})"
    return own if score is None else f"{own}: {score:.1f} normalised {scale(manifest)}"
