"""One run from start to end: data → learner → handover → environment → report.

for each evaluation point offline:  update, evaluate, keep a checkpoint
at the handover:                    keep its checkpoint for ever, cross, evaluate again
for each evaluation point online:   collect and update, evaluate, keep a checkpoint
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ray.exceptions import RayActorError

from off2on.errors import LearnerDied
from off2on.reports.run import write_report
from off2on.runs.folder import Run
from off2on.training.cluster.preflight import check_capacity
from off2on.training.live_display import open_progress
from off2on.training.metadata import run_metadata
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import Stop, interruptible, quiet, ray_started
from off2on.training.session import Session
from off2on.training.trackers import tracked

DEATHS = 4
"""Deaths of learners after which a run gives up."""


def train(plan: Plan, resume: bool = False) -> Path:
    """Do what the plan says.

    Args:
        plan: The plan; it is checked first.
        resume: Go on from the run's last checkpoint.

    Returns:
        The run's folder.

    Raises:
        UserError: The plan cannot work; nothing was started.
        KeyboardInterrupt: Ctrl-C; a checkpoint was kept.
    """
    resolved = plan.check(resume)
    with _cluster(plan, resolved):
        run = _begin(plan, resolved, resume)
        with quiet(run.folder / "log.txt") as terminal:
            for _ in _under_way(plan, resolved, run, terminal, _process(plan)):
                pass
            if resolved.env is not None:  # otherwise there is no score to draw
                write_report([plan.folder])
            run.publish()
    return plan.folder


def evaluations(
    plan: Plan,
    resume: bool = False,
    *,
    terminal: TextIO | None = None,
    stop: Stop | None = None,
    joins: Callable[[Session], object] | None = None,
) -> Iterator[Run]:
    """The same an evaluation at a time, so that several runs of one process go forward together.

    Ray must have been started. There is no report at the end. Closing the iterator interrupts the run, at its
    last checkpoint.

    Args:
        plan: The plan.
        resume: Go on from the run's last checkpoint.
        terminal: Where the run's progress is shown; otherwise its log.txt has it.
        stop: Whether it is asked to stop.
        joins: Told of the session, before it begins.

    Yields:
        The run, as it is taken up and after each evaluation.
    """
    resolved = plan.check(resume)
    run = _begin(plan, resolved, resume)
    with (run.folder / "log.txt").open("a", buffering=1, encoding="utf-8") as log:
        yield from _under_way(plan, resolved, run, terminal or log, nullcontext(stop or Stop()), joins)


@contextmanager
def _cluster(plan: Plan, resolved: ResolvedPlan) -> Iterator[None]:
    """The cluster of the plan, joined; what has no room there is refused before anything is written."""
    if plan.address is None:
        yield
        return
    with ray_started(plan.address, 0):
        check_capacity(plan, resolved, _say)
        yield


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _begin(plan: Plan, resolved: ResolvedPlan, resume: bool) -> Run:
    """The folder of the plan's run."""
    run = Run.resume(plan.folder, plan.place) if resume else Run.create(plan.folder, plan.place)
    started = run.about.get("started", _now())
    run.describe(run_metadata(plan, resolved) | {"started": started, "status": "running"})
    return run


@contextmanager
def _process(plan: Plan) -> Iterator[Stop]:
    """A process for this run alone."""
    with (
        ray_started(plan.address, plan.learners + plan.workers),
        interruptible() as stop,  # only now: ray.init puts its own answer to SIGTERM in place
    ):
        yield stop


def _under_way(
    plan: Plan,
    resolved: ResolvedPlan,
    run: Run,
    terminal: TextIO,
    process: AbstractContextManager[Stop],
    joins: Callable[[Session], object] | None = None,
) -> Iterator[Run]:
    """A run from where it stands to its end, which its run.yaml says how it came to."""
    progress = open_progress(
        terminal,
        title=f"{plan.algorithm} · {resolved.shards.name} · seed {plan.seed}",
        folder=plan.folder,
        updates=plan.updates,
        online=plan.online,
        warm_up=resolved.settings.online.warm_up,
        data_score=run.about["data"]["return_mean"],
    )
    with progress, tracked(plan.track, run.folder, run.about, progress.note) as trackers:
        try:
            if trackers.ids:
                run.describe({"tracked": trackers.ids})
            with process as stop:

                def session() -> Session:
                    return Session(plan, resolved, run, progress, stop, trackers)

                yield from _go(session, progress.note, joins)
        except BaseException as error:
            asked = isinstance(error, KeyboardInterrupt | GeneratorExit)
            run.describe({"status": "interrupted" if asked else "failed"})
            if not isinstance(error, GeneratorExit):
                traceback.print_exc()  # into log.txt
            raise
        run.describe({"status": "finished", "finished": _now()})


def _go(
    session: Callable[[], Session],
    note: Callable[[str], None],
    joins: Callable[[Session], object] | None = None,
) -> Iterator[Run]:
    """A session to its end; where learners die, another from the last checkpoint, a few times."""
    for deaths in range(1, DEATHS + 1):
        try:
            with session() as one:
                if joins is not None:
                    joins(one)
                yield from one.go()
            return
        except (LearnerDied, RayActorError) as error:
            traceback.print_exc()  # into log.txt
            if deaths == DEATHS:
                raise LearnerDied(f"learners died {DEATHS} times, the last time: {error}") from error
            note(f"a learner died; going on from the last checkpoint ({deaths} of {DEATHS - 1} times)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
