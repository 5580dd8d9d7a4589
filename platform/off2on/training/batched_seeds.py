"""Runs that differ in their seed alone, their offline updates made as one batched program.

Each is a run as any other: a folder of its own with its scores, its checkpoints and its policy, where it can
be resumed and its handover be started from. Only the updates are made for all at once (`learners`): the runs
take turns, an evaluation each, and the first one's updates to its next evaluation are everybody's.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TextIO

from off2on.errors import RecipeError, UserError
from off2on.replay.offline_rows import layout_of
from off2on.reports.run import write_report
from off2on.rllib.batched.learners import BatchedLearners
from off2on.rllib.batched.stackable import ALONE, check_together
from off2on.runs.folder import Run
from off2on.runs.record import read_metadata
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import Stop, interruptible, quiet, ray_started
from off2on.training.session import Session
from off2on.training.train import evaluations


def check(plans: Sequence[Plan], checked: ResolvedPlan) -> None:
    """That the plans' offline sides can be one program.

    Args:
        plans: They differ in their seed.
        checked: The first one's names, found.

    Raises:
        UserError: What stands in the way.
    """
    plan, recipe = plans[0], checked.recipe
    if len(plans) < 2:
        raise UserError("--together needs several runs: --seeds is 1.", "", "--seeds 4 --together")
    if plan.online or plan.source is not None:
        raise UserError(
            "--together is for the offline side, and a run online goes its own way.",
            "Leave out --online and --from here, and go online from each run's handover:",
            f"off2on train --from {plan.place} --online 20k",
        )
    if plan.learners or plan.address is not None:
        raise UserError(
            "--together is one program on one device, in this process.",
            "Expected --learners 0, and no --address.",
            ALONE,
        )
    if recipe.fitted:
        raise RecipeError(
            f"{plan.algorithm} has a first stage, {' and '.join(recipe.fitted)}, which is each run's own.",
            "Those without one can learn together.",
            ALONE,
        )
    needed = 4 * layout_of(checked.shards, recipe.columns, recipe.relabelled).width * checked.shards.rows
    if needed > plan.memory:
        raise UserError(
            f"the {needed:,} bytes of {checked.shards.name} do not fit the memory budget of {plan.memory:,}.",
            "Larger data stream, in an order that is each seed's own, and --together holds one copy.",
            f"--memory {needed}",
        )
    check_together(recipe, checked.hp, checked.shards)


def train_together(plans: Sequence[Plan], resume: bool = False) -> None:
    """Do what the plans say; see `check`. The first one's progress is shown.

    Args:
        plans: They differ in their seed.
        resume: Go on from the runs' last checkpoints; those that are finished stay as they are.

    Raises:
        UserError: The plans cannot work; nothing was started.
        KeyboardInterrupt: Ctrl-C; every run has kept a checkpoint.
    """
    left = [plan for plan in plans if not (resume and _is_finished(plan))]
    if not left:
        return
    checked = [plan.check(resume) for plan in left]
    left[0].folder.mkdir(parents=True, exist_ok=True)
    with quiet(left[0].folder / "log.txt") as terminal:
        with ray_started(None, 0), interruptible() as stop, BatchedRuns(left, resume, terminal, stop) as runs:
            runs.go()
        for plan, run, found in zip(left, runs.runs, checked, strict=True):
            if found.env is not None:
                write_report([plan.folder])
            run.publish()


def _is_finished(plan: Plan) -> bool:
    there = (plan.folder / "run.yaml").is_file()
    return there and read_metadata(plan.folder)["status"] == "finished"


class BatchedRuns:
    """Runs under way.

    Args:
        plans: What each is to do.
        resume: Go on where there is a run.
        terminal: Where the first one's progress is shown.
        stop: Whether the process was asked to stop.
    """

    def __init__(self, plans: Sequence[Plan], resume: bool, terminal: TextIO, stop: Stop) -> None:
        self.sessions: list[Session] = []
        self.together: BatchedLearners | None = None
        self.going = [
            evaluations(
                plan,
                resume and (plan.folder / "run.yaml").is_file(),
                terminal=None if number else terminal,
                stop=_Between(stop, self, number),
                joins=self.sessions.append,
            )
            for number, plan in enumerate(plans)
        ]
        self.runs: list[Run] = []

    def __enter__(self) -> "BatchedRuns":
        self.stack = ExitStack()
        for going in self.going:
            self.stack.callback(going.close)  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def go(self) -> None:
        """All of them to their end, whoever is behind first."""
        self.runs += [next(going) for going in self.going]
        learners = [session.algo.ask(lambda learner: learner)[0] for session in self.sessions]
        together = self.together = BatchedLearners(learners)
        for number, session in enumerate(self.sessions):
            session.algo.advancing = together.advance
            session.clock = lambda number=number: together.seconds[number]  # type: ignore[misc]
        for run in self.runs:
            run.describe({"together": [session.plan.seed for session in self.sessions]})
        left = list(zip(self.sessions, self.going, strict=True))
        interrupted: KeyboardInterrupt | None = None
        while left:
            one = min(left, key=lambda pair: pair[0].algo.updates)
            try:
                next(one[1])
            except StopIteration:
                left.remove(one)
            except KeyboardInterrupt as error:
                left.remove(one)
                interrupted = error
                if not together.is_whole:  # within an update: nobody can keep what it has now
                    break
        if interrupted is not None:
            raise interrupted

    def is_abreast(self, number: int) -> bool:
        """Whether a run knows of all updates that were made."""
        return self.together is None or not self.together.told[number]


class _Between(Stop):
    """Asks a run to stop where it has what was learnt, so that all stop at the same update."""

    def __init__(self, process: Stop, runs: BatchedRuns, number: int) -> None:
        self.process, self.runs, self.number = process, runs, number

    @property
    def asked(self) -> bool:  # type: ignore[override]
        """Whether to stop now."""
        return self.process.asked and self.runs.is_abreast(self.number)
