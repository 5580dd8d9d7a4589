"""Read D4RL's HDF5 layout: one row per step, episodes cut by `terminals` and `timeouts`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from datasets_io import storage
from datasets_io.environments import Spaces, spaces_of
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.registry import infer
from datasets_io.source import Source
from datasets_io.storage import Place

_REQUIRED = ("observations", "actions", "rewards", "terminals")
_BLOCK = 32_768  # rows read at once: whole HDF5 chunks, yet a few megabytes


class RowRange(NamedTuple):
    """Range of rows of whole episodes in a file, from start to stop (exclusive)."""

    path: str
    start: int
    stop: int


class D4RL(Source):
    """A D4RL HDF5 file.

    Args:
        env: Gymnasium id; None takes it from the data set's name, if observations and actions fit.
        name: The data set's name, from which the environment is known; None: the file's.
        keep_next_obs: Store the file's `next_observations` as `new_obs` instead of deriving it from the
            following row; for files whose rows are not consecutive.
    """

    def __init__(self, env: str | None = None, name: str | None = None, keep_next_obs: bool = False) -> None:
        self.env, self.name, self.keep_next_obs = env, name, keep_next_obs

    def parts(self, path: Any) -> list[RowRange]:
        """Return ranges of whole episodes of about `rows_per_shard` rows.

        Raises:
            UnknownName: The file does not exist.
            Corrupt: The file is not HDF5, or truncated.
            MissingColumn: A key is missing.
            BadValues: Columns have different lengths.
        """
        path = storage.absolute(path)  # a worker may have another current folder
        with _open(path) as file:
            rows = self._check(file, path)
            self._spaces(file, path)
            ends, _ = self._ends(file, 0, rows, whole_file=True)
        starts = np.concatenate([[0], ends[:-1]])
        # The first start at or after each multiple of rows_per_shard begins a part.
        marks = np.arange(0, starts[-1] + 1, self.rows_per_shard)
        firsts = np.unique(starts[np.searchsorted(starts, marks)])
        return [RowRange(str(path), int(a), int(b)) for a, b in zip(firsts, [*firsts[1:], rows], strict=True)]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Read a part block by block, each a few whole episodes."""
        path, start, stop = part
        with _open(storage.locate(path)) as file:
            ends, terminal = self._ends(file, start, stop)
            block: list[tuple[int, int, bool]] = []
            for begin, end, is_terminal in zip([start, *ends[:-1]], ends, terminal, strict=True):
                block.append((int(begin), int(end), bool(is_terminal)))
                if end - block[0][0] >= _BLOCK or end == stop:
                    try:
                        episodes = self._read(file, block)
                    except OSError as error:
                        raise Corrupt(f"{path} cannot be read at row {block[0][0]:,}.", f"{error}") from None
                    yield from episodes
                    block = []

    def _read(self, file: Any, block: list[tuple[int, int, bool]]) -> list[Episode]:
        first, stop = block[0][0], block[-1][1]
        obs, actions = file["observations"][first:stop], file["actions"][first:stop]
        rewards = file["rewards"][first:stop].reshape(-1)
        following = file["next_observations"][first:stop] if "next_observations" in file else None
        extras = {}
        if "infos/action_log_probs" in file:
            extras["action_logp"] = file["infos/action_log_probs"][first:stop].reshape(-1)
        if following is not None and self.keep_next_obs:
            extras["new_obs"] = following
        elif following is not None:
            self._compare(obs, following, block)
        episodes = []
        for begin, end, terminal in block:
            rows = slice(begin - first, end - first)
            final = following[end - first - 1][None] if following is not None else obs[:0]
            episodes.append(
                Episode(
                    np.concatenate([obs[rows], final]),
                    actions[rows],
                    rewards[rows],
                    terminated=terminal,
                    extras={name: values[rows] for name, values in extras.items()},
                    row=begin,
                )
            )
        return episodes

    def _compare(self, obs: Array, following: Array, block: list[tuple[int, int, bool]]) -> None:
        """Report rows with a next observation that differs from the following row of the episode."""
        inside = np.ones(len(obs), bool)
        inside[[end - block[0][0] - 1 for _, end, _ in block]] = False
        differ = np.zeros(len(obs), bool)
        differ[:-1] = _differ(following[:-1], obs[1:]) & inside[:-1]
        if differ.any():
            self.note(
                "next_obs",
                "next_observations",
                "rows are not what the following row observed; the following row was believed"
                " (keep_next_obs believes the file)",
                count=int(differ.sum()),
                first_row=block[0][0] + int(np.argmax(differ)),
                # A few differences are rounding; many mean that rows are not consecutive.
                refused=bool(differ.sum() > 0.01 * len(obs)),
            )

    def _ends(self, file: Any, start: int, stop: int, whole_file: bool = False) -> tuple[Array, Array]:
        """Return the ends (exclusive) of the episodes of rows start … stop, and whether each is terminal."""
        terminal = file["terminals"][start:stop].reshape(-1).astype(bool)
        if "timeouts" in file:
            timeout = file["timeouts"][start:stop].reshape(-1).astype(bool)
            both = terminal & timeout
            if both.any() and not whole_file:
                self.note(
                    "both_ends",
                    "terminals",
                    "rows are also `timeouts`; the terminal was believed",
                    count=int(both.sum()),
                    first_row=start + int(np.argmax(both)),
                )
        else:
            timeout = self._jumps(file, start, stop)
            if whole_file:
                cut = int((timeout & ~terminal).sum())
                found = f", and at {cut:,} rows that the following row does not continue" if cut else ""
                self.note("no_timeouts", "timeouts", f"are missing: episodes end at terminals only{found}")
        ends = np.flatnonzero(terminal | timeout) + 1 + start
        if not len(ends) or ends[-1] != stop:  # the file stops in the middle of an episode
            ends = np.append(ends, stop)
        return ends, terminal[ends - start - 1]

    def _jumps(self, file: Any, start: int, stop: int) -> Array:
        """Return a mask [stop-start] of rows before a jump in observations (no timeouts)."""
        jumps = np.zeros(stop - start, bool)
        if "next_observations" not in file or self.keep_next_obs:
            return jumps
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop, len(file["observations"]) - 1)
            following, obs = file["next_observations"][first:last], file["observations"][first + 1 : last + 1]
            jumps[first - start : last - start] = _differ(following, obs)
        return jumps

    def _check(self, file: Any, path: Place) -> int:
        """Return the number of rows, after checking that the keys exist and have equally many."""
        there: list[str] = []
        file.visititems(lambda name, item: there.append(name) if isinstance(item, h5py.Dataset) else None)
        for key in _REQUIRED:
            if key not in file:
                raise MissingColumn(f"{path} has no {key!r}.", f"There are: {' '.join(sorted(there))}")
        rows = len(file["observations"])
        used = [*_REQUIRED, "timeouts", "next_observations", "infos/action_log_probs"]
        lengths = {key: len(file[key]) for key in used if key in file}
        if len(set(lengths.values())) > 1 or rows == 0:
            listed = ", ".join(f"{key} {length:,}" for key, length in lengths.items())
            raise BadValues(f"{path}: columns of different lengths, or none.", listed)
        return rows

    def _spaces(self, file: Any, path: Place) -> None:
        """Set environment and spaces: the environment's if it can be made, else D4RL's [-1, 1]."""
        from gymnasium.spaces import Box

        widths = file["observations"].shape[1:], file["actions"].shape[1:]
        if self.env is None:
            self._infer(self.name or path.stem, widths)
        elif not (spaces := spaces_of(self.env)).error:
            self.observation_space, self.action_space = spaces.observation, spaces.action
            if (mismatch := _mismatch(spaces, widths)) is not None:
                raise BadValues(f"{self.env} is not the environment of these data.", f"{mismatch}.")
        if self.action_space is None and file["actions"].dtype.kind == "f":
            self.action_space = Box(-1, 1, widths[1] or (1,))

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


def _mismatch(spaces: Spaces, widths: Any) -> str | None:
    shapes = spaces.observation.shape, spaces.action.shape
    if shapes == widths:
        return None
    return f"it has observations {shapes[0]} and actions {shapes[1]}, the data {widths[0]} and {widths[1]}"


def _differ(one: Array, other: Array) -> Array:
    """Return a mask [N] of rows in which two arrays [N, …] differ; NaN (a fault of its own) is ignored."""
    unequal: Array = (one != other) & np.isfinite(one) & np.isfinite(other)
    rows: Array = np.logical_or.reduce(unequal, axis=tuple(range(1, unequal.ndim)))
    return rows


def _open(path: Place) -> Any:
    if not storage.is_file(path):
        raise UnknownName(f"there is no file {path}.", f"Looked in {storage.absolute(path).parent}.")
    try:
        return h5py.File(path if isinstance(path, Path) else storage.open_input(path), "r")
    except OSError as error:
        raise Corrupt(f"{path} cannot be read as HDF5.", f"{error}") from None
