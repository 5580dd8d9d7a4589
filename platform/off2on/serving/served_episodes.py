"""Episodes that a served policy played, as a source of a data set."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import AfterValidator, Discriminator, Field, Tag
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12

from datasets_io import Episode, Source
from datasets_io.errors import BadValues
from datasets_io.storage.documents import parse_json
from off2on.errors import UserError
from off2on.serving.line_file import read_lines
from off2on.serving.requests import MAX_REWARD

Number = Annotated[float, Field(ge=-MAX_REWARD, le=MAX_REWARD, allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Version = Annotated[str, Field(pattern="^[0-9a-f]{1,15}$")]


class RecordedOutcome(TypedDict):
    """What is recorded of an `Outcome`."""

    id: str
    reward: Number
    terminated: bool
    truncated: bool
    next_obs: list[Number] | None


class ServedStep(TypedDict):
    """What is recorded of a served action, and its outcome once that came.

    `session` is the process that served it, `at` the time in milliseconds since 1970.
    """

    id: str
    at: Integer
    session: NotRequired[str]
    episode: str
    obs: list[Number]
    action: list[Number] | Integer
    log_prob: Number | None
    version: Version
    reward: NotRequired[Number]
    terminated: NotRequired[bool]
    truncated: NotRequired[bool]
    next_obs: NotRequired[list[Number] | None]


def _check_outcome(step: Any) -> Any:
    """Check the outcome of a step, or an outcome of its own."""
    if missing := [name for name in RecordedOutcome.__required_keys__ if name not in step]:
        raise ValueError(f"a step with an outcome lacks {', '.join(sorted(missing))}")
    if (step["terminated"] or step["truncated"]) and step["next_obs"] is None:
        raise ValueError("the last step of an episode lacks next_obs")
    return step


def _check_episode(steps: list[ServedStep]) -> list[ServedStep]:
    last = steps[-1]
    if not (last["terminated"] or last["truncated"]):
        raise ValueError("the last step does not end the episode")
    return steps


JournalLine = Annotated[
    Annotated[
        ServedStep,
        AfterValidator(lambda step: _check_outcome(step) if "reward" in step else step),
        Tag("step"),
    ]
    | Annotated[RecordedOutcome, AfterValidator(_check_outcome), Tag("outcome")],
    Discriminator(lambda line: "outcome" if isinstance(line, dict) and "obs" not in line else "step"),
]
"""A line of the journal: a step, or the outcome of an earlier one."""
PlayedEpisode = Annotated[
    list[Annotated[ServedStep, AfterValidator(_check_outcome)]],
    Field(min_length=1),
    AfterValidator(_check_episode),
]
"""A line of the batch file."""

EXTRAS: dict[str, tuple[Callable[[ServedStep], Any], Any]] = {
    "action_logp": (lambda step: step["log_prob"], np.float32),
    "policy_version": (lambda step: int(step["version"], 16), np.int64),
    "served_at": (lambda step: step["at"], np.int64),
}
"""Additional columns of served episodes: how each is read from a step, and its dtype. They are the log
probability of the action, the version of the policy (the hexadecimal number of /version), and the time of the
request in milliseconds since 1970."""


class ServedEpisodes(Source):
    """Source of the episodes that a served policy played.

    Args:
        env: Id of their environment, if it is known.
        observation_space: Observation space of the run.
        action_space: Action space of the run.
        extras: Names of the additional columns, see `EXTRAS`.
    """

    def __init__(
        self, env: str | None, observation_space: Any, action_space: Any, extras: Sequence[str] = ()
    ) -> None:
        self.env, self.observation_space, self.action_space = env, observation_space, action_space
        self.extras = tuple(extras)

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Yield one episode per line of the batch file."""
        for steps in read_batch(Path(part)):
            last = steps[-1]
            yield Episode(
                obs=_stack([*(step["obs"] for step in steps), last["next_obs"]], "observations").astype(
                    np.float32
                ),
                actions=_stack([step["action"] for step in steps], "actions"),
                rewards=np.array([step["reward"] for step in steps], np.float32),
                terminated=last["terminated"],
                truncated=last["truncated"],
                extras={
                    name: np.array([read(step) for step in steps], kind)
                    for name, (read, kind) in EXTRAS.items()
                    if name in self.extras
                },
            )


def _stack(values: Sequence[Any], what: str) -> Any:
    """Return the values of an episode as one array.

    Raises:
        BadValues: They have different shapes.
    """
    shapes = sorted({np.shape(value) for value in values})
    if len(shapes) > 1:
        raise BadValues(
            f"the {what} of a served episode have different shapes: {', '.join(map(str, shapes))}."
        )
    return np.array(values)


def read_journal(path: Path) -> tuple[list[ServedStep | RecordedOutcome], list[bytes]]:
    """Return the lines of a journal, and those that are damaged; see `read_lines`.

    Raises:
        UserError: A line is no step and no outcome.
    """
    return read_lines(path, JournalLine)  # type: ignore[arg-type]


def read_batch(path: Path) -> Iterator[list[ServedStep]]:
    """Yield the episodes of a batch file.

    Raises:
        UserError: A line is not an episode.
    """
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        yield parse_json(line, PlayedEpisode, f"{path}:{number}", UserError)
