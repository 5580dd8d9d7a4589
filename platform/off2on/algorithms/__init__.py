"""The catalogue of algorithms: strings only, so that reading it imports none of them."""

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from off2on.errors import UnknownName, nearest

if TYPE_CHECKING:
    from off2on.algorithm import OfflineToOnline


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of an algorithm."""

    target: str
    family: str
    paper: str
    summary: str


CATALOGUE = {
    "bc": Entry("off2on.algorithms.bc:BC", "imitation", "Pomerleau 1991", "copy the data"),
    "td3_bc": Entry(
        "off2on.algorithms.td3_bc:TD3BC",
        "policy constraint",
        "Fujimoto & Gu 2021, arXiv:2106.06860",
        "TD3, pulled towards the data's actions",
    ),
    "iql": Entry(
        "off2on.algorithms.iql:IQL",
        "value regularisation",
        "Kostrikov et al. 2022, arXiv:2110.06169",
        "values from the data's own actions, then copy the better ones",
    ),
    "cql": Entry(
        "off2on.algorithms.cql:CQL",
        "value regularisation",
        "Kumar et al. 2020, arXiv:2006.04779",
        "SAC whose critics are pushed down where the data is silent",
    ),
    "sac": Entry(
        "off2on.algorithms.sac:SAC",
        "backbone",
        "Haarnoja et al. 2018, arXiv:1812.05905",
        "off-policy actor-critic paid for randomness; alone, not meant for offline data",
    ),
}


def find_algorithm(name: str) -> "type[OfflineToOnline]":
    """The class of a catalogue name, of another package's entry point, or of ``module:Class``.

    Raises:
        UnknownName: There is none, or it is not an `OfflineToOnline`.
    """
    plugged = {point.name: point.value for point in entry_points(group="off2on.algorithms")}
    target = CATALOGUE[name].target if name in CATALOGUE else plugged.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        known = [*CATALOGUE, *plugged]
        raise UnknownName(
            f"no algorithm is called '{name}'.",
            f"{nearest(name, known)}All: {' '.join(known)}, or package.module:Class.",
        )
    from off2on.algorithm import OfflineToOnline

    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(
            f"'{name}' cannot be imported: {error}.", "Expected package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, OfflineToOnline)):
        raise UnknownName(
            f"'{name}' is not an algorithm.", "Expected a subclass of off2on.algorithm.OfflineToOnline."
        )
    return found
