"""``off2on compare``: ways across from the same handovers, and one page about them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from off2on.commands.cells import Comparison, read
from off2on.commands.output import ProgressLine, print_line
from off2on.errors import LearnerDied, UserError


@click.command(short_help="Ways across from the same handovers, side by side.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Runs at once.  [1]")
@click.option("--report-only", is_flag=True, help="Only make the page and the table of what is there.")
@click.option("--queue", type=int, hidden=True, help="One of the jobs: the file descriptor of its pipe.")
def compare(file: Path, jobs: int, report_only: bool, queue: int | None) -> None:
    """Run every way of FILE from every handover of it, and compare.

    FILE is YAML: `handovers` and `ways` have lines NAME: words of `off2on train`; see
    tune_configs/handover.yaml. Runs that are there are not made again, one that was interrupted goes
    on, so the same command continues. Ends with a page and with scores.csv, one row per run.
    """
    comparison = read(file)
    with ProgressLine() as ticker:
        ticker.show(f"checking {len(comparison.handovers)} handovers × {len(comparison.ways)} ways …")
        refused = comparison.refusals()
    if queue is not None:
        sys.exit(_runs(comparison, refused, queue) > 0)
    for (handover, way), why in refused.items():
        click.echo(f"left out: {handover} × {way}: {why}", err=True)
    failed = False if report_only else _in_processes(comparison, file, jobs)
    from off2on.reports.comparison import write_comparison

    cells, left_out = _folders(comparison, refused)
    page, table = write_comparison(comparison.out, cells, left_out)
    print_line("scores", str(table))
    print_line("report", str(page))
    if failed:
        raise click.exceptions.Exit(1)


def _in_processes(comparison: Comparison, file: Path, jobs: int) -> bool:
    """Makes the runs that are missing; whether any failed."""
    from datasets_io.ingestion.workspace import exclusive_lock

    comparison.out.mkdir(parents=True, exist_ok=True)
    under_way = UserError(
        f"another comparison is under way in {comparison.out}.",
        "Of one that was killed alone, the jobs go on until all is done.",
        f"off2on compare {comparison.path} --report-only",
    )
    with exclusive_lock(comparison.out / ".lock", under_way) as lock:  # the jobs share it
        # All jobs read from one pipe, so that whoever is free takes the next handover: some take hours.
        queue, pairs = os.pipe()
        os.write(pairs, b"".join(number.to_bytes(2) for number in range(len(_pairs(comparison)))))
        os.close(pairs)
        command = [sys.executable, sys.argv[0], "compare", str(file), "--queue", str(queue)]
        children = [subprocess.Popen(command, pass_fds=(queue, lock)) for _ in range(jobs)]
        os.close(queue)
        statuses = [child.wait() for child in children]
    return any(statuses)


def _pairs(comparison: Comparison) -> list[tuple[str, int]]:
    return [(handover, seed) for seed in range(comparison.seeds) for handover in comparison.handovers]


def _folders(
    comparison: Comparison, refused: dict[tuple[str, str], str]
) -> tuple[dict[tuple[str, str], list[Path]], dict[tuple[str, str], str]]:
    """Where the runs of each pair are, and why those are not that could not be begun."""
    cells: dict[tuple[str, str], list[Path]] = {}
    left_out = dict(refused)
    for handover in comparison.handovers:
        for way in comparison.ways:
            for seed in range(comparison.seeds if (handover, way) not in refused else 0):
                try:
                    folder = comparison.plan(handover, way, seed).folder
                    cells.setdefault((handover, way), []).append(folder)
                except UserError as error:  # its handover was not made
                    left_out[handover, way] = f"seed {seed}: {error.what}"
    return cells, left_out


def _runs(comparison: Comparison, refused: dict[tuple[str, str], str], queue: int) -> int:
    """Handovers from the queue with all that sets out from them; how many runs failed."""
    from off2on.runs.numbers import duration
    from off2on.training.process import quiet, ray_started

    pairs, out = _pairs(comparison), comparison.out
    total = len(pairs) * (1 + len(comparison.ways)) - len(refused) * comparison.seeds
    started, before, failed = time.monotonic(), _finished(out), 0

    def left() -> str:
        """How long all jobs together still take, if they go on as they did since this one began."""
        done = _finished(out)
        seconds = (time.monotonic() - started) * (total - done) / max(1, done - before)
        return f" · about {duration(seconds)} left" if done < total else ""

    # One Ray for all runs: to start it takes as long as a short one.
    with quiet(out / "log.txt") as terminal, ray_started(None, 0):
        while number := os.read(queue, 2):
            handover, seed = pairs[int.from_bytes(number)]
            for way in (None, *(way for way in comparison.ways if (handover, way) not in refused)):
                told = _run(comparison, handover, way, seed)
                failed += told.startswith("failed")
                if told:
                    click.echo(told + left(), terminal)
    return failed


def _finished(out: Path) -> int:
    """How many runs are: each has its policy then."""
    return sum(1 for _ in out.glob("*/*/*/*/policy.pt"))


def _run(comparison: Comparison, handover: str, way: str | None, seed: int) -> str:
    """Makes a run, unless it is there, and says how it went."""
    from off2on.runs.numbers import duration, points
    from off2on.runs.record import load_run, read_metadata
    from off2on.training.train import train

    name, started = f"{handover} × {way or 'offline'} × seed {seed}", time.monotonic()
    try:
        plan = comparison.plan(handover, way, seed)
        there = (plan.folder / "run.yaml").is_file()
        if there and read_metadata(plan.folder)["status"] == "finished":
            return ""
    except UserError as error:
        return f"failed  {name}: {error.what}"
    try:
        curve = load_run(train(plan, resume=there)).curve
    except (UserError, LearnerDied) as error:
        return f"failed  {name}: {error}"
    except Exception as error:  # a fault of ours: training has written its traceback
        return f"failed  {name}: {type(error).__name__}: {error}; see {plan.folder / 'log.txt'}"
    drop = "" if curve.drop is None else f" · drop {points(curve.drop)}"
    took = duration(time.monotonic() - started)
    return f"done    {name}: {points(float(curve.scores[-1]))}{drop} · {took}"
