"""The catalogue of algorithms (catalogue.csv): text only, so that reading it imports none of them."""

import csv
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TYPE_CHECKING

from datasets_io.imports import import_object
from off2on.errors import UnknownName

if TYPE_CHECKING:
    from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class Entry:
    """Entry of an algorithm in the catalogue.

    Attributes:
        target: ``package.module:Class``.
        family: Family under which it is listed.
        paper: Authors, year and arXiv number.
        summary: One line.
        paper_options: Options of ``off2on train`` for the online phase of the paper, if it has one.
    """

    target: str
    family: str
    paper: str
    summary: str
    paper_options: str = ""


def _catalogue() -> dict[str, Entry]:
    with (files(__name__) / "catalogue.csv").open(encoding="utf-8") as lines:
        return {
            row["name"]: Entry(
                f"{__name__}.{row['name']}:{row['class']}",
                row["family"],
                row["paper"],
                row["summary"],
                row["paper_options"],
            )
            for row in csv.DictReader(lines)
        }


CATALOGUE = _catalogue()
"""Entries by name, in the order of the families; the module of an algorithm has its name."""


def find_algorithm(name: str) -> "type[OfflineToOnline]":
    """Return the class of a catalogue name, of another package's entry point, or of ``module:Class``.

    Raises:
        UnknownName: There is no such class, or it is not an `OfflineToOnline`.
    """
    plugged = {}  # finding them reads the metadata of all installed packages
    if name not in CATALOGUE:
        plugged = {point.name: point.value for point in entry_points(group="off2on.algorithms")}
    target = CATALOGUE[name].target if name in CATALOGUE else plugged.get(name, name)
    if ":" not in target:
        known = [*CATALOGUE, *plugged]
        raise UnknownName(
            f"no algorithm is called '{name}'.",
            f"All: {' '.join(known)}, or package.module:Class.",
            given=name,
            known=known,
        )
    from off2on.rllib.algorithm import OfflineToOnline

    found: type[OfflineToOnline] = import_object(target, OfflineToOnline)
    return found
