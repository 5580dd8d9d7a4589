"""Train runs that differ only in their seed, with the offline updates of all in one batched program.

Each run has a folder of its own with scores, checkpoints and policy, can be resumed, and can be the start of
an online run. Only the updates are batched (`rllib.batched.learners`): the run with the fewest updates trains
to its next evaluation, and its updates are made for all runs.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TextIO

from off2on.errors import Diverged, RecipeError, UserError
from off2on.replay.augmentation.compose import layout_for
from off2on.rllib.batched.learners import BatchedLearners, share_rows
from off2on.rllib.batched.stackable import TRY_SEPARATELY, check_batchable
from off2on.rllib.learner import RecipeLearner
from off2on.runs.folder import Run
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import StopRequest, ray_started, redirect_output, stop_on_signals
from off2on.training.session import Session
from off2on.training.train import evaluations


def check(plans: Sequence[Plan], resolved: ResolvedPlan) -> None:
    """Check that the offline phases of the plans can be trained as one batched program.

    Args:
        plans: Plans that differ in their seed.
        resolved: The first plan, checked.

    Raises:
        UserError: They cannot.
    """
    plan, recipe = plans[0], resolved.settings.recipe
    if len(plans) < 2:
        raise UserError("--together needs several runs: --seeds is 1.", "", "--seeds 4 --together")
    if plan.online or plan.source is not None:
        raise UserError(
            "--together trains offline only.",
            "Leave out --online and --from, then start an online run from the handover of each run.",
            f"off2on train --from {plan.place} --online 20k",
        )
    if plan.learners or plan.address is not None:
        raise UserError(
            "--together trains in this process, on one device.",
            "Expected --learners 0, and no --address.",
            TRY_SEPARATELY,
        )
    if recipe.fitted_networks:
        raise RecipeError(
            f"{plan.algorithm} has a first stage ({', '.join(recipe.fitted_networks)}): --together has none.",
            "Expected an algorithm without a first stage.",
            TRY_SEPARATELY,
        )
    layout = layout_for(resolved.shards, recipe, resolved.settings.hp)
    needed = 4 * layout.width * resolved.shards.rows
    if needed > plan.memory:
        raise UserError(
            f"the {needed:,} bytes of {resolved.shards.name} exceed the memory budget of {plan.memory:,}.",
            "Larger data are streamed in an order that depends on the seed; --together holds one copy.",
            f"--memory {needed}",
        )
    check_batchable(recipe, resolved.settings.hp, resolved.shards)


def train_together(plans: Sequence[Plan], resume: bool = False) -> list[Diverged]:
    """Train the runs of plans that passed `check`, and show the progress of the first one.

    Args:
        plans: Plans that differ in their seed.
        resume: Continue from the last checkpoints; finished runs stay as they are.

    Returns:
        The errors of the runs that diverged; the others go on.

    Raises:
        UserError: The plans cannot work; nothing was started.
        KeyboardInterrupt: Ctrl-C; every run has written a checkpoint.
    """
    unfinished = [plan for plan in plans if not (resume and plan.is_finished)]
    if not unfinished:
        return []
    resolved = [plan.check(resume) for plan in unfinished]
    unfinished[0].folder.mkdir(parents=True, exist_ok=True)
    with redirect_output(unfinished[0].folder / "log.txt") as terminal:
        with (
            ray_started(None, 0),
            stop_on_signals() as stop,
            BatchedRuns(unfinished, resume, terminal, stop) as runs,
        ):
            runs.train()
        for plan, run, found in zip(unfinished, runs.runs, resolved, strict=True):
            if found.env is not None and plan.is_finished:
                from off2on.reports.run import write_report  # loads matplotlib, which takes a second

                write_report([plan.folder])
            run.publish()
    return runs.diverged


class BatchedRuns:
    """Several runs in training.

    Args:
        plans: Plans of the runs.
        resume: Continue the runs that have begun.
        terminal: Stream for the progress of the first run.
        stop: Request to stop the process.
    """

    def __init__(self, plans: Sequence[Plan], resume: bool, terminal: TextIO, stop: StopRequest) -> None:
        self.sessions: list[Session] = []
        self.learners: list[RecipeLearner] = []
        self.batched: BatchedLearners | None = None
        self.iterators = [
            evaluations(
                plan,
                resume and plan.has_begun,
                terminal=None if number else terminal,
                stop=_StopAtSameUpdate(stop, self, number),
                on_session=self._add,
            )
            for number, plan in enumerate(plans)
        ]
        self.runs: list[Run] = []
        self.diverged: list[Diverged] = []
        """Errors of the runs that ended before the others."""

    def __enter__(self) -> "BatchedRuns":
        self.stack = ExitStack()
        for iterator in self.iterators:
            self.stack.callback(iterator.close)  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _add(self, session: Session) -> None:
        """Add a session that has read its data, which are dropped before the next one reads them."""
        self.sessions.append(session)
        self.learners += session.algo.call_learners(lambda learner: learner)
        share_rows(self.learners)

    def train(self) -> None:
        """Train all runs to their end; the run with the fewest updates is always next."""
        self.runs += [next(iterator) for iterator in self.iterators]
        batched = self.batched = BatchedLearners(self.learners)
        for session, learner in zip(self.sessions, self.learners, strict=True):
            session.algo.advance_function = batched.advance
            session.clock = lambda learner=learner: batched.seconds[learner]  # type: ignore[misc]
        for run in self.runs:
            run.describe({"together": [session.plan.seed for session in self.sessions]})
        remaining = list(zip(self.sessions, self.iterators, self.learners, strict=True))
        interrupted: KeyboardInterrupt | None = None
        while remaining:
            behind = min(remaining, key=lambda one: one[0].algo.updates)
            try:
                next(behind[1])
            except StopIteration:
                remaining.remove(behind)
            except Diverged as error:
                remaining.remove(behind)
                batched.leave_out(behind[2])
                self.diverged.append(error)
            except KeyboardInterrupt as error:
                remaining.remove(behind)
                interrupted = error
                if not batched.is_consistent:  # within an update: no run can write a consistent checkpoint
                    break
        if interrupted is not None:
            raise interrupted

    def has_all_updates(self, number: int) -> bool:
        """Return True if a run has recorded all updates that were made."""
        return self.batched is None or not self.batched.pending[self.learners[number]]


class _StopAtSameUpdate(StopRequest):
    """Stop request that applies to a run only when it has all updates, so that all stop at the same one."""

    def __init__(self, process: StopRequest, runs: BatchedRuns, number: int) -> None:
        self.process, self.runs, self.number = process, runs, number

    @property
    def is_requested(self) -> bool:  # type: ignore[override]
        """True if the run is to stop now."""
        return self.process.is_requested and self.runs.has_all_updates(self.number)
