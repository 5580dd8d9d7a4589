"""The guard: a new policy collects in the environment only after a test shows that it is not worse.

The serving policy collects; at first it is the policy of the handover. The learner continues to train, and
every evaluation tests its current policy, on episodes with the same seeds as at the handover:

    accept     the lower confidence bound of (tested - handover) is at least -margin, and the mean of the
               tested policy is at least that of the serving policy: the tested policy serves from now on
    roll back  the upper bound of (tested - serving) is below -collapse: the learner restarts from the
               networks of the serving policy; the collected transitions stay
    stop       the regret is above the budget: the run ends with the serving policy
    wait       otherwise

Regret is the sum of the returns by which evaluations and collected episodes are below those of the handover.
Bounds are one-sided Student's t bounds on the differences of paired episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from scipy.special import stdtrit

from datasets_io.storage.documents import MAX_YAML_BYTES, dump_yaml, read_content
from off2on.recipe.hyperparameters import Settings, hp
from off2on.runs import checkpoints
from off2on.runs.folder import HANDOVER, Run, write
from off2on.runs.guard_file import GUARD, GuardDecision, parse_guard, serving_returns
from off2on.training.evaluate import EvaluationEpisode
from off2on.training.resume import restore

ACCEPT: Final = "accept"
ROLL_BACK: Final = "roll back"
STOP: Final = "stop"
WAIT: Final = "wait"


@dataclass(frozen=True)
class GuardOptions(Settings):
    """Settings of the guard; shares are relative to the absolute mean return at the handover."""

    confidence: float = hp(0.95, "confidence of the one-sided bounds", above=0.5, below=1)
    margin: float = hp(0.0, "share by which a policy that may serve can be worse", least=0)
    collapse: float = hp(0.2, "share below the serving policy at which the learner is rolled back", least=0)
    budget: float | None = hp(
        None, "allowed regret, in mean returns of the handover; none: any amount", least=0
    )


@dataclass
class Guard:
    """The rule that decides which policy collects, and its decisions so far.

    Attributes:
        options: Settings.
        handover: Returns of the evaluation episodes at the handover.
        handover_checkpoint: Name of the checkpoint of the handover.
        decisions: All decisions, in order.
    """

    options: GuardOptions
    handover: list[float]
    handover_checkpoint: str
    decisions: list[GuardDecision] = field(default_factory=list)

    @property
    def serving(self) -> str:
        """Name of the checkpoint with the serving policy."""
        return self.decisions[-1].serving if self.decisions else self.handover_checkpoint

    @property
    def serving_returns(self) -> list[float]:
        """Returns of the evaluation episodes of the serving policy."""
        return serving_returns(self.handover, self.decisions)

    @property
    def has_stopped(self) -> bool:
        """True if the budget is exceeded."""
        return bool(self.decisions) and self.decisions[-1].decision == STOP

    def decide(
        self, env_steps: int, name: str, returns: Sequence[float], collected: Sequence[float]
    ) -> GuardDecision:
        """Decide about the learner's policy, and add the decision to `decisions`.

        Args:
            env_steps: Number of environment steps so far.
            name: Name of the checkpoint that is written next, with the tested policy.
            returns: Returns of the tested policy, with the same seeds as those of the handover.
            collected: Returns of the episodes that the serving policy finished since the previous test.
        """
        mean, size = float(np.mean(self.handover)), abs(float(np.mean(self.handover)))
        before = self.decisions[-1].regret if self.decisions else 0.0
        evaluated = sum(self.handover) - sum(returns)
        regret = before + max(0.0, evaluated) + max(0.0, sum(mean - each for each in collected))
        lower = self._bound(returns, self.handover, -1)
        upper = self._bound(returns, self.serving_returns, 1)
        decision: Literal["accept", "roll back", "stop", "wait"] = WAIT
        if self.options.budget is not None and regret > self.options.budget * size:
            decision = STOP
        elif lower >= -self.options.margin * size and np.mean(returns) >= np.mean(self.serving_returns):
            decision = ACCEPT
        elif upper < -self.options.collapse * size:
            decision = ROLL_BACK
        serving = name if decision == ACCEPT else self.serving
        outcome = GuardDecision(
            env_steps,
            list(map(float, returns)),
            list(map(float, collected)),
            decision,
            lower,
            upper,
            regret,
            serving,
        )
        self.decisions.append(outcome)
        return outcome

    def _bound(self, returns: Sequence[float], others: Sequence[float], sign: int) -> float:
        """Return a one-sided bound of the mean paired difference; the mean if there is no variance."""
        difference = np.asarray(returns) - np.asarray(others)
        error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
        quantile = float(stdtrit(len(difference) - 1, self.options.confidence)) if error else 0.0
        return float(difference.mean() + sign * quantile * error)

    def forget_after(self, env_steps: int) -> None:
        """Drop the decisions after a number of environment steps."""
        self.decisions = [outcome for outcome in self.decisions if outcome.env_steps <= env_steps]

    def dump(self) -> str:
        """Return the guard as YAML."""
        kept = {
            "options": self.options.as_dict(),
            "handover": self.handover,
            "home": self.handover_checkpoint,
        }
        return dump_yaml(kept | {"trials": [vars(outcome) for outcome in self.decisions]})

    @classmethod
    def load(cls, text: str | bytes, where: object = GUARD) -> "Guard":
        """Restore a guard from the YAML of `dump`, read from the file `where`.

        Raises:
            UserError: It is no such YAML.
        """
        kept = parse_guard(text, where)
        return cls(GuardOptions.parse(kept.options, "the guard"), kept.handover, kept.home, kept.trials)

    def describe(self, outcome: GuardDecision) -> str:
        """Format a decision as a line."""
        mean = float(np.mean(outcome.returns))
        return (
            f"guard: {outcome.decision} · mean return {mean:.4g}, at least {outcome.lower:+.4g} to handover, "
            f"at most {outcome.upper:+.4g} to the serving policy · regret {outcome.regret:.4g}"
        )


def start_guard(options: GuardOptions, run: Run, algo: Any, played: Sequence[EvaluationEpisode]) -> Guard:
    """Let the policy of the handover collect, and freeze the weights of the environment runners.

    Args:
        options: Settings of the guard.
        run: The run, at the handover.
        algo: Its algorithm.
        played: Episodes of the evaluation at the handover.
    """
    guard = Guard(options, [episode.ret for episode in played], HANDOVER)
    algo.runners.weights_frozen = True
    write(run.folder / GUARD, guard.dump())
    run.save_policy(algo.policy())
    return guard


def resume_guard(run: Run, algo: Any) -> Guard | None:
    """Restore the guard of a resumed run, if it has one, and send the serving policy to the runners.

    The learners have the networks of the serving policy then: restore the last checkpoint afterwards.
    """
    file = run.folder / GUARD
    if run.last_checkpoint is None or not file.is_file():
        return None
    restore(algo.restore_from_path, run.last_checkpoint)
    if not algo.is_online:  # no checkpoint was written after the handover, which is repeated
        return None
    guard = Guard.load(read_content(file, MAX_YAML_BYTES), file)
    guard.forget_after(algo.env_steps)
    run.protected = {HANDOVER, guard.serving}
    _roll_back(guard, run, algo)
    algo.runners.send_weights(algo.updates)
    algo.runners.weights_frozen = True
    run.save_policy(algo.policy())  # the file may have the policy of a decision that was forgotten
    return guard


def _roll_back(guard: Guard, run: Run, algo: Any) -> None:
    """Restore the networks and optimisers of the serving policy in the learners.

    Raises:
        Corrupt: Its checkpoint is damaged.
    """
    at_handover = guard.serving == guard.handover_checkpoint
    restore(
        lambda folder: algo.roll_back(Path(folder), at_handover),
        checkpoints.check_checkpoint(run.folder, guard.serving),
    )


def decide_and_apply(
    guard: Guard, run: Run, algo: Any, checkpoint: str, played: Sequence[EvaluationEpisode]
) -> str:
    """Let the guard decide about the policy that was just evaluated, and apply the decision.

    Args:
        guard: The guard.
        run: The run.
        algo: Its algorithm.
        checkpoint: Name of the checkpoint that is written next.
        played: Episodes of the evaluation.

    Returns:
        The decision as a line of text.
    """
    collected = list(algo.returns)
    algo.returns.clear()
    outcome = guard.decide(algo.env_steps, checkpoint, [episode.ret for episode in played], collected)
    write(run.folder / GUARD, guard.dump())
    if outcome.decision == ACCEPT:
        algo.runners.send_weights(algo.updates)
        run.save_policy(algo.policy())
        run.protected = {HANDOVER, checkpoint}
    elif outcome.decision == ROLL_BACK:
        _roll_back(guard, run, algo)
    return guard.describe(outcome)
