"""Output of the commands: results on stdout, progress and notes on stderr."""

import json
import math
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

from datasets_io.errors import printable
from off2on.training.terminal import can_redraw

_MARKS = (*range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: f"\\u{code:04x}" for code in _MARKS}
"""Control characters and direction marks that JSON leaves as they are."""


def print_table(rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Print aligned columns on stdout, separated by two spaces.

    Args:
        rows: Cells, the same number in each row.
        right: Numbers of the right-aligned columns.
    """
    text = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    for row in text:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def print_wrapped_table(rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout, with the last column wrapped to the width of the terminal."""
    rows = list(rows)
    used = sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1])
    width = max(min(max(shutil.get_terminal_size((120, 24)).columns, 80), 140) - used, 30)
    lines: list[list[str]] = []
    for *cells, last in rows:
        first, *more = textwrap.wrap(last, width, break_on_hyphens=False) or [""]
        lines += [[*cells, first], *([*[""] * len(cells), line] for line in more)]
    print_table(lines)


def print_line(label: str, text: str) -> None:
    """Print a labelled line on stdout: ``reading    …``."""
    click.echo(printable(f"{label:<10} {text}".rstrip()))


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; control characters are escaped, NaN and infinity become null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    click.echo(text.translate(_ESCAPED))


def _finite(value: Any) -> Any:
    """Replace the numbers that JSON does not have by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def format_size(count: float) -> str:
    """Format a number of bytes: ``141 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            break
        count, unit = count / 1000, "TB"
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 shard``, ``2 shards``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class ProgressLine:
    """Progress on stderr: one line redrawn on a terminal, elsewhere a line every ten seconds."""

    def __init__(self) -> None:
        self._tty = can_redraw(sys.stderr)
        self._wait = 0.1 if self._tty else 10.0
        self._last = time.monotonic() if not self._tty else 0.0
        self._drawn = False

    def show(self, text: str) -> None:
        """Show the text, unless another one was shown less than 0.1 s (terminal) or 10 s (file) ago."""
        now = time.monotonic()
        if now - self._last >= self._wait:
            self._last = now
            click.echo(f"\r\x1b[K{text}" if self._tty else text, err=True, nl=not self._tty)
            self._drawn = self._tty

    def close(self) -> None:
        """Clear the line."""
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
