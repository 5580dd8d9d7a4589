"""Requests over HTTP, parsed and checked; an error names what is wrong and what was expected."""

from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json

from off2on.replay.transforms import Array

MAX_BODY_BYTES = 2**22
"""Largest body of a request."""
MAX_OBSERVATIONS = 4096
"""Most observations in one request."""
MAX_REWARD = float(np.finfo(np.float32).max)


class BadRequestError(Exception):
    """A request that cannot be answered.

    Args:
        error: The problem, with the offending value.
        expected: The expected form.
        status: HTTP status code.
    """

    def __init__(self, error: str, expected: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.error, self.expected, self.status = error, expected, status


class ActRequest(NamedTuple):
    """A request for actions.

    Attributes:
        obs: Observations [n, D] float32, in raw units.
        is_single: True if it was one observation, not a list of them.
        episode: Name of the episode; None: the step is not recorded.
    """

    obs: Array
    is_single: bool
    episode: str | None


class Outcome(NamedTuple):
    """Outcome of an action: reward, end of the episode, next observation."""

    id: str
    reward: float
    terminated: bool
    truncated: bool
    next_obs: list[float] | None


async def read_body(request: Any) -> bytes:
    """Return the body of a request; reading stops at `MAX_BODY_BYTES`.

    Raises:
        BadRequestError: The body is too large.
    """
    length = request.headers.get("content-length", "")
    size, pieces = int(length) if length.isdecimal() else 0, []
    if size <= MAX_BODY_BYTES:
        size = 0
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY_BYTES:
                break
    if size > MAX_BODY_BYTES:
        raise BadRequestError(f"the body has {size:,} bytes or more.", f"At most {MAX_BODY_BYTES:,}.", 413)
    return b"".join(pieces)


def parse_json(body: bytes) -> Any:
    """Parse a body as JSON, by the rules by which the journal is read again.

    Raises:
        BadRequestError: It is not JSON.
    """
    try:
        return from_json(body)
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}.", 'Expected {"obs": [...]}.') from None


def parse_act_request(given: Any, width: int) -> ActRequest:
    """Parse a request for actions.

    Raises:
        BadRequestError: It has no observations of this width.
    """
    if not isinstance(given, dict) or "obs" not in given:
        raise BadRequestError("there is no 'obs'.", 'Expected {"obs": [...]}, or a list of such lists.')
    unknown = given.keys() - {"obs", "episode"}
    if unknown:
        raise BadRequestError(f"unknown fields: {', '.join(sorted(unknown))}.", "Expected obs and episode.")
    episode = given.get("episode")
    if episode is not None and not isinstance(episode, str):
        raise BadRequestError(f"'episode' must be text: got {episode!r}.")
    obs = vectors(given["obs"], width, "obs")
    if len(obs) > MAX_OBSERVATIONS:
        raise BadRequestError(f"{len(obs):,} observations at once.", f"At most {MAX_OBSERVATIONS:,}.", 413)
    is_single = isinstance(given["obs"], list) and not isinstance(given["obs"][0], list)
    if episode is not None and not is_single:
        raise BadRequestError("an episode takes one observation per request.", "Send one request for each.")
    return ActRequest(obs, is_single, episode)


def vectors(given: Any, width: int, name: str) -> Array:
    """Convert one vector of numbers, or a list of them, to an array [n, width] float32.

    Raises:
        BadRequestError: It is neither.
    """
    expected = f"Expected {width} finite numbers, or a list of such lists."
    try:
        found = np.array(given)
    except ValueError:  # lists of different lengths
        raise BadRequestError(f"'{name}' has lists of different lengths.", expected) from None
    if found.dtype.kind not in "iuf":
        raise BadRequestError(f"'{name}' holds a value that is not a number.", expected)
    found = np.atleast_2d(found)
    if found.ndim != 2 or found.shape[1] != width or not len(found):
        raise BadRequestError(f"'{name}' has the shape {np.array(given).shape}.", expected)
    found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise BadRequestError(f"'{name}' holds NaN or infinity.", expected)
    return found


def parse_outcomes(given: Any, width: int) -> list[Outcome]:
    """Parse the outcome of one action, or of several.

    Raises:
        BadRequestError: A field is missing or has a wrong value.
    """
    found = []
    for each in given if isinstance(given, list) else [given]:
        if not isinstance(each, dict) or not isinstance(each.get("id"), str):
            raise BadRequestError("there is no 'id'.", "Expected the id that /act gave with the action.")
        reward = each.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise BadRequestError(f"'reward' must be a number: got {reward!r}.")
        # Compared without conversion: an integer in JSON may be too large for any float.
        if not abs(reward) <= MAX_REWARD:
            raise BadRequestError("'reward' does not fit into float32.", "Expected a finite number.")
        ends = [each.get(name, False) for name in ("terminated", "truncated")]
        if not all(isinstance(end, bool) for end in ends):
            raise BadRequestError("'terminated' and 'truncated' must be true or false.")
        after = each.get("next_obs")
        if after is not None:
            rows = vectors(after, width, "next_obs")
            if len(rows) > 1:
                raise BadRequestError(f"'next_obs' has {len(rows):,} observations.", "Expected one.")
            after = rows[0].tolist()
        if any(ends) and after is None:
            raise BadRequestError(
                "the last outcome of an episode needs 'next_obs'.", "Expected the observation after it."
            )
        found.append(Outcome(each["id"], float(reward), ends[0], ends[1], after))
    return found
