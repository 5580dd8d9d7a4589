"""Read OGBench's .npz files (arXiv:2410.20092): states in order; `terminals` marks ends of trajectories.

Three layouts are distinguished by their keys (`ogbench.utils.load_dataset` documents them):

- as downloaded: the last row of a trajectory is its last state, whose action leads nowhere;
- compact (`valids`): the same, with the last two rows marked in `terminals` and the last one invalid;
- regular (`next_observations`): that last row is missing, and every row has its next observation.

None of these ends is a terminal state of the task.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from datasets_io import environments, storage
from datasets_io.episode import Array, Episode
from datasets_io.errors import MissingColumn, UnknownName, UserError
from datasets_io.source import Source
from datasets_io.sources.column_checks import (
    BLOCK_ROWS,
    block_rows,
    check_columns,
    check_episode_size,
    row_bytes,
    to_flags,
)
from datasets_io.sources.npz import NpzColumn, open_npz

_REQUIRED = ("observations", "actions", "terminals")
_OPTIONAL = ("next_observations", "valids", "rewards", "masks", "timeouts")
_FLAGS = ("terminals", "valids", "masks", "timeouts")
_STATE = ("qpos", "button_states")  # of the simulator: ogbench computes the rewards of a task from these
_LISTED = 40
_TYPES = ("navigate", "stitch", "explore", "play", "noisy")
RewardFunction = Callable[[Mapping[str, Array]], tuple[Array, Array]]


class OGBench(Source):
    """A data set of OGBench.

    With a single task (`…-singletask-v0`, `…-singletask-task2-v0`) rewards are computed by OGBench from the
    states of the simulator in the file. Where a state fulfils the task, its transition is a terminated
    one and the trajectory goes on as the next episode, so that every transition has OGBench's reward and
    mask, and a trajectory that stays at the goal becomes many episodes of one step.

    Args:
        name: The data set's name, from which environment and task are known; None: the file's.
        env: Gymnasium id; None takes it from the name.
        val: Of a folder, read the validation files (`…-val.npz`) instead of the others.
        reward_free: Read data without rewards, all of them as 0, for imitation.
    """

    licence = "MIT"
    expects_one_step_episodes = True  # a trajectory that stays at the goal
    row_options = ("val",)

    def __init__(
        self, name: str | None = None, env: str | None = None, val: bool = False, reward_free: bool = False
    ) -> None:
        self.name, self.env, self.val, self.reward_free = name, env, val, reward_free

    def parts(self, path: Any) -> list[str]:
        """Return the file, or each file of a folder.

        Raises:
            UnknownName: The file or the task does not exist.
            Corrupt: The file is not an .npz file, or truncated.
            MissingColumn: A key is missing, or there are no rewards and no task.
            BadValues: Columns of different lengths; images.
        """
        if path is None:
            raise UserError("OGBench reads a file.", "", "off2on data add scene-play-singletask-v0 FILE.npz")
        path = storage.absolute(path)  # a worker may have another current folder
        files = [str(path)]
        if storage.is_folder(path):
            files = [
                file for file in storage.list_files(path, [".npz"]) if file.endswith("-val.npz") == self.val
            ]
            if not files:
                raise MissingColumn(f"{path} holds no {'…-val.npz' if self.val else '.npz'} file.")
        self.name = (self.name or path.stem).removesuffix("-val")
        env_id = environment(self.name)
        if self._single_task and env_id is None:
            raise UnknownName(
                f"{self.name} is no name of a single task.",
                "Such a name is ENVIRONMENT-TYPE-singletask-v0, or …-singletask-task2-v0; types:"
                f" {' '.join(_TYPES)}",
                "off2on data add scene-play-singletask-v0 FILE.npz",
            )
        if self.env is None and env_id is not None:
            self.env = f"ogbench:{env_id}"
        for file in files:
            self._check(file)
        return files

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Yield the episodes of a file, read in blocks of whole trajectories."""
        reward_function = self._reward_function()
        with open_npz(part) as file:
            columns = file.columns([*_REQUIRED, *(_STATE if self._single_task else ()), *_OPTIONAL])
            size = block_rows(sum(row_bytes(column) for column in columns.values()))
            buffered: dict[str, Array] = {}
            first, rows = 0, columns["terminals"].rows
            for start in range(0, rows, size):
                block = {name: _read(name, columns[name], min(size, rows - start), start) for name in columns}
                buffered = {
                    name: np.concatenate([buffered[name], block[name]]) if buffered else block[name]
                    for name in columns
                }
                ends = _ends(buffered)
                if start + size >= rows and (not len(ends) or ends[-1] != len(buffered["terminals"])):
                    ends = np.append(ends, len(buffered["terminals"]))
                if len(ends):
                    whole = {name: values[: ends[-1]] for name, values in buffered.items()}
                    yield from cut(whole, ends, first, *reward_function(whole))
                    buffered = {name: values[ends[-1] :] for name, values in buffered.items()}
                    first += int(ends[-1])

    @property
    def _single_task(self) -> bool:
        return "singletask" in (self.name or "").split("-")

    def _reward_function(self) -> RewardFunction:
        return reward_function(str(environment(str(self.name)))) if self._single_task else _recorded_rewards

    def _check(self, file: str) -> None:
        """Check that the keys exist and have equally many rows."""
        from gymnasium.spaces import Box

        with open_npz(file) as archive:
            needed = (*_REQUIRED, "qpos") if self._single_task else _REQUIRED
            if missing := [name for name in needed if name not in archive]:
                there = " ".join(archive.names[:_LISTED])
                raise MissingColumn(f"{file} has no {missing[0]!r}.", f"There are: {there}")
            if not (self._single_task or "rewards" in archive or self.reward_free):
                name = str(self.name)
                words = f"{_with_task(name)} {file}" if environment(name) else f"{file} reward_free=true"
                raise MissingColumn(
                    f"{file} has no 'rewards': it holds no task.",
                    "OGBench's names with `singletask` say which one; reward_free=true reads them all as 0.",
                    f"off2on data add {words}",
                )
            columns = archive.columns((*_REQUIRED, *_OPTIONAL, *(_STATE if self._single_task else ())))
            rows = check_columns(columns, file, archive.bytes)
            if "timeouts" in columns:
                self.note(
                    "ogbench", "timeouts", "end trajectories too; no end is a terminal state of the task"
                )
            size = sum(row_bytes(column) for column in columns.values())
            longest, first = _longest({name: columns[name] for name in _FLAGS if name in columns}, rows)
            check_episode_size(longest, size, file, first, archive.bytes)
            actions = columns["actions"]
            if actions.dtype.kind == "f":
                self.action_space = Box(-1, 1, actions.shape[1:] or (1,))


def cut(
    rows: Mapping[str, Array], ends: Array, first: int, rewards: Array, masks: Array
) -> Iterator[Episode]:
    """Cut trajectories into episodes, which end with the trajectory or where the task is solved.

    Args:
        rows: Columns of whole trajectories, named as in OGBench's files.
        ends: Ends (exclusive) of the trajectories.
        first: Number of the first row in the data, for messages.
        rewards: [N].
        masks: [N], 0 where the task is solved.
    """
    obs, actions = rows["observations"], rows["actions"]
    following = rows.get("next_observations")
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        seen = obs[begin:end]
        if following is not None:
            seen = np.concatenate([seen, following[end - 1 : end]])
        steps = len(seen) - 1
        stops = np.flatnonzero(masks[begin : begin + steps] == 0) + 1
        if steps and (not len(stops) or stops[-1] != steps):
            stops = np.append(stops, steps)
        for start, stop in zip([0, *stops[:-1]], stops, strict=False):
            part = slice(begin + start, begin + stop)
            yield Episode(
                seen[start : stop + 1],
                actions[part],
                rewards[part],
                terminated=masks[begin + stop - 1] == 0,
                row=int(first + begin + start),
            )


def reward_function(task: str) -> RewardFunction:
    """Return a function from rows to rewards and masks [N]; the mask is 0 where the task is solved.

    Args:
        task: Environment of a single task in ogbench, `cube-single-singletask-task1-v0`.

    Raises:
        UserError: ogbench is not installed.
    """
    import gymnasium as gym

    try:
        env = environments.make(f"ogbench:{task}")
    except gym.error.Error as error:
        raise UserError(
            f"the rewards are computed by ogbench's {task}: {error}.", "", "pip install 'off2on[ogbench]'"
        ) from None
    relabel = importlib.import_module("ogbench.relabel_utils").relabel_dataset

    def compute(rows: Mapping[str, Array]) -> tuple[Array, Array]:
        states = {name: rows[name] for name in _STATE if name in rows}
        relabel(task, env, states)
        return states["rewards"], states["masks"]

    return compute


def environment(name: str) -> str | None:
    """Return OGBench's environment of a data set, `scene-v0` of `scene-play-v0`; None for other names.

    Args:
        name: With or without a single task: `pointmaze-medium-navigate-singletask-task2-v0`.
    """
    words = name.split("-")
    task = words.index("singletask") if "singletask" in words else len(words) - 1
    if task < 2 or words[task - 1] not in _TYPES or not re.fullmatch(r"v\d+", words[-1]):
        return None
    return "-".join(words[: task - 1] + words[task:])


def _with_task(name: str) -> str:
    head, _, version = name.rpartition("-")
    return f"{head}-singletask-{version}"


def _read(name: str, column: NpzColumn, rows: int, first_row: int) -> Array:
    values = column.read(rows)
    return to_flags(values, column.name, first_row) if name in _FLAGS else values


def _ends(buffered: Mapping[str, Array]) -> Array:
    """Return the ends (exclusive) of the trajectories."""
    last = ~buffered["valids"] if "valids" in buffered else buffered["terminals"]
    if "timeouts" in buffered:
        last = last | buffered["timeouts"]
    ends: Array = np.flatnonzero(last) + 1
    return ends


def _longest(flags: Mapping[str, NpzColumn], rows: int) -> tuple[int, int]:
    """Return the length and the first row of the longest trajectory, reading only the flags."""
    longest = first = begin = 0
    for start in range(0, rows, BLOCK_ROWS):
        block = {name: _read(name, flags[name], min(BLOCK_ROWS, rows - start), start) for name in flags}
        ends = _ends(block) + start
        if start + BLOCK_ROWS >= rows:
            ends = np.append(ends, rows)
        for end in ends:
            if end - begin > longest:
                longest, first = int(end - begin), begin
            begin = int(end)
    return longest, first


def _recorded_rewards(rows: Mapping[str, Array]) -> tuple[Array, Array]:
    count = len(rows["terminals"])
    return rows.get("rewards", np.zeros(count, np.float32)), rows.get("masks", np.ones(count, np.float32))
