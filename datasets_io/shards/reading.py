"""Reading of data sets: `open_shards(name)` opens one; its columns, stored or derived, are read by name."""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.shards.again import damaged
from datasets_io.shards.columns import episode_ends, next_rows, to_numpy
from datasets_io.shards.generations import GenerationRange, parse_generations, restrict
from datasets_io.shards.manifest import MANIFEST_FILE, Manifest, space_from_json
from datasets_io.shards.manifest_checks import ListedFile, check_shard
from datasets_io.shards.pieces import Piece, list_pieces
from datasets_io.shards.returns import returns_to_go
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.source import hash_path
from datasets_io.storage import Place, locate
from datasets_io.storage.buckets import Location
from datasets_io.storage.errors import convert_errors
from datasets_io.storage.names import RULE, derive_name, is_valid_name
from datasets_io.storage.nested_spaces import nested_from_json
from datasets_io.storage.parquet import open_parquet
from datasets_io.storage.replacing import PARTIAL

DERIVED = ("new_obs", "last", "ret", "new_actions")


def data_root() -> Place:
    """Return the folder of data sets: $OFF2ON_DATA (a folder or s3://BUCKET/FOLDER), else ./data."""
    return locate(os.environ.get("OFF2ON_DATA") or "data")


class Shards:
    """A data set on a disk or in a bucket: Parquet files of whole episodes, and a manifest.

    Args:
        path: Folder of the data set.
        generations: Generations to open; None: all.

    Raises:
        Corrupt: The manifest cannot be read, or a shard is missing or differs from its listed size.
        Unreachable: The bucket does not answer, or denies access.
    """

    def __init__(self, path: Place, generations: GenerationRange | None = None) -> None:
        self.path = path
        self.manifest = Manifest.read(path)
        first = generations.first if generations is not None else 0
        if generations is not None:
            self.manifest = restrict(self.manifest, generations)
        last = first + len(self.manifest.generations) - 1
        self._generations = f"@{first}-{last}"
        self.pinned = f"{path}{self._generations}"
        """Name that opens exactly these generations, also after additions to the data set."""
        self.name = self.manifest.name
        self.folder = path / "shards"
        self.files = [self.folder / file["name"] for file in self.manifest.files]
        folders = {file.parent for file, _ in self._listed_files()}
        sizes = {folder: storage.sizes(folder) for folder in folders}
        for file, listed in self._listed_files():
            size = sizes[file.parent].get(file.name)
            if size != listed["bytes"]:
                raise damaged(file, size, listed, self.manifest)

    def _listed_files(self) -> Iterator[tuple[Place, ListedFile]]:
        """Yield every file of the data set and its entry in the manifest."""
        yield from zip(self.files, self.manifest.files, strict=True)
        yield from ((self.path / SCENES / file["name"], file) for file in self.manifest.scene_files)

    @cached_property
    def _listed_as(self) -> dict[Place, ListedFile]:
        return dict(self._listed_files())

    def __repr__(self) -> str:
        return f"Shards({str(self.path)!r}, rows={self.rows}, episodes={self.episodes})"

    @property
    def rows(self) -> int:
        """Return the number of transitions."""
        return self.manifest.rows

    @property
    def episodes(self) -> int:
        """Return the number of episodes."""
        return self.manifest.episodes

    @property
    def env_id(self) -> str | None:
        """Return the Gymnasium id of the environment, or None."""
        return self.manifest.env_id

    @property
    def env_options(self) -> dict[str, Any]:
        """Return the options for `environments.make`; with scenes, these include where the scenes are."""
        scenes = f"{storage.absolute(self.path / SCENES)}{self._generations}"
        return {**self.manifest.env_options, **({SCENES: scenes} if self.manifest.scene_files else {})}

    @property
    def returns(self) -> Array:
        """Return the undiscounted return of each episode [episodes], float64."""
        return np.asarray(self.manifest.returns, np.float64)

    @property
    def observation_space(self) -> Any:
        """Return the observation space, a Gymnasium Box or Discrete."""
        return space_from_json(self.manifest.observation_space)

    @property
    def nested_observation_space(self) -> Any:
        """Return the space whose flat form the observations have (see `flatten.unflatten_rows`), or None."""
        nested = self.manifest.nested_observation_space
        return None if nested is None else nested_from_json(nested)

    @property
    def action_space(self) -> Any:
        """Return the action space, a Gymnasium Box (bounds in raw units) or Discrete."""
        return space_from_json(self.manifest.action_space)

    @property
    def columns(self) -> list[str]:
        """Return the names of all columns that `read` accepts: stored ones, then derived ones."""
        stored = [name for name, _, _ in self.manifest.columns if name != "final_obs"]
        return stored + [name for name in DERIVED if name not in stored]

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest.

        Raises:
            Corrupt: The SHA-256 of a file differs.
        """
        for file, listed in self._listed_files():
            if hash_path(file) != listed["sha256"]:
                raise Corrupt(
                    f"{file} has changed since it was written.", "Its SHA-256 differs from the manifest's."
                )

    @cached_property
    def pieces(self) -> list[Piece]:
        """Return all pieces, in order: row groups if the manifest lists them, whole files otherwise."""
        return list_pieces(self.manifest, self.files)

    def read(
        self, source: Place | Piece, columns: Sequence[str], discount: float | None = None
    ) -> dict[str, Array]:
        """Read columns of one shard file, or of one piece of it.

        Args:
            source: One of `files` or of `pieces`.
            columns: Names of stored or derived columns. Derived ones: `new_obs` [N, …], the observation after
                the action; `last` [N] bool, true on the last row of an episode (terminated or truncated);
                `ret` [N] float32, the discounted return-to-go, without bootstrapping where an episode is cut
                off; `new_actions` [N, …], the next action in the data, zeros on the last row of an episode.
            discount: Discount of `ret`.

        Returns:
            Arrays [N, …]. They may share memory with Arrow: do not write to them.

        Raises:
            MissingColumn: A column is neither stored nor derivable.
            Corrupt: The file is not readable Parquet.
            Unreachable: The bucket does not answer, or denies access.
        """
        if missing := [name for name in columns if name not in self.columns]:
            raise MissingColumn(
                f"{self.name} has no column {missing[0]!r}.",
                f"All: {' '.join(self.columns)}",
                given=missing[0],
                known=self.columns,
            )
        file, group = source[:2] if isinstance(source, Piece) else (source, None)
        table = self._table(file, group, self._required_columns(columns, discount))
        try:
            read = {name: to_numpy(table[name]) for name in table.column_names if name != "final_obs"}
            ends = "final_obs" in table.column_names
            last, final = episode_ends(table["final_obs"], self._shape("obs")) if ends else (None, None)
        except ValueError as error:  # a damaged page that is Parquet
            raise Corrupt(f"{file} is damaged: {error}.") from None
        if last is not None and final is not None:
            if not len(last) or not last[-1] or len(final) != last.sum():
                raise Corrupt(f"{file} is damaged: an episode does not end in it.")
            read["last"] = last
            if "new_obs" in columns and "new_obs" not in read:
                read["new_obs"] = next_rows(read["obs"], last, final)
            if "new_actions" in columns:
                read["new_actions"] = next_rows(read["actions"], last, 0)
            if "ret" in columns and "ret" not in read:
                read["ret"] = returns_to_go(read["rewards"], last, self._discount(discount))
        return {name: read[name] for name in columns}

    def read_all(self, columns: Sequence[str], discount: float | None = None) -> dict[str, Array]:
        """Read columns of all pieces, one piece at a time; peak memory is the result plus one piece.

        See `read`; the arrays returned here may be written to.
        """
        whole: dict[str, Array] = {}
        for piece in self.pieces:
            for name, values in self.read(piece, columns, discount).items():
                if name not in whole:
                    whole[name] = np.empty((self.rows, *values.shape[1:]), values.dtype)
                whole[name][piece.rows] = values
        return whole

    def _required_columns(self, columns: Iterable[str], discount: float | None) -> list[str]:
        """Return the stored columns that the requested columns need."""
        stored = [name for name, _, _ in self.manifest.columns]
        if discount is not None and discount != self.manifest.discount and "ret" in stored:
            stored.remove("ret")  # computed with another discount
        needs: set[str] = set()
        sources = {"new_obs": ["obs"], "last": [], "ret": ["rewards"], "new_actions": ["actions"]}
        for name in columns:
            needs |= {name} if name in stored else {"final_obs", *sources[name]}
        return [name for name in stored if name in needs]

    def _table(self, file: Place, group: int | None, columns: list[str]) -> pa.Table:
        """Read columns of a file, or of one of its row groups, after comparing the file with the manifest."""
        system, path = storage.filesystem(file)
        try:
            # A bucket is read in a few large requests for all columns; a disk column by column: less memory.
            with (
                convert_errors(file),
                open_parquet(path, file, filesystem=system, pre_buffer=isinstance(file, Location)) as parquet,
            ):
                check_shard(parquet, self._listed_as.get(file), self.manifest.columns, file)
                return parquet.read(columns) if group is None else parquet.read_row_group(group, columns)
        except (pa.ArrowException, OSError) as error:
            raise Corrupt(f"{file} cannot be read as Parquet: {error}.") from None

    def _shape(self, column: str) -> list[int]:
        return next(shape for name, _, shape in self.manifest.columns if name == column)

    def _discount(self, discount: float | None) -> float:
        if discount is None:
            raise MissingColumn(
                f"{self.name} has no stored column 'ret'.",
                "With a discount it is derived: discount=0.99",
            )
        return discount


def data_folders(root: Place) -> list[Place]:
    """Return the folders of data sets below a root, readable or not, without unfinished ingests."""
    return [folder for folder in storage.list_folders(root) if _is_data(folder)]


def _is_data(folder: Place) -> bool:
    # A folder *.partial is an unfinished ingest, even if it contains a manifest.
    name = folder.resolve() if isinstance(folder, Path) else folder
    return name.suffix != PARTIAL and storage.is_file(folder / MANIFEST_FILE)


def _check_found(folder: Place, given: str) -> None:
    """Refuse a name that is no longer valid; a path, which old runs have, may end in any name."""
    if "/" not in given and not is_valid_name(given):
        line = shlex.join(["mv", "--", str(folder), str(folder.parent / derive_name(given))])
        raise UserError(f"{given!r} is not a valid name of a data set any more.", RULE, line)


def open_shards(name_or_path: str | Place) -> Shards:
    """Open a data set by name (below `data_root`) or by its folder.

    Args:
        name_or_path: Name or folder; a folder may be in a bucket: `s3://BUCKET/FOLDER/NAME`. The suffix `@1`
            selects generations 0 to 1, `@1+` generation 1 and later ones.

    Raises:
        UnknownName: There is no such data set.
        UserError: It has a name that is not valid, of before names were checked.
        Corrupt: A part of the data set is missing or was changed.
        Unreachable: The bucket does not answer, or denies access.
    """
    generations = parse_generations(str(name_or_path))
    root, path = data_root(), locate(name_or_path if generations is None else generations.name)
    for folder in (path,) if isinstance(path, Location) else (path, root / str(path)):
        if _is_data(folder):
            _check_found(folder, str(path))
            return Shards(folder, generations)
    if generations is not None and _is_data(folder := root / str(name_or_path)):
        _check_found(folder, str(name_or_path))
    from datasets_io.sources.catalogue import known_names

    there = [folder.name for folder in data_folders(root)]
    known = known_names()
    name = str(path)
    raise UnknownName(
        f"the data set {name!r} is not added yet." if name in known else f"no data set is called {name!r}.",
        f"Looked in {path.parent} and {root} ({len(there)} data sets); the catalogue has {len(known)} names.",
        f"off2on data add {name}" if name in known else "off2on data list",
        given=name,
        known=[*there, *known],
    )
