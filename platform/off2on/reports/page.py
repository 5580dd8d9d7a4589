"""The parts of every page: templates, tables, figures within a size limit.

A page is one HTML file without scripts and external files. Its layout is a template of templates/, which
escapes all text; functions of this room compute the data and draw the figures.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from off2on.reports.images import image_of, png
from off2on.runs.folder import write

MAX_PAGE_BYTES = 200 * 1024
CROWDED = 10
"""Number of figures on a page from which they have a lower resolution."""

LONGEST_NAME = 60
"""Longest name of a file, in characters, without suffix; a longer one is cut and numbered."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table, or a number of a summary.

    Attributes:
        text: The value.
        below: Small lines below it.
        style: ``strong``, ``code`` or nothing.
        kind: Meaning of a strong number: ``score``, ``loss`` or nothing.
    """

    text: str
    below: Sequence[str] = ()
    style: str = ""
    kind: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table; a column in which every row has a dash is not shown.

    Attributes:
        heads: Titles of the columns; none for a table without a head.
        rows: Cells: text or `Cell`.
        kind: CSS classes.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    kind: str = ""

    @property
    def _shown(self) -> list[int]:
        width = len(self.heads) or max(map(len, self.rows), default=0)
        return [column for column in range(width) if any(row[column] != "–" for row in self.rows)]

    @property
    def shown_heads(self) -> list[str]:
        """Titles of the columns that are shown."""
        return [self.heads[column] for column in self._shown]

    @property
    def shown_rows(self) -> list[list[str | Cell]]:
        """Cells of the columns that are shown."""
        return [[row[column] for column in self._shown] for row in self.rows]


@dataclass
class FigureSheet:
    """The figures of a page: all are saved as files; the page has as many as its size limit allows.

    Attributes:
        folder: Folder of the files.
    """

    folder: Path
    _figures: list[tuple[int, str, Figure, str]] = field(default_factory=list)

    def add(self, rank: int, name: str, figure: Figure, alt: str) -> Markup:
        """Keep a figure and return the mark that `fill` replaces.

        Args:
            rank: Importance; 0 is the most important.
            name: Name of the file, without suffix.
            figure: The figure.
            alt: Its content in words.
        """
        stem = re.sub(r"[^\w.]+", "-", name)
        if len(stem) > LONGEST_NAME:  # names of runs come from files
            stem = f"{stem[:LONGEST_NAME]}-{len(self._figures)}"
        self._figures.append((rank, stem, figure, alt))
        return Markup("<figure-{}>").format(len(self._figures) - 1)  # all other text is escaped

    def fill(self, page: str) -> str:
        """Save the figures and return the page with those that fit, by importance."""
        parts = [
            render("figure.html", image=None, alt=alt, folder=self.folder.name, name=name)
            for _, name, _, alt in self._figures
        ]
        marks = [mark for mark in range(len(parts)) if f"<figure-{mark}>" in page]
        free = MAX_PAGE_BYTES - len(page.encode()) - sum(len(parts[mark].encode()) for mark in marks)
        for mark, (_, name, figure, alt) in sorted(enumerate(self._figures), key=lambda item: item[1][0]):
            image = png(figure, dpi=144 if len(marks) < CROWDED else 96)
            write(self.folder / f"{name}.png", image)
            tag = render("figure.html", **image_of(figure, image), alt=alt)
            cost = len(tag.encode()) - len(parts[mark].encode())
            if mark in marks and cost <= free:
                free, parts[mark] = free - cost, tag
            page = page.replace(f"<figure-{mark}>", parts[mark])
        return page


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("off2on.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **data: Any) -> str:
    """Return a template of templates/ filled with data."""
    return _environment().get_template(template).render(**data)
