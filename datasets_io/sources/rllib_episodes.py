"""Read episodes that RLlib writes: Parquet files with a column ``item`` of packed episodes.

Ray 2.60, ``config.offline_data(output=..., output_write_episodes=True)``. They are states of
`SingleAgentEpisode` in MessagePack, with arrays in the form of msgpack-numpy; they are decoded here, because
that package also loads pickles. RLlib's other form, a column each for observations and actions, is a table:
see `datasets_io.sources.tabular`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from gymnasium.spaces import Box
from pydantic import Field

from datasets_io import environments, storage
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, Corrupt, UnknownName, UserError
from datasets_io.source import Source
from datasets_io.storage.documents import validator
from datasets_io.storage.parquet import open_parquet

ITEM = "item"
NORMALISED, UNITS = "normalised", "units"
PART_BYTES = 2**25
"""Approximate size in bytes of the files that are read together."""
_ARRAY, _TYPE, _KIND, _SHAPE, _DATA = b"nd", b"type", b"kind", b"shape", b"data"
"""Keys of a packed array."""

Count = Annotated[int, Field(ge=0, le=2**31)]


@dataclass(frozen=True)
class Buffer:
    """The fields of RLlib's buffer of an episode that are read.

    Attributes:
        data: Values in order: a list, or one array.
        lookback: Number of values at the beginning that belong to the piece before.
    """

    data: Any
    lookback: Count = 0


@dataclass(frozen=True)
class State:
    """The fields of an episode's state that are read; ends are numbers of NumPy."""

    id_: str | int
    observations: Buffer
    actions: Buffer
    rewards: Buffer
    is_terminated: Any
    is_truncated: Any
    t_started: Count = 0


class RLlibEpisodes(Source):
    """Episodes that RLlib recorded.

    RLlib records actions as the module gives them: between -1 and 1 with ``normalize_actions``, which is its
    default. A piece of an episode that goes on in another row is an episode that was cut off.

    Args:
        actions: ``normalised`` if recorded actions are between -1 and 1 and stand for the range of the
            environment, ``units`` if they are in its units; None: both are the same, or an error.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
    """

    row_options = ()

    def __init__(self, actions: str | None = None, env: str | None = None, licence: str = "unknown") -> None:
        if actions not in (None, NORMALISED, UNITS):
            raise UserError(f"actions is {NORMALISED} or {UNITS}: got {actions!r}.")
        self.actions, self.env, self.licence = actions, env, licence

    def parts(self, path: Any) -> list[Any]:
        """Return groups of files, each of about `PART_BYTES`, with the range of actions.

        Files of several folders are one group: RLlib may write an episode again, into a new folder.

        Raises:
            UnknownName: The folder holds no Parquet file.
            UserError: It is not known in which units actions are recorded.
        """
        root = storage.locate(path)
        found = [root] if not storage.is_folder(root) else storage.list_files(root, recursive=True)
        files = [str(file) for file in found if str(file).endswith(".parquet")]
        if not files:
            raise UnknownName(f"{root} holds no .parquet file.")
        limits = self._limits()
        if len({storage.locate(file).parent for file in files}) > 1:
            return [(tuple(files), limits)]  # an episode that is written twice is only noticed in one group
        groups: list[list[str]] = [[]]
        size = 0
        for file in files:
            own = storage.size(storage.locate(file))
            if groups[-1] and size + own > PART_BYTES:
                groups.append([])
                size = 0
            size += own
            groups[-1].append(file)
        return [(tuple(group), limits) for group in groups]

    def _limits(self) -> tuple[Array, Array] | None:
        """Return the range of normalised actions in the environment's units; None: take them as they are."""
        space = None if self.env is None else environments.spaces_of(self.env, {})[1]
        if not isinstance(space, Box) or self.actions == UNITS:
            if self.actions == NORMALISED:
                raise UserError("actions=normalised needs the environment's range.", "Give it with --env ID.")
            return None
        low, high = (np.asarray(limit, np.float32) for limit in (space.low, space.high))
        if (low == -1).all() and (high == 1).all():
            return None
        if self.actions is None:
            raise UserError(
                f"actions of {self.env} are between {low.min():g} and {high.max():g}; RLlib may have "
                "recorded them between -1 and 1.",
                f"Say which: actions={NORMALISED} (RLlib's default, normalize_actions) or actions={UNITS}.",
            )
        return low, high

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Read the episodes of a group of files.

        Raises:
            Corrupt: A file or a state is damaged.
            BadValues: Episodes of several agents, or values that are no arrays of one shape.
        """
        files, limits = part
        pieces, repeated, seen = 0, 0, set[str | None]()
        for file in files:
            for row, packed in enumerate(_items(storage.locate(file))):
                try:
                    episode, is_piece = _episode(packed, limits)
                except UserError as error:
                    error.where = f"{file}, row {row}"
                    raise
                if episode.id in seen:  # RLlib writes what it has not yet dropped again, into a new folder
                    repeated += 1
                    continue
                seen.add(episode.id)
                pieces += is_piece
                if episode.length:
                    yield episode
        if repeated:
            self.note("repeated", "", "episodes that were written twice were left out", count=repeated)
        if pieces:
            self.note(
                "open_end", "", "pieces of episodes without an end: they count as cut off", count=pieces
            )


def _items(file: storage.Place) -> Iterator[bytes]:
    """Yield the packed states of a file."""
    with storage.open_input(file) as opened:
        parquet = open_parquet(opened, file)
        if ITEM not in parquet.schema_arrow.names:
            there = ", ".join(parquet.schema_arrow.names[:20])
            raise UnknownName(f"{file} has no column {ITEM!r}.", f"There are: {there}")
        for batch in parquet.iter_batches(16, columns=[ITEM]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, bytes):
                    raise Corrupt(f"{file}: {ITEM} is no packed episode.", "Expected: bytes.")
                yield value


def _episode(packed: bytes, limits: tuple[Array, Array] | None) -> tuple[Episode, bool]:
    """Return an episode, and whether it has no end."""
    state = _unpack(packed)
    obs, actions, rewards = (_stack(one) for one in (state.observations, state.actions, state.rewards))
    terminated, truncated = bool(state.is_terminated), bool(state.is_truncated)
    if limits is not None:
        low, high = limits
        if len(actions) and np.abs(actions).max() > 1 + 1e-6:
            raise BadValues(
                f"an action is {np.abs(actions).max():g}: it is not between -1 and 1.",
                f"Expected: normalised actions; give actions={UNITS}.",
            )
        actions = low + (actions.astype(np.float32) + 1) / 2 * (high - low)
    name = f"{state.id_}-{state.t_started}"
    whole = Episode(obs, actions, rewards, terminated, truncated or not terminated, id=name)
    return whole, not terminated and not truncated


def _unpack(packed: bytes) -> State:
    """Decode a state.

    Raises:
        Corrupt: It is no state of an episode of one agent.
    """
    import msgpack
    from pydantic import ValidationError

    try:
        plain = msgpack.unpackb(packed, raw=False, strict_map_key=False, object_hook=_array)
        state: State = validator(State).validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the content"
        raise Corrupt(f"no episode of one agent: {field}: {first['msg']}.") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Corrupt(f"an episode cannot be decoded: {str(error)[:200]}.") from None
    for name, end in (("is_terminated", state.is_terminated), ("is_truncated", state.is_truncated)):
        if not isinstance(end, bool | np.bool_):
            raise Corrupt(f"{name} of an episode is {str(end)[:40]}.", "Expected: true or false.")
    return state


def _array(packed: dict[Any, Any]) -> Any:
    """Return a packed array or number of NumPy; other dictionaries as they are.

    Raises:
        ValueError: It is of another type than numbers, or its size does not fit.
    """
    if _ARRAY not in packed:
        return packed
    dtype = np.dtype(str(packed.get(_TYPE)))
    if packed.get(_KIND, b"") not in (b"", "") or dtype.kind not in "biuf":
        raise ValueError("an array holds objects, not numbers")
    values = np.frombuffer(packed[_DATA], dtype)
    return values.reshape(packed[_SHAPE]) if packed[_ARRAY] else values[0]


def _stack(buffer: Buffer) -> Array:
    """Return the values of a buffer as one array [T, …].

    Raises:
        BadValues: They are no numbers, or have several shapes.
    """
    data = buffer.data[buffer.lookback :] if isinstance(buffer.data, list | np.ndarray) else None
    try:
        values = np.asarray(data)
    except ValueError:  # several shapes
        values = np.asarray(None)
    if values.dtype.kind not in "biuf" or not values.ndim:
        raise BadValues("an episode's values are no arrays of one shape.", "Dictionaries are not read.")
    return values
