"""Scenes: data with which a simulator replays episodes, stored next to the shards, one Parquet row each.

A scene is a name and arrays of any shape, for example the roads and the recorded tracks of a driving
scenario. Several episodes may share a scene. Each scene is one row group, so that it can be read separately.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, UnknownName
from datasets_io.shards.generations import parse_generations, restrict
from datasets_io.shards.manifest import MANIFEST_FILE, Manifest
from datasets_io.storage import Place
from datasets_io.storage.parquet import open_parquet

SCENES_FOLDER = "scenes"
_SHAPE = ".shape"


class SceneWriter:
    """Writer of scenes into one file.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: pq.ParquetWriter | None = None
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write a scene, unless a scene with this name has been written.

        Args:
            name: Id of the scene.
            arrays: Arrays of numbers; names and types are the same in every scene, shapes may differ.

        Raises:
            BadValues: The names or types of the arrays differ from those of the earlier scenes.
        """
        if name in self._seen:
            return
        self._seen.add(name)
        columns: dict[str, pa.Array] = {"id": pa.array([name])}
        for key, values in arrays.items():
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns[key] = pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)
            columns[key + _SHAPE] = pa.array([list(values.shape)], pa.list_(pa.int32()))
        table = pa.table(columns)
        if self._file is None:
            self.path.parent.mkdir(exist_ok=True)
            self._file = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        if table.schema != self._file.schema:
            raise BadValues(
                f"the arrays of scene {name} differ from those of the scenes before it.",
                "All scenes of a data set have arrays of the same names and types.",
            )
        self._file.write_table(table)

    def close(self) -> None:
        """Close the file; without a scene no file is written."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Scenes:
    """Reader of the scenes of a data set.

    Args:
        folder: Folder of scene files; `…/scenes@0-1`: those of generations 0 to 1 of the data set.

    Raises:
        UnknownName: The folder contains no scene.
        Corrupt: The manifest cannot be read.
    """

    def __init__(self, folder: str | Place) -> None:
        self._where: dict[str, tuple[str, int]] = {}
        for file in _scene_files(folder):
            with _open(file) as parquet:
                names = parquet.read(["id"])["id"].to_pylist()
            self._where |= {name: (file, row) for row, name in enumerate(names)}
        if not self._where:
            raise UnknownName(
                f"{folder} contains no scene.", "Data sets of driving scenarios contain scenes."
            )

    def __len__(self) -> int:
        return len(self._where)

    @property
    def ids(self) -> list[str]:
        """Return the names of the scenes, in the order in which they were written."""
        return list(self._where)

    def read(self, name: str) -> dict[str, Array]:
        """Read the arrays of a scene.

        Raises:
            UnknownName: There is no such scene.
        """
        if name not in self._where:
            raise UnknownName(
                f"there is no scene {name!r}.", f"There are {len(self)}.", given=name, known=self._where
            )
        file, row = self._where[name]
        with _open(file) as parquet:
            table = parquet.read_row_group(row)
        arrays: dict[str, Any] = {}
        for key in table.column_names:
            if key != "id" and not key.endswith(_SHAPE):
                shape = table[key + _SHAPE][0].as_py()
                arrays[key] = (
                    table[key].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(shape)
                )
        return arrays


def open_scenes(folder: str) -> Scenes:
    """Return the reader of a folder, in one process the same one until the folder changes.

    Finding the scenes opens every file, and an evaluation makes an environment per episode.

    Args:
        folder: As for `Scenes`.

    Raises:
        UnknownName: The folder does not exist, or contains no scene.
        Corrupt: The manifest cannot be read.
    """
    wanted = parse_generations(folder)
    # Files of a generation never change, and the manifest lists them.
    changes = folder if wanted is None else storage.locate(wanted.name).parent / MANIFEST_FILE
    return _opened(str(storage.absolute(folder)), tuple(storage.versions(changes)))


@lru_cache(4)
def _opened(folder: str, _versions: tuple[tuple[str, int, int], ...]) -> Scenes:
    return Scenes(folder)


def _scene_files(folder: str | Place) -> list[str]:
    wanted = parse_generations(str(folder))
    if wanted is None:
        return storage.list_files(folder, [".parquet"])
    folder = storage.locate(wanted.name)
    manifest = restrict(Manifest.read(folder.parent), wanted)
    return [str(folder / file["name"]) for file in manifest.scene_files]


def _open(file: str) -> Any:
    system, path = storage.filesystem(file)
    return open_parquet(path, file, filesystem=system)
