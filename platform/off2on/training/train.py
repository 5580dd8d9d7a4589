"""Train one run from start to end: data → learner → handover → environment → report.

for each evaluation point offline:  update, evaluate, write a checkpoint
at the handover:                    keep its checkpoint, start the online phase, evaluate again
for each evaluation point online:   collect and update, evaluate, write a checkpoint
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ray.exceptions import RayActorError

from off2on.errors import Diverged, LearnerDied
from off2on.rllib.user_code import user_lines_named
from off2on.runs.folder import Run
from off2on.runs.lock import lock_run
from off2on.training import divergence
from off2on.training.callbacks import Callbacks
from off2on.training.cluster.preflight import check_capacity, remote_processes
from off2on.training.live_display import open_progress
from off2on.training.metadata import run_metadata
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import StopRequest, ray_started, redirect_output, stop_on_signals
from off2on.training.session import Session
from off2on.training.trackers import tracking

DEATHS = 4
"""Number of deaths of learners at which a run fails."""
WAIT_S = 30.0
"""Seconds to wait for the former process of a run, such as a killed trial of a search, to end."""


def train(plan: Plan, resume: bool = False, callbacks: Callbacks | None = None) -> Path:
    """Train a run.

    Args:
        plan: The plan; it is checked first.
        resume: Continue from the run's last checkpoint.
        callbacks: Functions that the run calls.

    Returns:
        The folder of the run.

    Raises:
        UserError: The plan cannot work; nothing was started.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written.
    """
    with lock_run(plan.folder, plan.place), _checked(plan, resume) as resolved:
        run = _open_run(plan, resolved, resume)
        with redirect_output(run.folder / "log.txt") as terminal:
            for _ in _training(plan, resolved, run, terminal, _process(plan), callbacks=callbacks):
                pass
            if resolved.env is not None:  # otherwise there is no score to draw
                from off2on.reports.run import write_report  # loads matplotlib, which takes a second

                write_report([plan.folder])
            run.publish()
    return plan.folder


def evaluations(
    plan: Plan,
    resume: bool = False,
    *,
    terminal: TextIO | None = None,
    stop: StopRequest | None = None,
    on_session: Callable[[Session], object] | None = None,
) -> Iterator[Run]:
    """Train a run from one evaluation to the next, so that one process can train several runs.

    Ray must have been started if the plan has processes of its own. No report is written. Closing the
    iterator interrupts the run at its last checkpoint.

    Args:
        plan: The plan.
        resume: Continue from the run's last checkpoint.
        terminal: Stream for the progress of the run; None: its log.txt.
        stop: Request to stop.
        on_session: Function that is called with each session before it starts.

    Yields:
        The run, before the start and after each evaluation.
    """
    with lock_run(plan.folder, plan.place, WAIT_S):
        resolved = plan.check(resume)
        run = _open_run(plan, resolved, resume)
        with (run.folder / "log.txt").open("a", buffering=1, encoding="utf-8") as log:
            yield from _training(
                plan, resolved, run, terminal or log, nullcontext(stop or StopRequest()), on_session
            )


@contextmanager
def _checked(plan: Plan, resume: bool) -> Iterator[ResolvedPlan]:
    """Check the plan; join its cluster, and check the capacity of that before anything is written."""
    resolved = plan.check(resume)
    if plan.address is None:
        yield resolved
        return
    with ray_started(plan.address, 0):
        check_capacity(plan, resolved, _print_line)
        yield resolved


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _open_run(plan: Plan, resolved: ResolvedPlan, resume: bool) -> Run:
    """Create or open the folder of the run."""
    run = Run.resume(plan.folder, plan.place) if resume else Run.create(plan.folder, plan.place)
    kept = {"started": run.metadata.get("started", _now()), "status": "running"}
    if run.metadata.get("updates", plan.updates) < plan.updates:
        kept["extended_at"] = [*run.metadata.get("extended_at", []), run.metadata["updates"]]
    run.describe(run_metadata(plan, resolved) | kept)
    return run


@contextmanager
def _process(plan: Plan) -> Iterator[StopRequest]:
    """Start Ray if the plan needs it, and handle signals, for a process that trains one run."""
    with (
        ray_started(plan.address, remote_processes(plan)),
        stop_on_signals() as stop,  # after ray.init, which sets its own handler of SIGTERM
    ):
        yield stop


def _training(
    plan: Plan,
    resolved: ResolvedPlan,
    run: Run,
    terminal: TextIO,
    process: AbstractContextManager[StopRequest],
    on_session: Callable[[Session], object] | None = None,
    callbacks: Callbacks | None = None,
) -> Iterator[Run]:
    """Train a run to its end, and record in run.yaml how it ended."""
    progress = open_progress(
        terminal,
        title=f"{plan.algorithm} · {resolved.shards.name} · seed {plan.seed}",
        folder=plan.folder,
        updates=plan.updates,
        online=plan.online,
        warm_up=resolved.settings.online.warm_up,
        data_score=run.metadata["data"]["return_mean"],
    )
    with progress, tracking(plan.track, run.folder, run.metadata, progress.note) as trackers:
        try:
            if trackers.ids:
                run.describe({"tracked": trackers.ids})
            with user_lines_named(), process as stop:

                def session() -> Session:
                    return Session(plan, resolved, run, progress, stop, trackers, callbacks or Callbacks())

                yield from _with_restarts(session, progress.note, on_session)
        except BaseException as error:
            is_requested = isinstance(error, KeyboardInterrupt | GeneratorExit)
            run.describe({"status": "interrupted" if is_requested else "failed"})
            if isinstance(error, Diverged):
                divergence.explain(error, plan, resolved, run)
            if not isinstance(error, GeneratorExit):
                traceback.print_exc()  # into log.txt
            raise
        run.describe({"status": "finished", "finished": _now()})


def _with_restarts(
    session: Callable[[], Session],
    note: Callable[[str], None],
    on_session: Callable[[Session], object] | None = None,
) -> Iterator[Run]:
    """Train a session to its end; if a learner dies, start another from the last checkpoint, a few times."""
    for deaths in range(1, DEATHS + 1):
        try:
            with session() as current:
                if on_session is not None:
                    on_session(current)
                yield from current.training()
            return
        except (LearnerDied, RayActorError) as error:
            traceback.print_exc()  # into log.txt
            if deaths == DEATHS:
                raise LearnerDied(f"learners died {DEATHS} times, the last time: {error}") from error
            note(f"a learner died; continuing from the last checkpoint ({deaths} of {DEATHS - 1} times)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
