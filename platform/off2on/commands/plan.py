"""``off2on plan``: what a run or an ingest will take on more machines, before anybody rents them."""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from off2on.commands.arguments import command_line, memory, whole
from off2on.commands.output import ProgressLine, format_size, plural, print_json, print_line, print_table
from off2on.errors import UserError

if TYPE_CHECKING:
    from off2on.training.cluster.costs import Estimate, Job
    from off2on.training.cluster.scaling import Model

NOWHERE = "/dev/null"
"""Where a plan that is not carried out would go: a run of its name may be there already."""

SHARD_BYTES = 450 * 10**6
"""Of a file of Waymo Open Motion's training set, about: some 500 scenarios of 0.9 MB."""

LEFT_OUT = (
    "the start of Ray, of machines and of processes, and a recipe's first stage",
    "a strategy's own work (balanced: some milliseconds an update), rows made up by a model, wider batches",
    "data that do not fit --memory and stream; checkpoints; the slowest of many machines; other CPUs",
    "storage and network as bottlenecks of an ingest or a broadcast: see the bytes",
)


class Row(NamedTuple):
    """A line of the table."""

    phase: str
    what: str
    estimate: "Estimate"
    moved: float
    how: str


@click.command(short_help="What a run will take on more machines; starts nothing.")
@click.argument("words", nargs=-1, metavar="[ALGO DATA] [NAME=VALUE …]")
@click.option("--updates", type=whole, metavar="N", help="Gradient updates before the handover.  [1M]")
@click.option("--online", type=whole, metavar="N", help="Environment steps after it.  [0]")
@click.option("--strategy", metavar="NAME", help="As for train.  [symmetric]")
@click.option("--learners", type=int, metavar="N", help="Learner processes.  [0]")
@click.option("--workers", type=int, metavar="N", help="Processes that collect, or read in an ingest.  [0]")
@click.option("--envs", type=int, metavar="N", help="Environments per worker.  [1]")
@click.option("--asynchronous", is_flag=True, default=None, help="Collect while the learner updates.")
@click.option("--eval-every", type=whole, metavar="N", help="Updates (or steps) between evaluations.  [5 %]")
@click.option("--eval-episodes", type=int, metavar="N", help="Episodes per evaluation.  [10]")
@click.option("--gpu", is_flag=True, help="Each learner has a GPU.")
@click.option(
    "--network",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GBIT",
    help="Learners are on machines with such a network between them.",
)
@click.option("--files", type=click.IntRange(min=1), metavar="N", help="Waymo files to ingest before that.")
@click.option("--file-size", type=memory, metavar="SIZE", help="Of each.  [429M]")
@click.option(
    "--measurements", type=click.Path(path_type=Path), metavar="FILE", help="Others than the package's."
)
@click.option("--json", "json_", is_flag=True)
def plan(
    words: tuple[str, ...],
    gpu: bool,
    network: float | None,
    files: int | None,
    file_size: int | None,
    measurements: Path | None,
    json_: bool,
    **options: Any,
) -> None:
    """Estimate what `off2on train` with the same words takes, stage by stage.

    Each figure is measured, on the machine that the first line names; modelled, by laws fitted to those
    measurements; or assumed, of GPUs and networks that were not there to be measured. The bounds are those
    in which a new measurement lies in 95 of 100 cases if the law holds; of measured figures, the least and
    the most; a factor of 2 or more where two measurements are all, of 3 where there is none. Without ALGO
    DATA: three examples, of 8 GPUs, of 64 workers, of 1,000 Waymo files.
    """
    if file_size is not None and files is None:
        raise UserError("--file-size says nothing without --files.", "", "--files 1000")
    model = _model(measurements)
    source: dict[str, Any] = {"files": files or 0, "file_bytes": file_size or SHARD_BYTES}
    if words:
        machines = {"gpu": gpu, "network": network, **source}
        with ProgressLine() as ticker:
            ticker.show(f"counting {' '.join(words[:2])} …")
            jobs = {" ".join(words[:2]): _job(words, options, machines)}
    elif files is not None:
        from off2on.training.cluster.costs import Job

        jobs = {f"{files:,} Waymo files": Job(workers=options["workers"] or 1, **source)}
    else:
        jobs = _examples()
    if json_:
        print_json({name: [_plain(row) for row in rows(model, job)] for name, job in jobs.items()})
        return
    for name, job in jobs.items():
        _tell(name, model, job)
    if not words and files is None:
        print_line("checked", _checked(model, next(iter(jobs.values()))))
    told = model.machine
    print_line("measured", f"on {told['cpu']}, {told['cores']} cores, {told['versions']}, {told['measured']}")
    for number, what in enumerate(LEFT_OUT):
        print_line("" if number else "left out", what)


def rows(model: "Model", job: "Job") -> Iterator[Row]:
    """The lines of the table, phase by phase."""
    learners, workers = max(1, job.learners), max(1, job.workers)
    if job.files:
        taken, moved = model.ingest(job), job.files * job.file_bytes
        per = f"{format_size(moved / taken.value)}/s from storage"
        yield Row("ingest", "all", taken, moved, f"{job.files:,} files, {workers} readers: {per}")
    if job.updates or job.online:
        share = f"a share of 1 / {learners}"
        yield Row("learner", "data read", model.read(job), job.held / learners, share)
        compute, average = model.compute(job), model.all_reduce(job)
        counted = f"{job.work.operators:.0f} operators, {job.work.flop / 1e6:,.0f} MFLOP"
        yield Row("learner", "update: compute", compute, 0, counted)
        if learners > 1:
            ring = f"2 · {learners - 1}/{learners} of the gradients, {len(job.gradients)} calls"
            yield Row("learner", "update: average", average, model.all_reduce_bytes(job), ring)
    if job.updates:
        taken = model.offline(job)
        yield Row("offline", "all", taken, 0, f"{1 / model.update(job).value:,.0f} updates/s")
    if job.online:
        each = math.ceil(job.rollout / workers)
        yield Row("visit", "collect", model.collect(job), 0, f"{each} steps of each of {workers}, {job.env}")
        if job.workers:
            sent = f"to {workers} runners"
            yield Row("visit", "broadcast", model.broadcast(job), job.policy * workers, sent)
        if job.learners:
            yield Row("visit", "store", model.store(job), model.store_bytes(job), f"{job.rollout} steps")
        due = job.due * job.rollout / job.online
        yield Row("visit", "updates", model.update(job) * due, 0, f"{due:g} due")
        taken = model.online(job)
        how = "beside the learner" if job.asynchronous else "in step"
        yield Row("online", "all", taken, 0, f"{job.online / taken.value:,.0f} steps/s, {how}")
    if job.evaluated:
        yield Row("scores", "all", model.evaluation(job), 0, f"{job.evaluated:,} steps, one by one")


def bottlenecks(model: "Model", job: "Job") -> Iterator[tuple[str, str]]:
    """Of each phase, what bounds it, and from where on more of it does not help."""
    if job.files:
        yield "ingest", f"readers, until there is one for each of {job.files:,} files; before that, storage"
    if job.updates and job.learners:
        best = model.best(job, "learners")
        bound = "averaging" if model.all_reduce(job).value > model.compute(job).value else "compute"
        yield "offline", f"{bound}; more than {plural(best, 'learner')} would not make an update shorter"
    if job.online and job.workers:
        best = model.best(job, "workers")
        learn, collect = model.learning(job), model.collect(job)
        bound = "the simulators" if collect.value > learn.value else "the learner"
        yield (
            "online",
            f"{bound}; more than {plural(best, 'worker')} would not help, at {job.rollout:,} steps a visit",
        )


def _model(measurements: Path | None) -> "Model":
    from off2on.training.cluster.scaling import FILE, Model

    try:
        return Model.load(measurements or FILE)
    except FileNotFoundError:
        raise UserError(f"there is no file '{measurements}'.", "tests/bench/fold.py writes one.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{measurements} does not hold all measurements: {error}.", "tests/bench/fold.py writes them."
        ) from None


def _job(words: tuple[str, ...], options: dict[str, Any], machines: dict[str, Any]) -> "Job":
    """What is asked for, checked as `off2on train` would on a cluster."""
    from off2on.training.command_line import planned

    (run_plan, *_), resolved = planned(words, options | {"address": "auto", "out": NOWHERE}, command_line())
    from off2on.training.cluster.workload import job_of

    return job_of(run_plan, resolved, **machines)


def _examples() -> "dict[str, Job]":
    """IQL on data like HalfCheetah's, and Waymo's training set."""
    import gymnasium as gym
    import numpy as np

    from off2on.algorithms import find_algorithm
    from off2on.training.cluster.costs import Job
    from off2on.training.cluster.workload import networks

    recipe = find_algorithm("iql")
    spaces = gym.spaces.Box(-np.inf, np.inf, (17,), np.float64), gym.spaces.Box(-1, 1, (6,), np.float32)
    one = Job(
        held=4 * 42 * 10**6, env="HalfCheetah-v5", **networks(recipe, recipe.Hyperparameters(), *spaces)
    )
    online = replace(one, online=10**6, due=10**6 // 16, learners=1, gpu=True, asynchronous=True)
    return {
        "8 GPUs: a million updates of IQL": replace(one, updates=10**6, learners=8, gpu=True),
        "64 workers: a million steps of IQL in HalfCheetah, an update for 16": replace(
            online, workers=64, rollout=6400
        ),
        "1,000 Waymo files": Job(files=1000, file_bytes=SHARD_BYTES, workers=64),
    }


def _checked(model: "Model", job: "Job") -> str:
    """What whole updates took, averaging and RLlib included, beside what the model says of them."""
    said = []
    for row in model.of("update"):
        modelled = model.update(replace(job, learners=row["workers"], gpu=False))
        took = f"{_time(row['seconds'])} measured, {_time(modelled.value)} modelled"
        said.append(f"{plural(row['workers'], 'learner')} {took}")
    return f"an update of IQL, all of it: {'; '.join(said)}"


def _tell(name: str, model: "Model", job: "Job") -> None:
    print_line("plan", name)
    cells = [("phase", "stage", "estimate", "between", "bytes", "basis", "")]
    for row in rows(model, job):
        bounds = f"{_time(row.estimate.low)} … {_time(row.estimate.high)}"
        moved = format_size(row.moved) if row.moved else ""
        cells.append(
            (row.phase, row.what, _time(row.estimate.value), bounds, moved, row.estimate.basis, row.how)
        )
    print_table(cells, right=(2, 4))
    for phase, what in bottlenecks(model, job):
        print_line("bound", f"{phase}: by {what}")
    click.echo()


def _time(seconds: float) -> str:
    from off2on.runs.numbers import duration

    for unit, factor in (("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        if seconds * factor < 1000 and (unit != "s" or seconds < 10):
            return f"{seconds * factor:.3g} {unit}"
    return duration(seconds)


def _plain(row: Row) -> dict[str, Any]:
    return {"phase": row.phase, "stage": row.what, **asdict(row.estimate), "bytes": row.moved, "how": row.how}
