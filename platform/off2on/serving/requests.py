"""What is asked over HTTP, checked: a fault of the one who asks is said to them, with what was expected."""

import json
from typing import Any, NamedTuple

import numpy as np

from off2on.replay.transforms import Array

LARGEST = 2**22
"""Bytes of a request's body."""
MOST = 4096
"""Observations of one request."""
LARGEST_REWARD = float(np.finfo(np.float32).max)


class BadRequest(Exception):
    """A request that cannot be answered.

    Args:
        error: What is wrong.
        expected: What was expected.
        status: HTTP's number for it.
    """

    def __init__(self, error: str, expected: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.error, self.expected, self.status = error, expected, status


class Asked(NamedTuple):
    """Observations that want actions.

    Attributes:
        obs: [n, D] float32.
        alone: Whether it was one observation, not a list of them.
        episode: What tells its episode from others; None: it is not to be remembered.
    """

    obs: Array
    alone: bool
    episode: str | None


class Outcome(NamedTuple):
    """What came of an action."""

    id: str
    reward: float
    terminated: bool
    truncated: bool
    next_obs: list[float] | None


async def body_of(request: Any) -> bytes:
    """The body of a request of HTTP, of which no more is taken in than is allowed.

    Raises:
        BadRequest: It is too large.
    """
    said = request.headers.get("content-length", "")
    size, pieces = int(said) if said.isdecimal() else 0, []
    if size <= LARGEST:
        size = 0
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST:
                break
    if size > LARGEST:
        raise BadRequest(f"the body has {size:,} bytes or more.", f"At most {LARGEST:,}.", 413)
    return b"".join(pieces)


def parsed(body: bytes) -> Any:
    """A body as JSON.

    Raises:
        BadRequest: It is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}.", 'Expected {"obs": [...]}.') from None


def asked(said: Any, width: int) -> Asked:
    """A request for actions.

    Raises:
        BadRequest: It says no observations of this width.
    """
    if not isinstance(said, dict) or "obs" not in said:
        raise BadRequest("there is no 'obs'.", 'Expected {"obs": [...]}, or a list of such lists.')
    unknown = said.keys() - {"obs", "episode"}
    if unknown:
        raise BadRequest(f"unknown: {', '.join(sorted(unknown))}.", "Known: obs, episode.")
    episode = said.get("episode")
    if episode is not None and not isinstance(episode, str):
        raise BadRequest(f"'episode' must be text: got {episode!r}.")
    obs = vectors(said["obs"], width, "obs")
    if len(obs) > MOST:
        raise BadRequest(f"{len(obs):,} observations at once.", f"At most {MOST:,}.", 413)
    alone = isinstance(said["obs"], list) and not isinstance(said["obs"][0], list)
    if episode is not None and not alone:
        raise BadRequest("an episode has one observation at a time.", "One request for each.")
    return Asked(obs, alone, episode)


def vectors(said: Any, width: int, name: str) -> Array:
    """One vector of numbers, or a list of them: [n, width] float32.

    Raises:
        BadRequest: It is none.
    """
    expected = f"Expected {width} finite numbers, or a list of such lists."
    try:
        found = np.array(said)
    except ValueError:  # lists of different lengths
        raise BadRequest(f"'{name}' has lists of different lengths.", expected) from None
    if found.dtype.kind not in "iuf":
        raise BadRequest(f"'{name}' holds something that is no number.", expected)
    found = np.atleast_2d(found)
    if found.ndim != 2 or found.shape[1] != width or not len(found):
        raise BadRequest(f"'{name}' has the shape {np.array(said).shape}.", expected)
    found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise BadRequest(f"'{name}' holds NaN or infinity.", expected)
    return found


def outcomes(said: Any, width: int) -> list[Outcome]:
    """A request that says what came of one action, or of several.

    Raises:
        BadRequest: It does not.
    """
    found = []
    for each in said if isinstance(said, list) else [said]:
        if not isinstance(each, dict) or not isinstance(each.get("id"), str):
            raise BadRequest("there is no 'id'.", "Expected the id that /act gave with the action.")
        reward = each.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise BadRequest(f"'reward' must be a number: got {reward!r}.")
        # Compared as it is: a whole number of JSON may be too large for any float.
        if not abs(reward) <= LARGEST_REWARD:
            raise BadRequest("'reward' is no number that float32 can hold.", "Expected a finite number.")
        ends = [each.get(name, False) for name in ("terminated", "truncated")]
        if not all(isinstance(end, bool) for end in ends):
            raise BadRequest("'terminated' and 'truncated' must be true or false.")
        after = each.get("next_obs")
        if after is not None:
            rows = vectors(after, width, "next_obs")
            if len(rows) > 1:
                raise BadRequest(f"'next_obs' has {len(rows):,} observations.", "Expected one.")
            after = rows[0].tolist()
        if any(ends) and after is None:
            raise BadRequest("the last outcome of an episode needs 'next_obs'.", "What was seen after it.")
        found.append(Outcome(each["id"], float(reward), ends[0], ends[1], after))
    return found
