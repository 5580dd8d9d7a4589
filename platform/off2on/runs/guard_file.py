"""The content of guard.yaml: the tests of a guard and their outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from datasets_io.errors import Corrupt
from datasets_io.storage.documents import MAX_YAML_BYTES, parse_yaml, read_content
from off2on.runs.checkpoints import Name
from off2on.runs.metadata import Number

GUARD = "guard.yaml"


@dataclass(frozen=True)
class GuardDecision:
    """A test of the learner's policy and its outcome.

    Attributes:
        env_steps: Number of environment steps at the test.
        returns: Returns of the evaluation episodes.
        collected: Returns of the episodes that were collected since the previous test.
        decision: What was decided, see `off2on.training.guard`.
        lower: Lower bound of the difference to the policy of the handover.
        upper: Upper bound of the difference to the policy that served until now.
        regret: Regret so far.
        serving: Name of the checkpoint with the policy that serves from now on.
    """

    env_steps: Annotated[int, Field(ge=0)]
    returns: list[Number]
    collected: list[Number]
    decision: Literal["accept", "roll back", "stop", "wait"]
    lower: Number
    upper: Number
    regret: Number
    serving: Name


@dataclass(frozen=True)
class GuardFile:
    """Content of guard.yaml."""

    options: dict[str, Number | None]
    handover: Annotated[list[Number], Field(min_length=1)]
    home: Name
    trials: list[GuardDecision]


def serving_returns(handover: list[float], decisions: Sequence[GuardDecision]) -> list[float]:
    """Return the returns of the evaluation episodes of the policy that serves after these decisions."""
    accepted = [test.returns for test in decisions if test.decision == "accept"]
    return accepted[-1] if accepted else handover


def parse_guard(text: str | bytes, where: object = GUARD) -> GuardFile:
    """Parse guard.yaml, which was read from `where`.

    Raises:
        UserError: It is no such YAML.
    """
    kept = parse_yaml(text, GuardFile, where)
    if any(len(test.returns) != len(kept.handover) for test in kept.trials):
        raise Corrupt(
            f"{where} has tests with another number of episodes than the handover.",
            f"Expected {len(kept.handover)} in each.",
        )
    return kept


def returns_in_service(folder: Path, env_steps: float) -> list[float] | None:
    """Return the returns of the policy that serves after a number of steps; None without a guard.

    Decisions after these steps are those of a run that was resumed before them.
    """
    path = folder / GUARD
    if not path.is_file():
        return None
    kept = parse_guard(read_content(path, MAX_YAML_BYTES), path)
    return serving_returns(kept.handover, [test for test in kept.trials if test.env_steps <= env_steps])
