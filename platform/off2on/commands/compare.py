"""``off2on compare``: variants of the online phase from the same handovers, and a report."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from datasets_io.storage.writable import check_writable, example_folder
from off2on.commands.comparison_file import Comparison, read
from off2on.commands.output import ProgressLine, print_line
from off2on.errors import LearnerDied, UserError


@click.command(short_help="Compare variants of the online phase from the same handovers.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Runs at a time.  [1]")
@click.option("--report-only", is_flag=True, help="Only write the report and the table of the existing runs.")
@click.option(
    "--queue", type=int, hidden=True, help="For the processes of --jobs: file descriptor of the pipe."
)
def compare(file: Path, jobs: int, report_only: bool, queue: int | None) -> None:
    """Run every variant of FILE from every handover, and compare them.

    FILE is YAML: `handovers` and `variants` have lines NAME: ARGUMENTS of `off2on train`; see
    tune_configs/handover.yaml. The same command continues: finished runs are kept, interrupted ones
    are resumed. Writes a report and scores.csv, one row per run.
    """
    comparison = read(file)
    given, example = f"{file}: out: {comparison.out}", example_folder(f"runs/{file.stem}")
    check_writable(comparison.out, given, f"out: {example}")
    with ProgressLine() as ticker:
        ticker.show(f"checking {len(comparison.handovers)} handovers × {len(comparison.variants)} variants …")
        refused = comparison.refusals()
    if queue is not None:
        sys.exit(_runs(comparison, refused, queue) > 0)
    for (handover, variant), why in refused.items():
        click.echo(f"left out: {handover} × {variant}: {why}", err=True)
    failed = False if report_only else _in_processes(comparison, file, jobs)
    from off2on.reports.comparison import write_comparison

    cells, left_out = _folders(comparison, refused)
    page, table = write_comparison(comparison.out, cells, left_out)
    print_line("scores", str(table))
    print_line("report", str(page))
    if failed:
        raise click.exceptions.Exit(1)


def _in_processes(comparison: Comparison, file: Path, jobs: int) -> bool:
    """Make the missing runs; return True if any failed."""
    from datasets_io.storage.locks import exclusive_lock
    from off2on.runs.lock import where_possible

    comparison.out.mkdir(parents=True, exist_ok=True)
    under_way = UserError(
        f"another comparison is running in {comparison.out}.",
        "If it was killed, its jobs continue until all runs are done.",
        f"off2on compare {comparison.path} --report-only",
    )
    with where_possible(exclusive_lock(comparison.out / ".lock", under_way)) as lock:
        # All jobs read from one pipe: a free job takes the next handover, as some take hours.
        queue, pairs = os.pipe()
        os.write(pairs, b"".join(number.to_bytes(2) for number in range(len(_pairs(comparison)))))
        os.close(pairs)
        command = [sys.executable, sys.argv[0], "compare", str(file), "--queue", str(queue)]
        shared = (queue,) if lock is None else (queue, lock)  # the lock is held as long as a job runs
        children = [subprocess.Popen(command, pass_fds=shared) for _ in range(jobs)]
        os.close(queue)
        statuses = [child.wait() for child in children]
    return any(statuses)


def _pairs(comparison: Comparison) -> list[tuple[str, int]]:
    return [(handover, seed) for seed in range(comparison.seeds) for handover in comparison.handovers]


def _folders(
    comparison: Comparison, refused: dict[tuple[str, str], str]
) -> tuple[dict[tuple[str, str], list[Path]], dict[tuple[str, str], str]]:
    """Return the folders of the runs of each pair, and the reasons of missing ones."""
    cells: dict[tuple[str, str], list[Path]] = {}
    left_out = dict(refused)
    for handover in comparison.handovers:
        for variant in comparison.variants:
            for seed in range(comparison.seeds if (handover, variant) not in refused else 0):
                try:
                    folder = comparison.plan(handover, variant, seed).folder
                    cells.setdefault((handover, variant), []).append(folder)
                except UserError as error:  # its handover does not exist
                    left_out[handover, variant] = f"seed {seed}: {error.what}"
    return cells, left_out


def _runs(comparison: Comparison, refused: dict[tuple[str, str], str], queue: int) -> int:
    """Run handovers from the queue and their variants; return the number of failed runs."""
    from off2on.runs.numbers import duration
    from off2on.training.process import ray_started, redirect_output

    pairs, out = _pairs(comparison), comparison.out
    total = len(pairs) * (1 + len(comparison.variants)) - len(refused) * comparison.seeds
    started, before, failed = time.monotonic(), _finished(out), 0

    def left() -> str:
        """Return the estimated remaining time of all jobs, at the rate since this one began."""
        done = _finished(out)
        seconds = (time.monotonic() - started) * (total - done) / max(1, done - before)
        return f" · about {duration(seconds)} left" if done < total else ""

    # One connection to the cluster of $RAY_ADDRESS; without it, a run with processes starts a Ray of its own.
    with redirect_output(out / "log.txt") as terminal, ray_started(None, 0):
        while number := os.read(queue, 2):
            handover, seed = pairs[int.from_bytes(number)]
            for variant in (
                None,
                *(variant for variant in comparison.variants if (handover, variant) not in refused),
            ):
                message = _run(comparison, handover, variant, seed)
                failed += message.startswith("failed")
                if message:
                    click.echo(message + left(), terminal)
    return failed


def _finished(out: Path) -> int:
    """Return the number of finished runs: those with a policy."""
    return sum(1 for _ in out.glob("*/*/*/*/policy.pt"))


def _run(comparison: Comparison, handover: str, variant: str | None, seed: int) -> str:
    """Make a run, unless it is finished, and return a line about its result."""
    from off2on.runs.numbers import duration, points
    from off2on.runs.record import load_run
    from off2on.training.train import train

    name, started = f"{handover} × {variant or 'offline'} × seed {seed}", time.monotonic()
    try:
        plan = comparison.plan(handover, variant, seed)
        if plan.is_finished:
            return ""
    except UserError as error:
        return f"failed  {name}: {error.what}"
    try:
        curve = load_run(train(plan, resume=plan.has_begun)).curve
    except (UserError, LearnerDied) as error:
        return f"failed  {name}: {error}"
    except Exception as error:  # an internal error: training has written its traceback
        return f"failed  {name}: {type(error).__name__}: {error}; see {plan.folder / 'log.txt'}"
    drop = "" if curve.drop is None else f" · drop {points(curve.drop)}"
    took = duration(time.monotonic() - started)
    return f"done    {name}: {points(curve.final)}{drop} · {took}"
