"""A guard for those whose environment is real: a policy serves only after it has shown that it is no worse.

Collecting is the serving policy's work, at first the one of the handover. The learner goes on beside it,
and every evaluation is a trial of what it has become, on episodes with the same seeds as the ones before:

    accept     the lower confidence bound of (trial - handover) is above -margin, and the trial's mean is
               no lower than the serving policy's: it serves from now on
    roll back  the upper bound of (trial - serving) is below -collapse: the learner begins again from the
               networks that serve; what was collected stays
    stop       what the trials returned less than the handover's episodes, and collected episodes less than
               their mean, adds up to more than the budget: the run ends, with the policy that serves
    wait       otherwise

Bounds are Student's, one-sided, on the differences of paired episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from scipy import stats as distributions

from off2on.recipe.hyperparameters import Settings, hp

ACCEPT, ROLL_BACK, STOP, WAIT = "accept", "roll back", "stop", "wait"


@dataclass(frozen=True)
class GuardOptions(Settings):
    """How careful the guard is; shares are of the size of the handover's mean return."""

    confidence: float = hp(0.95, "of the one-sided bounds", above=0.5, below=1)
    margin: float = hp(0.0, "share by which a policy that may serve can be worse", least=0)
    collapse: float = hp(0.2, "share below the serving policy at which the learner is rolled back", least=0)
    budget: float | None = hp(None, "allowed regret, in handover's mean returns; none: any amount", least=0)


@dataclass(frozen=True)
class Trial:
    """An evaluation and what came of it.

    Attributes:
        env_steps: Where.
        returns: Of its episodes.
        collected: Returns of the episodes that were collected since the trial before.
        decision: One of the four.
        lower: Lower bound of its difference to the handover.
        upper: Upper bound of its difference to the policy that served.
        regret: Lost so far.
        serving: Name of the checkpoint whose policy serves from now on.
    """

    env_steps: int
    returns: list[float]
    collected: list[float]
    decision: str
    lower: float
    upper: float
    regret: float
    serving: str


@dataclass
class Guard:
    """Decides, and remembers what it decided.

    Attributes:
        options: How careful.
        handover: Returns of the handover policy's episodes.
        home: Name of the handover's checkpoint.
        trials: All so far.
    """

    options: GuardOptions
    handover: list[float]
    home: str
    trials: list[Trial] = field(default_factory=list)

    @property
    def serving(self) -> str:
        """Name of the checkpoint whose policy collects."""
        return self.trials[-1].serving if self.trials else self.home

    @property
    def serving_returns(self) -> list[float]:
        """Returns of its trial."""
        accepted = [trial.returns for trial in self.trials if trial.decision == ACCEPT]
        return accepted[-1] if accepted else self.handover

    @property
    def has_stopped(self) -> bool:
        """Whether the budget is spent."""
        return bool(self.trials) and self.trials[-1].decision == STOP

    def judge(self, env_steps: int, name: str, returns: Sequence[float], collected: Sequence[float]) -> Trial:
        """Decide about the learner's policy.

        Args:
            env_steps: Where the run is.
            name: Of the checkpoint that it is kept as if it may serve.
            returns: Of its episodes, seed by seed as the handover's.
            collected: Of the episodes that the serving policy finished since the trial before.
        """
        mean, size = float(np.mean(self.handover)), abs(float(np.mean(self.handover)))
        before = self.trials[-1].regret if self.trials else 0.0
        tried = sum(self.handover) - sum(returns)
        regret = before + max(0.0, tried) + max(0.0, sum(mean - each for each in collected))
        lower = self._bound(returns, self.handover, -1)
        upper = self._bound(returns, self.serving_returns, 1)
        decision = WAIT
        if self.options.budget is not None and regret > self.options.budget * size:
            decision = STOP
        elif lower >= -self.options.margin * size and np.mean(returns) >= np.mean(self.serving_returns):
            decision = ACCEPT
        elif upper < -self.options.collapse * size:
            decision = ROLL_BACK
        serving = name if decision == ACCEPT else self.serving
        trial = Trial(
            env_steps,
            list(map(float, returns)),
            list(map(float, collected)),
            decision,
            lower,
            upper,
            regret,
            serving,
        )
        self.trials.append(trial)
        return trial

    def _bound(self, returns: Sequence[float], others: Sequence[float], side: int) -> float:
        """A one-sided bound of the mean paired difference; without spread, or of one pair, the mean."""
        apart = np.asarray(returns) - np.asarray(others)
        spread = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else 0.0
        wide = distributions.t.ppf(self.options.confidence, len(apart) - 1) if spread else 0.0
        return float(apart.mean() + side * wide * spread)

    def forget_after(self, env_steps: int) -> None:
        """Drop the trials that a checkpoint at these steps does not know of."""
        self.trials = [trial for trial in self.trials if trial.env_steps <= env_steps]

    def dump(self) -> str:
        """As YAML."""
        kept = {"options": self.options.as_dict(), "handover": self.handover, "home": self.home}
        return yaml.safe_dump(kept | {"trials": [vars(trial) for trial in self.trials]}, sort_keys=False)

    @classmethod
    def load(cls, text: str) -> "Guard":
        """What `dump` gave."""
        kept: dict[str, Any] = yaml.safe_load(text)
        trials = [Trial(**trial) for trial in kept["trials"]]
        return cls(GuardOptions(**kept["options"]), kept["handover"], kept["home"], trials)

    def say(self, trial: Trial) -> str:
        """A trial in words."""
        mean = float(np.mean(trial.returns))
        return (
            f"guard: {trial.decision} · trial {mean:.4g}, at least {trial.lower:+.4g} of the handover's, "
            f"at most {trial.upper:+.4g} of the serving policy's · regret {trial.regret:.4g}"
        )
