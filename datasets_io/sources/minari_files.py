"""Read the episodes of a data set of Minari, after a check of what its files declare."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets_io.errors import Corrupt
from datasets_io.sources.hdf5 import CHUNK_BYTES
from datasets_io.sources.minari_metadata import Metadata, convert_errors
from datasets_io.storage.parquet import check_no_objects, open_parquet

HDF5_FILE = "main_data.hdf5"
MOST_BYTES = 2**30
"""Bytes of an episode beyond the size of its file, at most."""


def read_episodes(
    folder: Path, metadata: Metadata, spaces: tuple[Any, Any], numbers: range
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the columns of episodes, as Minari gives them.

    Args:
        folder: Folder `data` of the data set.
        metadata: Its metadata.
        spaces: Observation and action space, in which the files are decoded.
        numbers: Episodes to read.

    Raises:
        Corrupt: A file is damaged, or an episode has not the steps that its metadata declare.
    """
    from minari.dataset._storages import get_minari_storage

    _check_no_objects(folder, numbers)
    with convert_errors(folder):
        kind = get_minari_storage(metadata.data_format)
        data = kind(folder, *spaces, jpeg_encoding=metadata.jpeg_encoding)
        steps = [int(about["total_steps"]) for about in data.get_episode_metadata(numbers)]
        if metadata.data_format == "hdf5":
            with h5py.File(folder / HDF5_FILE, "r") as file:
                for number in numbers:
                    _check_group(folder, file, f"episode_{number}")
        episodes = iter(data.get_episodes(numbers))
    for number, declared in zip(numbers, steps, strict=True):
        with convert_errors(f"episode {number} in {folder}"):
            episode = next(episodes, None)
            if episode is None:
                raise Corrupt(f"episode {number} is missing in {folder}.")
            lengths = {name: np.shape(episode[name]) for name in ("rewards", "terminations", "truncations")}
        for name, shape in lengths.items():
            if shape not in ((declared,), (declared, 1)):
                raise Corrupt(
                    f"episode {number} in {folder} has {name} of shape {list(shape)}.",
                    f"Expected: {declared:,} steps, as in its metadata.",
                )
        yield number, episode


def check_count(folder: Path, metadata: Metadata) -> None:
    """Check that there are as many episodes as the metadata declare.

    Raises:
        Corrupt: There are fewer.
    """
    with convert_errors(folder):
        if metadata.data_format == "hdf5":
            with h5py.File(folder / HDF5_FILE, "r") as file:
                found = len(file)
        else:
            found = sum(entry.is_dir() for entry in folder.iterdir())
    if found < metadata.total_episodes:
        raise Corrupt(
            f"{folder} declares {metadata.total_episodes:,} episodes.", f"Its files hold {found:,}."
        )


def observation_space(folder: Path, metadata: Metadata) -> Any:
    """Return an observation space as the first episode has it, if the metadata have none.

    Raises:
        Corrupt: The format gives no shapes, or there is no such episode.
    """
    if metadata.data_format != "hdf5":
        raise Corrupt(
            f"{folder} stores no spaces.",
            "Expected: observation_space and action_space in metadata.json, as Minari writes them.",
        )
    with convert_errors(folder), h5py.File(folder / HDF5_FILE, "r") as file:
        _check_group(folder, file, "episode_0")
        return _space(file["episode_0"]["observations"])


def _space(item: Any) -> Any:
    from gymnasium.spaces import Box, Dict, Tuple

    if isinstance(item, h5py.Dataset):
        low, high = (-np.inf, np.inf) if item.dtype.kind == "f" else _range(item.dtype)
        return Box(low, high, item.shape[1:], item.dtype.type)
    parts = {name: _space(item[name]) for name in item}
    if set(parts) == {f"_index_{number}" for number in range(len(parts))}:
        return Tuple([parts[f"_index_{number}"] for number in range(len(parts))])
    return Dict(parts)


def _range(dtype: Any) -> tuple[int, int]:
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _check_group(folder: Path, file: Any, name: str) -> None:
    """Check that an episode is in the file itself and fits into memory, before it is read.

    Raises:
        Corrupt: It has links, values in other files, or is too large.
    """
    todo, size = [(file, name)], 0
    while todo:
        group, key = todo.pop()
        where = f"{folder / HDF5_FILE}: {group.name.rstrip('/')}/{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise Corrupt(f"{where} is missing or a link.", "Expected: data in the file itself.")
        item = group[key]
        if isinstance(item, h5py.Group):
            todo += [(item, part) for part in item]
            continue
        if item.is_virtual or item.external:
            raise Corrupt(f"{where} has its values in other files.", "Expected: data in the file itself.")
        chunk = int(np.prod(item.chunks or (), dtype=object)) * item.dtype.itemsize
        size += item.nbytes
        most = MOST_BYTES + (folder / HDF5_FILE).stat().st_size
        if chunk > CHUNK_BYTES or size > most:
            raise Corrupt(
                f"{where} declares {max(chunk, size):,} bytes for one chunk or episode.",
                f"Expected: at most {CHUNK_BYTES:,} for a chunk and {most:,} for an episode.",
            )


def _check_no_objects(folder: Path, numbers: Iterable[int]) -> None:
    """Check that no column of these episodes holds Python objects; HDF5 files cannot hold any.

    Raises:
        Corrupt: A column holds objects.
    """
    import pyarrow as pa

    for path in (path for number in numbers for path in (folder / str(number)).glob("*.*")):
        if path.suffix == ".parquet":
            open_parquet(path, path).close()
        elif path.suffix == ".arrow":
            with convert_errors(folder), pa.ipc.open_file(path) as file:
                schema = file.schema
            check_no_objects(schema, path)
