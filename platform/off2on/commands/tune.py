"""``off2on tune``: a search, and what came of it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.arguments import command_line, parse_count
from off2on.commands.output import ProgressLine, print_line, print_table
from off2on.training.command_line import split
from off2on.training.located_yaml import COMMAND_LINE, LocatedValue

if TYPE_CHECKING:
    from off2on.search.spec import Search


@click.command(short_help="Search for hyperparameters, strategies, algorithms.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[NAME=VALUE …]")
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Trials at a time.  [1]")
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster to join.")
@click.option(
    "--wait", type=parse_count, default="0", metavar="N", help="Minutes for a cluster to have room.  [0]"
)
@click.option("--track", metavar="NAME", multiple=True, help="Tell wandb or mlflow of every run too.")
@click.option("--report-only", is_flag=True, help="Only make best.yaml and the page of what is there.")
@click.option("--resume", is_flag=True, help="Go on where the search of this file stopped.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the search, start nothing.")
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
    """Run the trials that FILE describes, and say which is best.

    FILE is YAML: what to train, what varies, and what to maximise; see tune_configs. NAME=VALUE are keys of
    the file (trials=8), or hyperparameters that are to be fixed. Ends with trials.csv, best.yaml and a page.
    """
    from off2on.search.reading import read
    from off2on.training.process import cluster_address

    said = split(words)
    given = {name: LocatedValue(str(v), said.origins[name], f"{name}={v}") for name, v in said.values.items()}
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

        # RLlib's advice on a configuration that users do not write.
        logging.getLogger("ray.rllib.algorithms.algorithm_config").setLevel(logging.ERROR)
        check(search, jobs)
        require_packages(search)
    runs = search.trials * search.seeds * len(search.data)
    if dry_run:
        print_table(_rows(search.as_dict()))
    from off2on.search.resources import joined

    with joined(search, jobs, lambda text: click.echo(text, err=not dry_run), 60.0 * wait):
        if dry_run:
            told = f"all is well; nothing was started. It would make {runs} runs in {search.place}"
            click.echo(told, err=True)
            return
        from off2on.search.run import run

        try:
            trials = run(search, jobs, resume)
        except KeyboardInterrupt:
            click.echo("interrupted; to go on, without what has ended:", err=True)
            click.echo(f"  {command_line()} --resume", err=True)
            raise click.exceptions.Exit(130) from None
    print_line("trials", str(search.place / "trials.csv"))
    if not any(trial.outcome["status"] == "finished" for trial in trials):
        click.echo(f"no trial finished; why is in {search.place / 'trials'}/*/log.txt", err=True)
        raise click.exceptions.Exit(1)
    _report(search)


def _report(search: "Search") -> None:
    """What came of a search, on stdout."""
    from off2on.reports.search import write_findings

    page, best = write_findings(search.place)
    print_line("best", str(best))
    if search.by == "pbt":
        click.echo(
            "these are the values at the end; `taken_over` in run.yaml says how they came about", err=True
        )
    print_line("report", str(page))


def _rows(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Every key of a search with its value and where that was said."""
    rows = [("key", "value", "origin")]
    for name, each in told.items():
        if name in ("with", "search"):
            rows += [(f"{name}.{key}", _words(one["value"]), one["origin"]) for key, one in each.items()]
        elif name != "file":
            rows.append((name, _words(each["value"]), each["origin"]))
    return rows


def _words(value: Any) -> str:
    """Lists with commas; a range as in the file."""
    if isinstance(value, dict):
        return ", ".join(f"{word} {_words(values)}" for word, values in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
