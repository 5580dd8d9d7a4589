"""Episodes that a served policy played, as a source of a data set."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Required

import numpy as np
from pydantic import FiniteFloat
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12

from datasets_io import Episode, Source
from datasets_io.storage.documents import parse_json
from off2on.errors import UserError


class ServedStep(TypedDict, total=False):
    """What is known of a served action: its own fields, and those of its `Outcome` once that came.

    `session` is the process that served it, `at` the time in milliseconds since 1970.
    """

    id: Required[str]
    at: int
    session: str
    episode: str
    obs: list[FiniteFloat]
    action: list[FiniteFloat] | int
    log_prob: FiniteFloat | None
    version: str
    reward: FiniteFloat
    terminated: bool
    truncated: bool
    next_obs: list[FiniteFloat] | None


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
                obs=np.array([*(step["obs"] for step in steps), last["next_obs"]], np.float32),
                actions=np.array([step["action"] for step in steps]),
                rewards=np.array([step["reward"] for step in steps], np.float32),
                terminated=last["terminated"],
                truncated=last["truncated"],
                extras={
                    name: np.array([read(step) for step in steps], kind)
                    for name, (read, kind) in EXTRAS.items()
                    if name in self.extras
                },
            )


def read_batch(path: Path) -> Iterator[list[ServedStep]]:
    """Yield the episodes of a batch file.

    Raises:
        UserError: A line is not an episode.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield parse_json(line, list[ServedStep], f"{path}:{number}", UserError)
