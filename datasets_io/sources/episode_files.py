"""Read HDF5 files that are laid out by episode: dumps of d3rlpy 2, and padded arrays [episodes, T, …]."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from datasets_io.episode import Array, ColumnKind, Episode, check_column
from datasets_io.errors import BadValues, Corrupt, MissingColumn
from datasets_io.sources.column_checks import (
    check_columns,
    check_episode_size,
    check_sizes,
    row_bytes,
    to_flags,
)
from datasets_io.sources.hdf5 import Hdf5Column, Hdf5File
from datasets_io.storage.documents import parse_json
from datasets_io.storage.nested_spaces import nested_from_json

LENGTHS = ("lengths", "length", "episode_lengths", "seq_lengths", "seq_lens", "traj_lengths")
MASKS = ("mask", "masks", "valid", "valids", "attention_mask")
ACTION_SPACE = "off2on_action_space"
"""Text in a dump of d3rlpy 2 that off2on exported: the action space as `nested_to_json` converts it."""
ENDS = ("terminals", "timeouts")
_COLUMNS = ("observations", "actions", "rewards")


class EpisodeFile(ABC):
    """An open file whose episodes are read by number.

    Attributes:
        count: Number of episodes.
        obs_shape: Shape of an observation.
        action_shape: Shape of an action.
        rows: Number of rows of the first episode, or of all if they are padded.
        action_space: Gymnasium space of the actions; None if the file does not tell.
    """

    count: int
    obs_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    rows: int
    action_space: Any = None

    @abstractmethod
    def read(self, number: int) -> Episode:
        """Read an episode."""


def open_layout(file: Hdf5File) -> EpisodeFile | None:
    """Return the reader of a file that is laid out by episode; None if it has one row a step."""
    if "observations" not in file and "num_episodes" in file:
        return D3rlpyFile(file)
    columns = file.columns(_COLUMNS)
    if len(columns) < len(_COLUMNS):
        return None
    heads = {column.shape[:2] for column in columns.values()}
    is_padded = len(heads) == 1 and len(columns["rewards"].shape) == 2 and columns["rewards"].shape[1] > 1
    return PaddedFile(file, columns) if is_padded and len(columns["observations"].shape) > 2 else None


class D3rlpyFile(EpisodeFile):
    """A dump of a d3rlpy 2 replay buffer: `observations_0`, `actions_0`, `rewards_0`, `terminated_0`, ….

    An episode that is not terminated was cut off; what its last action led to is not in the file.
    """

    def __init__(self, file: Hdf5File) -> None:
        self._file, self._what = file, f"{file.path} is a dump of d3rlpy 2"
        count = self._scalar("num_episodes")
        if not count >= 1 or count % 1 or f"actions_{count - 1:.0f}" not in file:
            raise Corrupt(f"{self._what} of {count:g} episodes, but holds others.")
        self.count = int(count)
        first = self._columns(0)
        self.obs_shape, self.rows = first["observations"].shape[1:], first["actions"].shape[0]
        self.action_shape = first["actions"].shape[1:]
        self.action_space = self._action_space()

    def _action_space(self) -> Any:
        """Return the action space that `export_d3rlpy` wrote beside d3rlpy's columns, or None."""
        from gymnasium.spaces import Box, Discrete

        if ACTION_SPACE not in self._file:
            return None
        column = self._file.column(ACTION_SPACE)
        if column.shape != () or column.dtype.kind != "S":
            raise Corrupt(f"{column.name} is {column.dtype} {list(column.shape)}.", "Expected: a text.")
        space = nested_from_json(parse_json(column.value(), dict[str, Any], column.name))
        is_box = isinstance(space, Box) and space.shape == self.action_shape
        if not is_box and not isinstance(space, Discrete):
            raise Corrupt(f"{column.name} is {space}.", f"Expected: that of actions of {self.action_shape}.")
        return space

    def read(self, number: int) -> Episode:
        """Read an episode."""
        columns, end = self._columns(number), f"terminated_{number}"
        arrays = {name: column.read(0, column.shape[0]) for name, column in columns.items()}
        return Episode(
            arrays["observations"],
            arrays["actions"],
            arrays["rewards"],
            terminated=bool(to_flags(np.array([self._scalar(end)]), f"{self._file.path}: {end}")[0]),
            row=number,
        )

    def _columns(self, number: int) -> dict[str, Hdf5Column]:
        if f"observations_{number}_0" in self._file:
            raise BadValues(
                f"{self._what} with several observations a step.", "Concatenate them to one vector a step."
            )
        columns = {name: self._file.column(f"{name}_{number}") for name in _COLUMNS}
        rows = check_columns(columns, f"{self._file.path}: episode {number}", self._file.bytes)
        size = sum(row_bytes(column) for column in columns.values())
        check_episode_size(rows, size, self._file.path, number, self._file.bytes)
        return columns

    def _scalar(self, key: str) -> float:
        column = self._file.column(key)
        if column.shape not in ((), (1,)) or column.dtype.kind not in "fiub":
            raise BadValues(f"{column.name} is {column.dtype} {list(column.shape)}.", "Expected: one number.")
        return float(np.asarray(column.value()).item())


class PaddedFile(EpisodeFile):
    """Arrays [episodes, T, …] in which shorter episodes are padded; a column gives lengths or a mask.

    Raises:
        MissingColumn: There is no such column.
        BadValues: Lengths or mask are none; a shape is not that of such a column.
    """

    def __init__(self, file: Hdf5File, columns: dict[str, Hdf5Column]) -> None:
        self._columns = columns | file.columns((*ENDS, "next_observations"))
        self.count, self.rows = columns["rewards"].shape
        self.obs_shape = columns["observations"].shape[2:]
        self.action_shape = columns["actions"].shape[2:]
        self._where, head = str(file.path), (self.count, self.rows)
        check_sizes(
            {k: c for k, c in self._columns.items() if row_bytes(c) < file.bytes}, file.path, file.bytes
        )
        if "terminals" not in self._columns:
            raise MissingColumn(f"{file.path} has no 'terminals'.", f"There are: {' '.join(file.names())}")
        for name, column in self._columns.items():
            ends = name in ENDS
            kind = ColumnKind.FLAGS if ends else ColumnKind.EXTRAS
            per_row = column.shape[:2] == head
            check_column(kind, column.name, column.shape[1:] if per_row else column.shape, column.dtype)
            if not per_row and not (ends and column.shape[0] == self.count):
                raise BadValues(
                    f"{column.name} has shape {list(column.shape)}.", f"Expected: {[*head, '…']}."
                )
            if name == "next_observations" and column.shape != columns["observations"].shape:
                raise BadValues(
                    f"{column.name} has shape {list(column.shape)}.",
                    f"Expected: that of the observations, {list(columns['observations'].shape)}.",
                )
        check_episode_size(
            self.rows,
            sum(row_bytes(column) for column in self._columns.values()) // self.rows,
            file.path,
            0,
            file.bytes,
        )
        self._lengths = self._read_lengths(file)

    def read(self, number: int) -> Episode:
        """Read an episode; its `next_observations` are the column `new_obs`."""
        stop = int(self._lengths[number])
        arrays = {name: column.read(number, number + 1)[0] for name, column in self._columns.items()}
        obs, extras = arrays["observations"][:stop], {}
        if "next_observations" in arrays:
            extras["new_obs"] = arrays["next_observations"][:stop]
            obs = np.concatenate([obs, extras["new_obs"][-1:]])
        ends = {name: self._end(name, arrays[name], stop, number) for name in ENDS if name in arrays}
        return Episode(
            obs,
            arrays["actions"][:stop],
            arrays["rewards"][:stop],
            terminated=ends["terminals"],
            extras=extras,
            row=number * self.rows,
        )

    def _end(self, name: str, values: Array, stop: int, number: int) -> bool:
        flags = to_flags(np.atleast_1d(values)[:stop], f"{self._columns[name].name}, episode {number}")
        if flags[:-1].any():
            raise BadValues(
                f"{self._columns[name].name}: episode {number} goes on after step {int(np.argmax(flags))}.",
                "Expected: an end in the last step, or none.",
            )
        return bool(flags[-1])

    def _read_lengths(self, file: Hdf5File) -> Array:
        """Return the number of steps of each episode [E]."""
        for name, column in file.columns((*LENGTHS, *MASKS)).items():
            head = (self.count,) if name in LENGTHS else (self.count, self.rows)
            if column.shape[:2] != head or column.dtype.kind not in "fiub":
                continue
            values = column.read(0, self.count)
            if name in MASKS:
                mask = to_flags(values.reshape(-1), column.name).reshape(head)
                values = mask.sum(axis=1)
                if (mask != (np.arange(self.rows) < values[:, None])).any():
                    raise BadValues(f"{column.name} has gaps.", "Expected: 1 for the first steps, then 0.")
            if not ((values >= 1) & (values <= self.rows) & (values == np.floor(values))).all():
                raise BadValues(f"{column.name} holds lengths other than 1 to {self.rows}.")
            return values.astype(np.int64)
        raise MissingColumn(
            f"{file.path} holds padded sequences: rewards {[self.count, self.rows]}, observations"
            f" {[self.count, self.rows, *self.obs_shape]}.",
            f"Expected: a column of their lengths [{self.count}] ({', '.join(LENGTHS[:3])}) or a mask"
            f" {[self.count, self.rows]} ({', '.join(MASKS[:3])}); or one row a step, without padding.",
        )
