"""``off2on train``: offline, and with --online N across the handover."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.screen import Ticker, line
from off2on.commands.words import memory, this_command, whole
from off2on.errors import LearnerDied, UserError
from off2on.training.command_line import idle, planned

if TYPE_CHECKING:
    from off2on.training.plan import Plan

OF_THE_COMMAND = ("words", "seeds", "together", "resume", "dry_run")
"""What the command is told besides the options of a plan."""


@click.command(short_help="Learn offline, and with --online N across the handover.")
@click.argument("words", nargs=-1, metavar="ALGO DATA [NAME=VALUE …] [@FILE.yaml]")
@click.option("--updates", type=whole, metavar="N", help="Gradient updates before the handover.  [1M]")
@click.option("--online", type=whole, metavar="N", help="Environment steps after it; 0 stays offline.  [0]")
@click.option(
    "--strategy", metavar="NAME", help="What online batches are made of; `off2on strategies`.  [symmetric]"
)
@click.option(
    "--warm-up", type=whole, metavar="N", help="Steps with the policy as handed over, no updates.  [0]"
)
@click.option("--utd", type=float, metavar="X", help="Gradient updates per environment step.  [1.0]")
@click.option("--exploration", metavar="NAME", help="Who collects: own, noisy, optimistic, expansion.  [own]")
@click.option(
    "--guard", is_flag=True, default=None, help="A policy collects only once a trial shows it is no worse."
)
@click.option("--new-data", metavar="NAME", help="New logs in the environment's place; NAME@1+: added since.")
@click.option("--from", "source", metavar="RUN", help="Start at another run's handover.")
@click.option("--seed", type=int, metavar="N", help="Of everything random.  [0]")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="So many runs, one after the other.  [1]",
)
@click.option(
    "--together", is_flag=True, help="Learn offline with all seeds at once, as one batched program."
)
@click.option("--learners", type=int, metavar="N", help="Learner processes; 0 learns in this one.  [0]")
@click.option("--workers", type=int, metavar="N", help="Processes that step environments; 0: this one.  [0]")
@click.option("--envs", type=int, metavar="N", help="Environments per worker.  [1]")
@click.option("--asynchronous", is_flag=True, default=None, help="Collect while the learner updates.")
@click.option("--env", metavar="ID", help="Another environment than the data's; module:Id imports it.")
@click.option("--eval-every", type=whole, metavar="N", help="Updates (or steps) between evaluations.  [5 %]")
@click.option("--eval-episodes", type=int, metavar="N", help="Episodes per evaluation.  [10]")
@click.option("--out", metavar="DIR", help="Where runs go; s3://BUCKET/FOLDER too.  [runs]")
@click.option(
    "--memory",
    type=memory,
    metavar="SIZE",
    help="Data that a learner holds; larger data stream.  [a quarter of this machine's]",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Of a learner.  [measured]")
@click.option(
    "--track",
    metavar="NAME",
    multiple=True,
    callback=lambda _, __, said: said or None,
    help="Tell wandb or mlflow too; may be given twice.",
)
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster to join.  [$RAY_ADDRESS]")
@click.option("--wait", type=whole, metavar="N", help="Minutes for a cluster to have room for it all.  [0]")
@click.option("--resume", is_flag=True, help="Go on where the run of this name stopped.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, start nothing.")
def train(
    words: tuple[str, ...], seeds: int, together: bool, resume: bool, dry_run: bool, **options: Any
) -> None:
    """Train ALGO on DATA.

    ALGO is one of `off2on algos`, or package.module:Class. DATA is one of `off2on data list`, or a
    folder of shards. With --from RUN, what is left out is that run's.

    NAME=VALUE are hyperparameters (`off2on algos ALGO` explains them); strategy.NAME=VALUE are options
    of the strategy, online.NAME=VALUE is what is otherwise online: a factor of the crossing (`off2on
    strategies`) or a hyperparameter; guard.NAME=VALUE are the guard's settings. preset=NAME takes the
    hyperparameters that ALGO's paper has for a family of data, where they are not said. @FILE.yaml
    reads the same from lines NAME: VALUE.
    """
    with Ticker() as ticker:
        # Before torch and Ray are loaded, which takes seconds.
        ticker.show(f"checking {' '.join(words[:2])} …")
        plans, checked = planned(words, options, this_command(), seeds, resume)
        if together:
            from off2on.training.batched_seeds import check

            check(plans, checked)
    for text in idle(plans[0], checked):
        click.echo(f"note: {text}", err=True)
    if dry_run:
        from off2on.commands.dry_run import tell

        tell(checked, plans)
        return
    if together:
        _run_together(plans, resume)
    else:
        for each in plans:
            # Of several seeds, some may not have begun.
            run(each, resume and (seeds == 1 or (each.folder / "run.yaml").is_file()))
    if seeds > 1:
        line("together", shlex.join(["off2on", "report", *(str(each.place) for each in plans)]))


def run(plan: "Plan", resume: bool) -> None:
    """One run, and what came of it on stdout."""
    from off2on.training.train import train as start

    with _told(plan):
        start(plan, resume)
    _describe_end(plan)


def _run_together(plans: "list[Plan]", resume: bool) -> None:
    """Runs as one program, and what came of each on stdout."""
    from off2on.training.batched_seeds import train_together

    with _told(plans[0]):
        train_together(plans, resume)
    for plan in plans:
        _describe_end(plan)


@contextmanager
def _told(plan: "Plan") -> Iterator[None]:
    """How long it took, or how to go on, or where the traceback is."""
    from off2on.runs.numbers import duration

    started = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"interrupted; to go on from the checkpoint kept in {plan.place}:", err=True)
        click.echo(f"  {plan.command} --resume", err=True)
        raise click.exceptions.Exit(130) from None
    except (UserError, LearnerDied):
        raise
    except Exception as error:
        log = plan.folder / "log.txt"
        if not log.is_file():
            raise
        # A fault of ours. Training has written its traceback there already.
        click.echo(f"error: {type(error).__name__}: {error}\n       The traceback is in {log}", err=True)
        raise click.exceptions.Exit(1) from None
    click.echo(f"done in {duration(time.monotonic() - started)}", err=True)


def _describe_end(plan: "Plan") -> None:
    """A finished run's score, folder and report, on stdout."""
    if (score := _score(plan.folder)) is not None:
        line("score", score)
    line("run", str(plan.place))
    if (plan.folder / "report.html").is_file():
        line("report", str(plan.folder / "report.html"))


def _score(folder: Path) -> str | None:
    """Where it stood at the handover, how deep it fell, where it ended; None if nothing was scored."""
    from off2on.runs.numbers import points
    from off2on.runs.record import NoEvaluationError, load_run

    try:
        run = load_run(folder)
    except NoEvaluationError:
        return None
    said = [f"{points(run.curve.handover)} {'at the handover' if run.curve.went_online else 'at the end'}"]
    if run.curve.drop is not None:
        said += [f"{points(run.curve.handover - run.curve.drop)} at the lowest soon after it"]
        said += [f"{points(float(run.curve.scores[-1]))} at the end"]
    if run.data_return is not None:
        said += [f"the data's own {points(run.data_return)}"]
    return " · ".join(said)
