"""Read metrics.csv and episodes.csv of a run.

Every cell is a number or empty, except that `side` is one of `SIDES`. Counters are whole numbers that do not
fall. A last line without its end is still being written, and is left out.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets_io.errors import Corrupt
from datasets_io.storage.documents import read_content

SIDES = ("offline", "handover", "online")
COUNTERS = ("updates", "env_steps")
METRICS = ("side", *COUNTERS, "score")
EPISODES = ("side", *COUNTERS, "episode", "return", "length")
WHOLE = (*COUNTERS, "episode", "length")

MAX_BYTES = 32 * 2**20
MAX_LINE = 2**16
"""Longest line, in characters."""

MAX_DIGITS = 15
LARGEST = 1e100
"""Largest number; sums and squares of larger ones would not be finite. Inf is read: a run may diverge."""


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """Read the rows of metrics.csv; none without the file.

    Raises:
        Corrupt: It is no table of evaluations; names file and line.
    """
    return _read(folder / "metrics.csv", METRICS)


def read_episodes(folder: Path) -> list[dict[str, str]]:
    """Read the rows of episodes.csv; none without the file.

    Raises:
        Corrupt: It is no table of episodes; names file and line.
    """
    return _read(folder / "episodes.csv", EPISODES)


def write_table(rows: Sequence[dict[str, object]]) -> str:
    """Return rows as the text of a table."""
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    rows: list[dict[str, str]] = []
    for origin, row in read_table(path, required):
        for name, cell in row.items():
            if expected := _expected(name, cell):
                raise Corrupt(f"{name} is {cell[:40]!r}, expected {expected}.", where=origin)
        for name in COUNTERS:
            if rows and int(row[name]) < int(rows[-1][name]):
                raise Corrupt(f"{name} falls from {rows[-1][name]} to {row[name]}.", where=origin)
        rows.append(row)
    return rows


def read_table(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``file:line`` and the cells, by column, of each whole line of a table.

    Args:
        path: The file, in UTF-8, with a header.
        required: Columns that it must have.

    Raises:
        Corrupt: It is no such file.
    """
    content = read_content(path, MAX_BYTES)
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        before = content[: error.start].count(b"\n")
        raise Corrupt("the line is not UTF-8 text.", where=f"{path}:{before + 1}") from None
    header: list[str] = []
    for number, line in enumerate(lines, 1):
        origin = f"{path}:{number}"
        if len(line) > MAX_LINE:
            raise Corrupt(
                f"the line has {len(line):,} characters.", f"Expected at most {MAX_LINE:,}.", where=origin
            )
        if number == len(lines):
            break  # empty, or still being written
        try:
            cells = next(csv.reader([line.removesuffix("\r")], strict=True), [])
        except csv.Error as error:
            raise Corrupt(f"the line cannot be read: {error}.", where=origin) from None
        if number == 1:
            header = cells
            if len(set(header)) < len(header):
                raise Corrupt("a column occurs twice.", where=origin)
            if lacks := [name for name in required if name not in header]:
                raise Corrupt(f"{path} lacks {', '.join(lacks)}.", f"It has {', '.join(header)}.")
        elif len(cells) != len(header):
            raise Corrupt(f"the line has {len(cells)} cells, expected {len(header)}.", where=origin)
        else:
            yield origin, dict(zip(header, cells, strict=True))
    if not header:
        raise Corrupt(f"{path} lacks {', '.join(required)}.", "It has no whole line.")


def _expected(name: str, cell: str) -> str:
    """Return what was expected of a cell with a value that its column cannot have; nothing if it can."""
    if name == "side":
        return "" if cell in SIDES else f"one of {', '.join(SIDES)}"
    if name in WHOLE:
        whole = cell.isascii() and cell.isdigit() and len(cell) <= MAX_DIGITS
        return "" if whole else "a whole number"
    try:
        number = abs(float(cell or "nan"))
    except ValueError:
        return "a number"
    return f"at most {LARGEST:g}" if LARGEST < number < math.inf else ""
