"""``off2on train``: train offline, and with --online N continue in the environment."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.algos import plain
from off2on.commands.arguments import command_line
from off2on.commands.options import run_options
from off2on.commands.output import ProgressLine, print_line, print_table
from off2on.training.command_line import (
    ONLINE,
    make_plans,
    renamed_settings,
    unmade_environment,
    unused_settings,
)
from off2on.training.options import MOST_SEEDS

if TYPE_CHECKING:
    from datasets_io.storage import Place
    from off2on.training.plan import Plan, ResolvedPlan

COMMAND_ONLY = ("words", "seeds", "together", "resume", "dry_run")
"""Parameters of the command that are not options of a plan."""


@click.command(short_help="Train offline, and with --online N continue in the environment.")
@click.argument("words", nargs=-1, metavar="ALGO DATA [NAME=VALUE …] [@FILE.yaml]")
@run_options()
@click.option(
    "--seeds",
    type=click.IntRange(1, MOST_SEEDS),
    metavar="N",
    default=1,
    help="Number of runs, one per seed.  [1]",
)
@click.option("--together", is_flag=True, help="Train all seeds offline at once, as one batched program.")
@click.option("--resume", is_flag=True, help="Continue the run of this name, also to more --updates.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan; start nothing.")
def train(
    words: tuple[str, ...], seeds: int, together: bool, resume: bool, dry_run: bool, **options: Any
) -> None:
    """Train ALGO on DATA.

    ALGO is one of `off2on algos`, or package.module:Class. DATA is one of `off2on data list`, or a
    folder of shards. With --from RUN, options that are not given are those of that run.

    NAME=VALUE sets a hyperparameter (`off2on algos ALGO` lists them), strategy.NAME=VALUE an option of
    the strategy, online.NAME=VALUE an online setting (`off2on strategies` lists them) or another value of
    a hyperparameter for the online phase, guard.NAME=VALUE a setting of the guard. preset=NAME sets the
    hyperparameters that ALGO's paper uses for a family of data, preset=auto those for DATA by its name;
    NAME=VALUE replaces them. @FILE.yaml reads the same from lines NAME: VALUE.
    """
    for text in renamed_settings(words):
        click.echo(f"warning: {text}", err=True)
    if options["out"] is not None:  # here too, because the plan is made only after torch is loaded
        _check_out(options["out"])
    with ProgressLine() as ticker:
        # Before torch and Ray are loaded, which takes seconds.
        ticker.show(f"checking {' '.join(words[:2])} …")
        plans, resolved = make_plans(words, options, command_line(), seeds, resume)
        for plan in plans:
            _check_out(plan.place)
        if together:
            from off2on.training.batched_seeds import check

            check(plans, resolved)
    for text in [*unused_settings(plans[0], resolved), *unmade_environment(resolved)]:
        click.echo(f"note: {text}", err=True)
    if dry_run:
        _print_plan(resolved, plans)
        return
    if seeds == 1:
        run(plans[0], resume)
        return
    # Of several seeds, some may not have begun.
    diverged = (_run_together if together else _run_each)(plans, resume)
    places = [str(each.place) for each in plans if str(each.place) not in diverged]
    if places:
        print_line("together", shlex.join(["off2on", "report", *places]))
    if diverged:
        raise click.exceptions.Exit(1)


def _check_out(place: "str | Place") -> None:
    """Check that the folder of --out, or that of a run in it, can be written."""
    from datasets_io import storage
    from datasets_io.storage.writable import check_writable, example_folder

    where = storage.locate(place)
    check_writable(where, f"--out {where}", f"--out {example_folder('runs')}")


def run(plan: "Plan", resume: bool) -> None:
    """Carry out one run and print its result."""
    from off2on.training.train import train as start

    with _reported(plan):
        start(plan, resume)
    _print_result(plan)


def _run_each(plans: "list[Plan]", resume: bool) -> set[str]:
    """Carry out one run after the other; return the places of those that diverged, which stop no other."""
    from off2on.errors import Diverged

    diverged = set()
    for plan in plans:
        try:
            run(plan, resume and plan.has_begun)
        except Diverged as error:
            click.echo(f"error: {error}", err=True)
            diverged.add(str(plan.place))
    return diverged


def _run_together(plans: "list[Plan]", resume: bool) -> set[str]:
    """Carry out the runs as one program, print each result; return the places of those that diverged."""
    from off2on.training.batched_seeds import train_together

    with _reported(plans[0]):
        errors = train_together(plans, resume)
    diverged = {error.where for error in errors}
    for plan in plans:
        if str(plan.place) not in diverged:
            _print_result(plan)
    for error in errors:
        click.echo(f"error: {error}", err=True)
    return diverged


@contextmanager
def _reported(plan: "Plan") -> Iterator[None]:
    """Print the duration, or the command that resumes after an interruption."""
    from off2on.runs.numbers import duration

    started = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"interrupted; to resume from the last checkpoint in {plan.place}:", err=True)
        click.echo(f"  {plan.command} --resume", err=True)
        raise click.exceptions.Exit(130) from None
    click.echo(f"done in {duration(time.monotonic() - started)}", err=True)


def _print_result(plan: "Plan") -> None:
    """Print the score, folder and report of a finished run."""
    if (score := _score(plan.folder)) is not None:
        print_line("score", score)
    print_line("run", str(plan.place))
    if (plan.folder / "report.html").is_file():
        print_line("report", str(plan.folder / "report.html"))


def _score(folder: Path) -> str | None:
    """Return the scores at the handover, at the lowest point and at the end; None without evaluations."""
    from off2on.runs.numbers import points
    from off2on.runs.record import NoEvaluationError, load_run

    try:
        run = load_run(folder)
    except NoEvaluationError:
        return None
    scores = [f"{points(run.curve.handover)} {'at the handover' if run.curve.went_online else 'at the end'}"]
    if run.curve.drop is not None:
        scores += [f"{points(run.curve.handover - run.curve.drop)} at the lowest point after it"]
        scores += [f"{points(run.curve.final)} at the end"]
        if run.returns_in_service is not None:
            scores[-1] += ", of the policy that the guard left in service"
    if run.data_return is not None:
        scores += [f"{points(run.data_return)} in the data"]
    return " · ".join(scores)


def _print_plan(resolved: "ResolvedPlan", plans: "list[Plan]") -> None:
    """Print the first plan (option, value, origin), then the capacity that is there and that it needs."""
    plan, settings = plans[0], resolved.settings
    rows = [("option", "value", "origin"), *plan.describe()]
    origins = plan.hyperparameter_origins(settings)
    rows += [(name, plain(value), origins[name]) for name, value in settings.hp.as_dict().items()]
    rows += [
        (name, plain(value), origin)
        for name, value, default, origin in plan.describe_online_settings(settings)
        if value != default or name.removeprefix(ONLINE) not in settings.hp.rules()
    ]
    print_table((name, value or "–", origin) for name, value, origin in rows)
    folders = ", ".join(str(each.place) for each in plans)
    _print_capacity(resolved, plan)
    click.echo(f"all checks passed; nothing was started. It would write {folders}", err=True)


def _print_capacity(resolved: "ResolvedPlan", plan: "Plan") -> None:
    """Print the nodes, the processes that the plan needs and their placement; joins a cluster to look."""
    from off2on.training.cluster.placement import this_machine
    from off2on.training.cluster.preflight import check_capacity, describe_capacity
    from off2on.training.process import ray_started

    if plan.address is None:
        for text in describe_capacity(plan, resolved, [this_machine()]):
            click.echo(text)
    else:
        with ray_started(plan.address, 0):
            check_capacity(plan, resolved, click.echo)
