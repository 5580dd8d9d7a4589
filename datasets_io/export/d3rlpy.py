"""Export shards as a file of d3rlpy 2, which its `ReplayBuffer.load` reads; d3rlpy is not needed."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from datasets_io.errors import Exists, UserError
from datasets_io.export.episodes import ExportedEpisode, read_episodes
from datasets_io.shards.reading import Shards
from datasets_io.sources.episode_files import ACTION_SPACE
from datasets_io.storage import publish, temporary_path_for
from datasets_io.storage.errors import convert_full_disk
from datasets_io.storage.nested_spaces import nested_to_json
from datasets_io.storage.writable import check_writable

SUFFIXES = (".h5", ".hdf5")
COLUMNS = ("observations", "actions", "rewards", "terminated")
FORMAT = "2.1"
"""Version of the layout, d3rlpy's `DATASET_VERSION`."""


def export_d3rlpy(shards: Shards, path: Path, progress: Callable[[int], None] | None = None) -> Path:
    """Write a data set as one HDF5 file in the layout of d3rlpy's `ReplayBuffer.dump`.

    d3rlpy keeps no observation after the last action of an episode: it makes T transitions of T steps that
    end terminated, and T - 1 of others. Therefore an episode that was cut off gets one step more, with the
    last observation, the last action again and a reward of 0, and no transition is lost. Columns
    beyond d3rlpy's are left out. `D4RL`, the source, gives the same rows back, but for the observation after
    a terminal step, and the same action space, of which d3rlpy's format has none: it is kept as a text.

    Args:
        shards: Data set to export.
        path: The new file; its name ends in .h5 or .hdf5.
        progress: Called with the number of rows written so far.

    Returns:
        The path.

    Raises:
        Exists: The file exists.
        UserError: It has another suffix, or the system refuses its folder.
        BadValues: The rows do not follow each other, which d3rlpy cannot express.
        NoSpace: The disk is full.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no name for a file of d3rlpy.", f"It ends in {' or '.join(SUFFIXES)}.")
    if path.exists():
        other = path.with_name(f"{path.stem}-2{path.suffix}")
        raise Exists(f"{path} exists.", "", f"off2on data export {shards.name} {other}")
    check_writable(path.parent, str(path))
    scratch = temporary_path_for(path)
    try:
        with convert_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(scratch, "w") as file:
                _write(file, shards, progress)
        publish(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def _write(file: h5py.File, shards: Shards, progress: Callable[[int], None] | None) -> None:
    number = rows = 0
    for piece in shards.pieces:
        for episode in read_episodes(shards, piece):
            _write_episode(file, number, episode)
            number += 1
            rows += len(episode.columns["rewards"])
        if progress is not None:
            progress(rows)
    file["columns"] = [*COLUMNS]
    file["num_episodes"] = number
    file["version"] = FORMAT
    file[ACTION_SPACE] = np.bytes_(json.dumps(nested_to_json(shards.action_space)))


def _write_episode(file: h5py.File, number: int, episode: ExportedEpisode) -> None:
    actions, rewards = episode.columns["actions"], episode.columns["rewards"]
    terminated = bool(episode.columns["terminateds"][-1])
    obs = episode.obs[:-1]
    if not terminated:
        obs = episode.obs
        actions = np.concatenate([actions, actions[-1:]])
        rewards = np.append(rewards, np.float32(0))
    if actions.ndim == 1:  # choices, of which d3rlpy expects a column
        actions = actions[:, None].astype(np.int32)
    values = (obs, actions, rewards[:, None].astype(np.float32), terminated)
    for name, value in zip(COLUMNS, values, strict=True):
        file[f"{name}_{number}"] = value
