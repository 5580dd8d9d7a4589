"""What a guard's decisions do to a run: who collects, which checkpoint stays, which policy is the run's."""

from collections.abc import Sequence
from typing import Any

from off2on.runs.folder import GUARD, HANDOVER, Run, write
from off2on.training.evaluate import Episode
from off2on.training.guard import ACCEPT, ROLL_BACK, Guard, GuardOptions


def stand(options: GuardOptions, run: Run, algo: Any, played: Sequence[Episode]) -> Guard:
    """Have the policy of the handover collect until another has shown that it is no worse.

    Args:
        options: How careful.
        run: The run, which has just crossed.
        algo: Its algorithm.
        played: The episodes of the handover's evaluation.
    """
    guard = Guard(options, [episode.ret for episode in played], HANDOVER)
    algo.runners.weights_frozen = True
    write(run.folder / GUARD, guard.dump())
    run.save_policy(algo.policy())
    return guard


def take_up(run: Run, algo: Any) -> Guard | None:
    """The guard of a run that goes on, if it had one; the policy that served last is then the runners'.

    Leaves the networks of that policy in the learners: the last checkpoint is to be restored after it.
    """
    file = run.folder / GUARD
    if run.last_checkpoint is None or not file.is_file():
        return None
    algo.restore_from_path(str(run.last_checkpoint))
    guard = Guard.load(file.read_text(encoding="utf-8"))
    guard.forget_after(algo.env_steps)
    run.protected = {HANDOVER, guard.serving}
    algo.restore_from_path(str(run.checkpoints / guard.serving))
    if not algo.is_online:
        algo.go_online()
    algo.runners.weights_frozen = True
    return guard


def try_out(guard: Guard, run: Run, algo: Any, place: str, played: Sequence[Episode]) -> str:
    """Let the guard decide about the policy that has just been scored, and do it; its decision in words.

    Args:
        guard: The guard.
        run: The run.
        algo: Its algorithm.
        place: The name of the checkpoint that is kept next.
        played: The episodes of the evaluation.
    """
    collected = list(algo.returns)
    algo.returns.clear()
    trial = guard.judge(algo.env_steps, place, [episode.ret for episode in played], collected)
    write(run.folder / GUARD, guard.dump())
    if trial.decision == ACCEPT:
        algo.runners.send_weights(algo.updates)
        run.save_policy(algo.policy())
        run.protected = {HANDOVER, place}
    elif trial.decision == ROLL_BACK:
        algo.roll_back(run.checkpoints / guard.serving)
    return guard.say(trial)
