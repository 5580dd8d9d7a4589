"""Convert columns of a user's table to arrays of numbers; errors name the cell."""

from typing import Any

import numpy as np
import pandas as pd

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, UnknownName
from datasets_io.storage import Place
from datasets_io.storage.parquet import open_parquet


def open_table(part: Any) -> tuple[list[str], Any]:
    """Return the names of the columns, and a function that loads some of them."""
    if not isinstance(part, str | Place):
        return [str(name) for name in part], lambda names: {name: part[name] for name in names}
    path = storage.locate(part)
    if not storage.is_file(path):
        raise UnknownName(f"there is no file {path}.", f"Looked in {storage.absolute(path).parent}.")
    if path.suffix not in _READERS:
        raise UnknownName(f"{path.name} is not a table that is known.", "They end in .csv or .parquet.")
    names, load = _READERS[path.suffix]

    def read(wanted: list[str]) -> Any:
        with storage.open_input(path) as file:
            return load(file, path, wanted)

    with storage.open_input(path) as file:
        return names(file, path), read


_READERS: dict[str, tuple[Any, Any]] = {
    ".csv": (
        lambda file, _: list(pd.read_csv(file, nrows=0).columns),
        lambda file, _, names: pd.read_csv(file, usecols=names),
    ),
    ".parquet": (
        lambda file, path: open_parquet(file, path).schema_arrow.names,
        lambda file, path, names: open_parquet(file, path).read(names).to_pandas(),
    ),
}


def side_by_side(role: str, names: tuple[str, ...], table: Any) -> Array:
    """Stack columns: [N] for one column of numbers, [N, D] for several or for one of lists."""
    columns = [_ids(table[name]) if role == "episode" else _numbers(name, table[name]) for name in names]
    if len(columns) > 1:
        return np.stack(columns, axis=1)
    if role in ("terminated", "truncated"):
        return _flags(names[0], columns[0])
    return columns[0]


def _ids(column: Any) -> Array:
    codes: Array = pd.factorize(np.asarray(column))[0]  # in order of first appearance; no id is -1
    return codes


def _numbers(name: str, column: Any) -> Array:
    values = np.asarray(column)
    if values.dtype.kind not in "fiub":
        cells = values.tolist()
        if cells and isinstance(cells[0], list | tuple | np.ndarray):
            widths = np.array([np.size(cell) for cell in cells])
            if (widths != widths[0]).any():
                row = int(np.argmax(widths != widths[0]))
                raise BadValues(
                    f"column {name!r} is ragged: {widths[row]} values in row {row:,}.",
                    f"{widths[0]} were expected, as in the first row.",
                )
            values = np.stack([np.asarray(cell) for cell in cells])
    if values.dtype.kind not in "fiub":
        numbers = pd.to_numeric(pd.Series(values.ravel(), dtype=object), errors="coerce")
        wrong = numbers.isna().to_numpy() & ~pd.isna(values.ravel())
        if wrong.any():
            row = int(np.argmax(wrong))
            raise BadValues(
                f"column {name!r} holds {values.ravel()[row]!r} in row {row:,}.", "Numbers were expected."
            )
        values = numbers.to_numpy(np.float64).reshape(values.shape)
    return values


def _flags(name: str, values: Array) -> Array:
    wrong = ~np.isin(values, (0, 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BadValues(
            f"column {name!r} holds {values[row]} in row {row:,}.", "True or false (1 or 0) was expected."
        )
    return values.astype(bool)
