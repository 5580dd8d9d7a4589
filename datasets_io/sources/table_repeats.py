"""The error of two rows of a table with the same episode and step: what they are, and a line that helps."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io.episode import Array
from datasets_io.errors import BadValues

_READ = {
    ".csv": ("read_csv(%s, dtype=str, keep_default_na=False)", "to_csv(%s, index=False)"),
    ".parquet": ("read_parquet(%s)", "to_parquet(%s)"),
}
"""Suffix → calls of pandas that read and write such a file; cells of a CSV file stay as they are written."""
_MOMENT = 1e12
"""Steps from here on are not shown: dates and times are read as numbers of this size."""


class RepeatedStep(BadValues):
    """Two rows with the same episode and step.

    Args:
        rows: The two rows of the table.
        places: Their places in the columns.
        columns: The columns [N, …] that are read, by role, without episode and step.
        code: Number of the episode.
        step: The step.
    """

    def __init__(
        self,
        rows: Sequence[int],
        places: Sequence[int],
        columns: Mapping[str, Array],
        code: int,
        step: float,
    ) -> None:
        super().__init__(f"rows {rows[0]:,} and {rows[1]:,} have the same episode and step.")
        self.rows, self.code, self.step = rows, code, step
        self.differ = [role for role, values in columns.items() if _differs(values, *places)]

    def describe(self, ids: Sequence[Any], roles: Mapping[str, tuple[str, ...]], part: Any) -> None:
        """Add the id of the episode, the step, whether the rows are identical, and a line to try.

        Args:
            ids: Id of each episode, by its number.
            roles: Columns of each role.
            part: The table: a file, several files, or columns by name.
        """
        step = f" ({self.step:.12g})" if abs(self.step) < _MOMENT else ""
        first, second = self.rows
        self.what = (
            f"rows {first:,} and {second:,} have the same episode ({ids[self.code]!r}) and step{step}."
        )
        verdict = (
            f"They differ in {', '.join(self.differ)}: does another column order the rows, or do two "
            "episodes have one id?"
            if self.differ
            else "They are identical in the columns that are read."
        )
        self.expected = f"{verdict}\nRows are numbered from 0, after the header."
        if isinstance(part, str | Path) and "://" not in str(part) and Path(part).suffix in _READ:
            self.try_ = self._line(Path(part), [roles["episode"][0], roles["step"][0]])

    def _line(self, file: Path, names: list[str]) -> str:
        """Return a command that drops the second row of each pair, or prints both rows if they differ."""
        read, write = _READ[file.suffix]
        table = f"pd.{read % _text(str(file))}"
        if self.differ:
            code = f"import pandas as pd; print({table}.iloc[{[*self.rows]}].T)"
        else:
            unique = str(file.with_name(f"{file.stem}-unique{file.suffix}"))
            dropped = f"drop_duplicates([{', '.join(map(_text, names))}])"
            code = f"import pandas as pd; {table}.{dropped}.{write % _text(unique)}"
        return f"python -c {shlex.quote(code)}"


def _text(name: str) -> str:
    """Return a name as text of Python in double quotes, which a shell keeps within single ones."""
    return json.dumps(name, ensure_ascii=False)


def _differs(values: Array, one: int, other: int) -> bool:
    first, second = np.asarray(values[one]), np.asarray(values[other])
    empty = (first != first) & (second != second)  # NaN in both
    return bool(((first != second) & ~empty).any())
