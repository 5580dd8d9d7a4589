"""Read data sets of Hugging Face's library `datasets`, without the library.

They are folders of Arrow or Parquet files: what ``Dataset.save_to_disk`` and ``DatasetDict.save_to_disk``
write, or files that are named as ``push_to_hub`` names them, ``data/train-00000-of-00002.parquet``. The files
of a split, in order, are one table.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from datasets_io import storage
from datasets_io.errors import Corrupt, UnknownName, UserError
from datasets_io.sources.splits import choose_split
from datasets_io.sources.tabular import Columns, Table
from datasets_io.storage import Place
from datasets_io.storage.documents import read_json

STATE, SPLITS = "state.json", "dataset_dict.json"
_SHARD = re.compile(r"(?:^|[/-])([\w.]+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.(?:parquet|arrow)$")
"""Name of a file: split, number, number of files, and in older data sets a hash."""

FileName = Annotated[str, Field(pattern=r"^[^/\\]+\.arrow$")]


@dataclass(frozen=True)
class DataFile:
    """An entry of the list of files."""

    filename: FileName


@dataclass(frozen=True)
class SavedSplit:
    """The fields of state.json that are read."""

    files: Annotated[list[DataFile], Field(alias="_data_files")]
    indices: Annotated[Any, Field(alias="_indices_data_files")] = None


@dataclass(frozen=True)
class SplitNames:
    """The fields of dataset_dict.json that are read."""

    splits: list[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")]] = field(default_factory=list)


class HuggingFace(Table):
    """A data set of Hugging Face.

    A row is a step; columns are named as those of a table are. Rows are in the order of the files, so that an
    episode may go on in the next one.

    Args:
        columns: Columns by role; see `Table`.
        split: Split to read; None: ``train``, or the only one.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
        continuous: True if whole numbers for `actions` are amounts; see `Table`.
        bounds: Range of the actions; see `Table`.
    """

    row_options = ("split",)

    def __init__(
        self,
        columns: Columns | str | None = None,
        split: str | None = None,
        env: str | None = None,
        licence: str = "unknown",
        continuous: bool = False,
        bounds: str | None = None,
    ) -> None:
        super().__init__(columns, env, licence, continuous, bounds)
        self.split = split

    def parts(self, path: Any) -> list[Any]:
        """Return the files of the split, as one table.

        Raises:
            UnknownName: The folder is no such data set, or has no such split.
            Corrupt: A description is damaged, or a file is missing.
            UserError: The rows are chosen by a list of indices.
        """
        root = storage.locate(path)
        files = self._files(root)
        for file in files:
            if not storage.is_file(storage.locate(file)):
                raise Corrupt(f"{root} has no file {storage.locate(file).name}.", "Its description names it.")
        return [tuple(files)]

    def _files(self, root: Place) -> list[str]:
        if storage.is_file(root / STATE):
            if self.split is not None:
                raise UnknownName(f"{root} is one split: it has none named {self.split!r}.")
            return _saved_files(root)
        if storage.is_file(root / SPLITS):
            names = read_json(root / SPLITS, SplitNames).splits
            return _saved_files(root / choose_split(self, self.split, names, root))
        found = _named_files(root)
        if not found:
            raise UnknownName(
                f"{root} is no data set of Hugging Face.",
                f"Looked for {STATE}, {SPLITS} and names such as data/train-00000-of-00001.parquet.",
            )
        name = choose_split(self, self.split, found, root)
        counts = {count for _, count in found[name]}
        count = max(counts)
        if len(counts) > 1 or len(found[name]) != count:
            raise Corrupt(f"{root} has {len(found[name])} of {count} files of {name!r}.")
        return [file for _, file in sorted(found[name].items())]


def is_hugging_face(folder: Place) -> bool:
    """Return True if a folder is a data set of Hugging Face."""
    described = any(storage.is_file(folder / name) for name in (STATE, SPLITS))
    return described or bool(_named_files(folder))


def _saved_files(folder: Place) -> list[str]:
    """Return the files of a saved split in order: others in its folder may be caches."""
    state = read_json(folder / STATE, SavedSplit)
    if state.indices:
        raise UserError(
            f"{folder} chooses its rows by a list of indices.",
            "Write the rows themselves: data.flatten_indices().save_to_disk(FOLDER).",
        )
    return [str(folder / file.filename) for file in state.files]


def _named_files(root: Place) -> dict[str, dict[tuple[int, int], str]]:
    """Return the files in a folder or in its folder ``data``, by split, and by number and count."""
    found: dict[str, dict[tuple[int, int], str]] = {}
    for folder in (root, root / "data"):
        if found or not storage.is_folder(folder):
            continue
        for file in storage.list_files(folder):
            if match := _SHARD.search(file):
                found.setdefault(match[1], {})[int(match[2]), int(match[3])] = file
    return found
