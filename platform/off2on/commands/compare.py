"""``off2on compare``: ways across from the same handovers, and one page about them."""

import subprocess
import sys
import time
import traceback
from pathlib import Path

import click

from off2on.commands.cells import Comparison, read
from off2on.commands.screen import Ticker, line
from off2on.errors import LearnerDied, UserError


@click.command(short_help="Ways across from the same handovers, side by side.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Runs at once.  [1]")
@click.option("--report-only", is_flag=True, help="Only make the page and the table of what is there.")
@click.option("--part", type=(int, int), hidden=True, help="Only the I-th of N parts: one of the jobs.")
def compare(file: Path, jobs: int, report_only: bool, part: tuple[int, int] | None) -> None:
    """Run every way of FILE from every handover of it, and compare.

    FILE is YAML: `handovers` and `ways` have lines NAME: words of `off2on train`; see
    tune_configs/handover.yaml. Runs that are there are not made again, one that was interrupted goes
    on, so the same command continues. Ends with a page and with scores.csv, one row per run.
    """
    comparison = read(file)
    with Ticker() as ticker:
        ticker.show(f"checking {len(comparison.handovers)} handovers × {len(comparison.ways)} ways …")
        refused = comparison.refusals()
    if part is not None:
        sys.exit(_runs(comparison, refused, *part))
    for (handover, way), why in refused.items():
        click.echo(f"left out: {handover} × {way}: {why}", err=True)
    failed = 0
    if not report_only:
        command = [sys.executable, sys.argv[0], "compare", str(file), "--part"]
        children = [subprocess.Popen([*command, str(index), str(jobs)]) for index in range(jobs)]
        failed = sum(child.wait() for child in children)
    from off2on.comparison import write_comparison

    cells = {
        (handover, way): [comparison.plan(handover, way, seed).folder for seed in range(comparison.seeds)]
        for handover in comparison.handovers
        for way in comparison.ways
        if (handover, way) not in refused
    }
    page, table = write_comparison(comparison.out, cells, refused)
    line("scores", str(table))
    line("report", str(page))
    if failed:
        raise click.exceptions.Exit(1)


def _runs(comparison: Comparison, refused: dict[tuple[str, str], str], index: int, parts: int) -> int:
    """Every parts-th handover with all that sets out from it; how many runs failed."""
    from off2on.process import quiet, ray_started

    comparison.out.mkdir(parents=True, exist_ok=True)
    pairs = [(handover, seed) for seed in range(comparison.seeds) for handover in comparison.handovers]
    failed = 0
    # One Ray for all runs: to start it takes as long as a short one.
    with quiet(comparison.out / f"log-{index}.txt") as terminal, ray_started(None, 0):
        for handover, seed in pairs[index::parts]:
            ways = [way for way in comparison.ways if (handover, way) not in refused]
            for way in (None, *ways):
                told = _run(comparison, handover, way, seed)
                failed += told.startswith("failed")
                if told:
                    click.echo(told, terminal)
    return failed


def _run(comparison: Comparison, handover: str, way: str | None, seed: int) -> str:
    """Makes a run, unless it is there, and says how it went."""
    from off2on.records import load_run, read_about
    from off2on.stats import duration, points
    from off2on.train import train

    name, started = f"{handover} × {way or 'offline'} × seed {seed}", time.monotonic()
    try:
        plan = comparison.plan(handover, way, seed)
        there = (plan.folder / "run.yaml").is_file()
        if there and read_about(plan.folder)["status"] == "finished":
            return ""
        curve = load_run(train(plan, resume=there)).curve
    except (UserError, LearnerDied) as error:
        return f"failed  {name}: {error}"
    except Exception:
        return f"failed  {name}: {traceback.format_exc(limit=1)}"
    drop = "" if curve.drop is None else f" · drop {points(curve.drop)}"
    took = duration(time.monotonic() - started)
    return f"done    {name}: {points(float(curve.scores[-1]))}{drop} · {took}"
