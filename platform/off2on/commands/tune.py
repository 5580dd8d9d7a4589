"""``off2on tune``: run a search and report its results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.arguments import command_line, parse_count
from off2on.commands.output import ProgressLine, print_line, print_table
from off2on.errors import UserError
from off2on.training.command_line import split_arguments
from off2on.training.located_yaml import COMMAND_LINE, LocatedValue

if TYPE_CHECKING:
    from off2on.search.spec import Search


@click.command(short_help="Search for hyperparameters, strategies, algorithms.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[NAME=VALUE …]")
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Trials at a time.  [1]")
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to join.  [$RAY_ADDRESS]")
@click.option(
    "--wait",
    type=parse_count,
    default="0",
    metavar="N",
    help="Minutes to wait for nodes of the cluster.  [0]",
)
@click.option("--track", metavar="NAME", multiple=True, help="Log every run to wandb or mlflow too.")
@click.option(
    "--report-only", is_flag=True, help="Only write best.yaml and the report of the existing trials."
)
@click.option("--resume", is_flag=True, help="Continue the search of this file.")
@click.option("--dry-run", is_flag=True, help="Check and print the search without starting it.")
def tune(
    file: Path,
    words: tuple[str, ...],
    jobs: int,
    address: str | None,
    wait: int,
    track: tuple[str, ...],
    report_only: bool,
    resume: bool,
    dry_run: bool,
) -> None:
    """Run the trials of the search in FILE, and report the best.

    FILE is YAML: what to train, the search space and the objective; see tune_configs. Its keys: algorithm,
    data, strategy, search, with, maximise, seeds, trials, by, stop_early, out, and options of off2on train
    such as updates. NAME=VALUE are keys of the file (trials=8) or fixed hyperparameters. Writes trials.csv,
    best.yaml and a report.
    """
    from datasets_io.storage.writable import check_writable, example_folder
    from off2on.search.reading import read
    from off2on.training.process import cluster_address

    arguments = split_arguments(words)
    if arguments.positional:
        raise UserError(
            f"unexpected argument '{arguments.positional[0]}'.", "Expected FILE, then NAME=VALUE."
        )
    given = {
        name: LocatedValue(str(v), arguments.origins[name], f"{name}={v}")
        for name, v in arguments.values.items()
    }
    if track:
        given["track"] = LocatedValue(",".join(track), COMMAND_LINE, f"--track {track[0]}")
    with ProgressLine() as ticker:
        ticker.show(f"checking {file} …")
        search = read(file, given, cluster_address(address))
        if report_only:
            _report(search)
            return
        from off2on.search.checks import check
        from off2on.search.searcher import require_packages

        another = f"off2on tune {file} out={example_folder(f'runs/{file.stem}')}"
        check_writable(search.place, f"out: {search.place}", another)
        check(search, jobs)
        require_packages(search)
    runs = search.trials * search.seeds * len(search.data)
    if dry_run:
        print_table(_rows(search.as_dict()))
    from off2on.search.resources import joined_cluster

    with joined_cluster(search, jobs, lambda text: click.echo(text, err=not dry_run), 60.0 * wait):
        if dry_run:
            message = f"the checks passed; nothing was started. The search has {runs} runs in {search.place}"
            click.echo(message, err=True)
            return
        from off2on.search.run import run

        try:
            trials = run(search, jobs, resume)
        except KeyboardInterrupt:
            click.echo("interrupted; to resume:", err=True)
            click.echo(f"  {command_line()} --resume", err=True)
            raise click.exceptions.Exit(130) from None
    print_line("trials", str(search.place / "trials.csv"))
    if not any(trial.outcome["status"] == "finished" for trial in trials):
        click.echo(f"no trial finished; the reasons are in {search.place / 'trials'}/*/log.txt", err=True)
        raise click.exceptions.Exit(1)
    _report(search)


def _report(search: "Search") -> None:
    """Write the report of a search and print its paths."""
    from off2on.reports.search import write_search_report

    page, best = write_search_report(search.place)
    print_line("best", str(best))
    if search.by == "pbt":
        click.echo("these are the final values; `taken_over` in run.yaml has their history", err=True)
    print_line("report", str(page))


def _rows(message: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a table of the keys of a search with values and origins."""
    rows = [("key", "value", "origin")]
    for name, each in message.items():
        if name in ("with", "search"):
            rows += [(f"{name}.{key}", _words(one["value"]), one["origin"]) for key, one in each.items()]
        elif name != "file":
            rows.append((name, _words(each["value"]), each["origin"]))
    return rows


def _words(value: Any) -> str:
    """Format a value: lists with commas, a range as in the file."""
    if isinstance(value, dict):
        return ", ".join(f"{word} {_words(values)}" for word, values in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
