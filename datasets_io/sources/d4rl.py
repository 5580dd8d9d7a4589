"""Read D4RL's HDF5 layout: one row per step, episodes cut by `terminals` and `timeouts`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from datasets_io import storage
from datasets_io.environments import Spaces, spaces_of
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, MissingColumn
from datasets_io.registry import infer
from datasets_io.source import Source
from datasets_io.sources.column_checks import (
    block_rows,
    check_columns,
    check_episode_size,
    row_bytes,
    to_flags,
)
from datasets_io.sources.episode_files import open_layout
from datasets_io.sources.hdf5 import Hdf5Column, Hdf5File, open_hdf5
from datasets_io.sources.read_ahead import read_ahead

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_LOG_PROBS = "infos/action_log_probs"
_D3RLPY_ENDS = "episode_terminals"
_OPTIONAL = ("timeouts", _D3RLPY_ENDS, "next_observations", _LOG_PROBS)
_FLAG_ROWS = 2**20  # flags read at once


Block = list[tuple[int, int, bool]]
"""First row, last row (exclusive) and whether it is terminal, of each of some consecutive episodes."""


class RowRange(NamedTuple):
    """Range of rows of whole episodes in a file, or of episodes if it is laid out by episode."""

    path: str
    start: int
    stop: int  # exclusive


class D4RL(Source):
    """A D4RL HDF5 file.

    Files of d3rlpy are read too: version 1 marks ends in `episode_terminals`, version 2 has arrays for each
    episode; so are padded sequences [episodes, T, …] with a column of lengths or a mask.

    Args:
        env: Gymnasium id; None takes it from the data set's name, if observations and actions fit.
        name: The data set's name, from which the environment is known; None: the file's.
        keep_next_obs: Store the file's `next_observations` as `new_obs` instead of deriving it from the
            following row; for files whose rows are not consecutive.
    """

    row_options = ()

    def __init__(self, env: str | None = None, name: str | None = None, keep_next_obs: bool = False) -> None:
        self.env, self.name, self.keep_next_obs = env, name, keep_next_obs

    def parts(self, path: Any) -> list[RowRange]:
        """Return ranges of whole episodes of about `rows_per_shard` rows.

        Raises:
            UnknownName: The file does not exist.
            Corrupt: The file is not HDF5, or truncated, or declares more than it can hold.
            MissingColumn: A key is missing.
            BadValues: A column is not what it must be, or columns have different lengths.
        """
        path = storage.absolute(path)  # a worker may have another current folder
        with open_hdf5(path) as file:
            if self.keep_next_obs and "next_observations" not in file:
                raise MissingColumn(f"{path} has no 'next_observations', which keep_next_obs stores.")
            if (layout := open_layout(file)) is not None:
                self._spaces(layout.obs_shape, layout.action_shape, path.stem, layout.action_space)
                size, count = max(1, self.rows_per_shard // layout.rows), layout.count
                return [RowRange(str(path), a, min(a + size, count)) for a in range(0, count, size)]
            columns, rows = _columns(file)
            obs, actions = (columns[name] for name in _REQUIRED[:2])
            box = None if _D3RLPY_ENDS in columns else _d4rl_box(actions)
            self._spaces(obs.shape[1:], actions.shape[1:], path.stem, box)
            ends, _ = self._ends(columns, 0, rows, whole_file=True)
        starts = np.concatenate([[0], ends[:-1]])
        longest = int(np.argmax(ends - starts))
        size = sum(row_bytes(column) for column in columns.values())
        check_episode_size(int((ends - starts)[longest]), size, path, int(starts[longest]), file.bytes)
        # The first start at or after each multiple of rows_per_shard begins a part.
        marks = np.arange(0, starts[-1] + 1, self.rows_per_shard)
        firsts = np.unique(starts[np.searchsorted(starts, marks)])
        return [RowRange(str(path), int(a), int(b)) for a, b in zip(firsts, [*firsts[1:], rows], strict=True)]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Read a part block by block, each a few whole episodes."""
        path, start, stop = part
        with open_hdf5(storage.locate(path)) as file:
            if (layout := open_layout(file)) is not None:
                for number in range(start, stop):
                    yield self._with_choices(self._with_new_obs(layout.read(number)))
                return
            columns, _ = _columns(file)
            size = block_rows(sum(row_bytes(column) for column in columns.values()))
            blocks = _blocks(start, *self._ends(columns, start, stop), size)
            for block, values in read_ahead(partial(_read, columns), blocks):
                yield from map(self._with_choices, self._episodes(values, block))

    def _with_new_obs(self, episode: Episode) -> Episode:
        """Return an episode whose `new_obs` are stored, or were compared with the following rows."""
        if "new_obs" not in episode.extras or self.keep_next_obs:
            return episode
        row, steps = episode.row or 0, episode.length
        self._compare(episode.obs[:steps], episode.extras["new_obs"], [(row, row + steps, False)])
        return replace(episode, extras={})

    def _with_choices(self, episode: Episode) -> Episode:
        """Return whole numbers [T, 1] as choices [T], unless the environment's actions are vectors."""
        actions, space = episode.actions, self.action_space
        one_choice = actions.dtype.kind in "iub" and actions.shape[1:] == (1,)
        if one_choice and (space is None or hasattr(space, "n")):
            return replace(episode, actions=actions[:, 0])
        return episode

    def _episodes(self, values: Mapping[str, Array], block: Block) -> list[Episode]:
        first = block[0][0]
        obs, actions, rewards = (values[name] for name in _REQUIRED[:3])
        following = values.get("next_observations")
        extras = {"action_logp": values[_LOG_PROBS].reshape(-1)} if _LOG_PROBS in values else {}
        if following is not None and self.keep_next_obs:
            extras["new_obs"] = following
        elif following is not None:
            self._compare(obs, following, block)
        episodes = []
        for begin, end, terminal in block:
            rows = slice(begin - first, end - first)
            seen = obs[rows]
            if following is not None:
                seen = np.concatenate([seen, following[end - first - 1 : end - first]])
            episodes.append(
                Episode(
                    seen,
                    actions[rows],
                    rewards[rows],
                    terminated=terminal,
                    extras={name: values[rows] for name, values in extras.items()},
                    row=begin,
                )
            )
        return episodes

    def _compare(self, obs: Array, following: Array, block: Block) -> None:
        """Report rows with a next observation that differs from the following row of the episode."""
        inside = np.ones(len(obs), bool)
        inside[[end - block[0][0] - 1 for _, end, _ in block]] = False
        differ = np.zeros(len(obs), bool)
        differ[:-1] = _differ(following[:-1], obs[1:]) & inside[:-1]
        if differ.any():
            self.note(
                "next_obs",
                "next_observations",
                "rows are not what the following row observed; the following row was taken"
                " (keep_next_obs believes the file)",
                count=int(differ.sum()),
                first_row=block[0][0] + int(np.argmax(differ)),
            )

    def _ends(
        self, columns: Mapping[str, Hdf5Column], start: int, stop: int, whole_file: bool = False
    ) -> tuple[Array, Array]:
        """Return the ends (exclusive) of the episodes of rows start … stop, and whether each is terminal."""
        terminal = _flags(columns["terminals"], start, stop)
        marked = [name for name in ("timeouts", _D3RLPY_ENDS) if name in columns]
        if marked:
            timeout = np.logical_or.reduce([_flags(columns[name], start, stop) for name in marked])
            both = terminal & timeout
            if marked == [_D3RLPY_ENDS]:  # which marks every end
                timeout, both = timeout & ~terminal, np.zeros(1, bool)
                if whole_file:
                    self.note("d3rlpy", _D3RLPY_ENDS, "end episodes: a dump of d3rlpy 1")
            if both.any() and not whole_file:
                self.note(
                    "both_ends",
                    "terminals",
                    "rows are also `timeouts`; they are taken as terminal",
                    count=int(both.sum()),
                    first_row=start + int(np.argmax(both)),
                )
        else:
            timeout = self._jumps(columns, start, stop)
            if whole_file:
                cut = int((timeout & ~terminal).sum())
                found = f", and at {cut:,} rows that the following row does not continue" if cut else ""
                self.note("no_timeouts", "timeouts", f"are missing: episodes end at terminals only{found}")
        ends = np.flatnonzero(terminal | timeout) + 1 + start
        if not len(ends) or ends[-1] != stop:  # the file stops in the middle of an episode
            ends = np.append(ends, stop)
        return ends, terminal[ends - start - 1]

    def _jumps(self, columns: Mapping[str, Hdf5Column], start: int, stop: int) -> Array:
        """Return a mask [stop-start] of rows before a jump in observations (no timeouts)."""
        jumps = np.zeros(stop - start, bool)
        if "next_observations" not in columns or self.keep_next_obs:
            return jumps
        following, obs = columns["next_observations"], columns["observations"]
        size = block_rows(row_bytes(following) + row_bytes(obs))
        for first in range(start, stop, size):
            last = min(first + size, stop, obs.shape[0] - 1)
            differ = _differ(following.read(first, last), obs.read(first + 1, last + 1))
            jumps[first - start : last - start] = differ
        return jumps

    def _spaces(self, obs: Any, actions: Any, stem: str, default: Any) -> None:
        """Set environment and spaces: the environment's if it can be made, else this action space."""
        widths = (int(np.prod(obs)),) if len(obs) > 1 else obs, actions  # matrices are stored as vectors
        if self.env is None:
            self._infer(self.name or stem, widths)
        elif not (spaces := spaces_of(self.env, named=True)).error:
            self.observation_space, self.action_space = spaces.observation, spaces.action
            self.nested_observation_space = spaces.nested
            if (mismatch := _mismatch(spaces, widths)) is not None:
                raise BadValues(f"{self.env} is not the environment of these data.", f"{mismatch}.")
        if self.action_space is None:
            self.action_space = default

    def _infer(self, name: str, widths: Any) -> None:
        """Infer the environment from the data set's name, if the shapes fit."""
        from gymnasium.spaces import Box

        env_id = infer(name)
        if env_id is None:
            return
        spaces = spaces_of(env_id)
        mismatch = None if spaces.error else _mismatch(spaces, widths)
        if mismatch is not None:
            self.note("env", "", f"{env_id}, which the name {name!r} suggests, was not taken: {mismatch}")
            return
        self.env = env_id
        if spaces.error:
            self.observation_space = Box(-np.inf, np.inf, widths[0])
            checked = f"not compared with it, as it cannot be made here ({spaces.error})"
        else:
            self.observation_space, self.action_space = spaces.observation, spaces.action
            checked = "observations and actions fit"
        self.note("env", "", f"{env_id} was taken from the name {name!r}; {checked}")


def _d4rl_box(actions: Hdf5Column) -> Any:
    """Return the box of all of D4RL's continuous actions; those of d3rlpy and of others may be in any."""
    from gymnasium.spaces import Box

    return Box(-1, 1, actions.shape[1:] or (1,)) if actions.dtype.kind == "f" else None


def _mismatch(spaces: Spaces, widths: Any) -> str | None:
    shapes = spaces.observation.shape, spaces.action.shape
    if all((one or (1,)) == (other or (1,)) for one, other in zip(shapes, widths, strict=True)):
        return None
    return f"it has observations {shapes[0]} and actions {shapes[1]}, the data {widths[0]} and {widths[1]}"


def _differ(one: Array, other: Array) -> Array:
    """Return a mask [N] of rows in which two arrays [N, …] differ; NaN (a fault of its own) is ignored."""
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    unequal = np.flatnonzero(one != other)  # few, if the rows follow each other
    finite = np.isfinite(one.reshape(-1)[unequal]) & np.isfinite(other.reshape(-1)[unequal])
    rows = np.zeros(len(one), bool)
    rows[unequal[finite] // max(1, int(np.prod(one.shape[1:])))] = True
    return rows


def _columns(file: Hdf5File) -> tuple[dict[str, Hdf5Column], int]:
    """Return the columns of a file with one row a step, checked, and the number of rows."""
    columns = {key: file.column(key) for key in _REQUIRED} | file.columns(_OPTIONAL)
    return columns, check_columns(columns, file.path, file.bytes)


def _blocks(start: int, ends: Array, terminal: Array, size: int) -> Iterator[Block]:
    """Yield the episodes of rows `start` … in blocks of at least `size` rows, but for the last block."""
    block: Block = []
    for begin, end, is_terminal in zip([start, *ends[:-1]], ends, terminal, strict=True):
        block.append((int(begin), int(end), bool(is_terminal)))
        if end - block[0][0] >= size or end == ends[-1]:
            yield block
            block = []


def _read(columns: Mapping[str, Hdf5Column], block: Block) -> dict[str, Array]:
    """Read the columns of a block that become columns of episodes."""
    names = (*_REQUIRED[:3], "next_observations", _LOG_PROBS)
    return {name: columns[name].read(block[0][0], block[-1][1]) for name in names if name in columns}


def _flags(column: Hdf5Column, start: int, stop: int) -> Array:
    """Read flags [stop - start] bool, a block at a time."""
    flags = np.empty(stop - start, bool)
    for first in range(start, stop, _FLAG_ROWS):
        last = min(first + _FLAG_ROWS, stop)
        flags[first - start : last - start] = to_flags(column.read(first, last), column.name, first)
    return flags
