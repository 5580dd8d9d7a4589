"""Ways across the handover: what a batch is made of once the environment answers.

The catalogue holds strings, so that reading it imports nothing.
"""

import importlib
from typing import TYPE_CHECKING

from off2on.errors import UnknownName, nearest

if TYPE_CHECKING:
    from off2on.replay.strategy import Strategy

CATALOGUE = {
    "append": ("off2on.strategies.append:Append", "offline and online rows, all equally likely"),
    "symmetric": ("off2on.strategies.symmetric:Symmetric", "a fixed share of each batch is offline"),
    "annealed": ("off2on.strategies.annealed:Annealed", "a share that falls as online rows come in"),
    "balanced": (
        "off2on.strategies.balanced:Balanced",
        "offline rows by how much they look like online ones",
    ),
    "online_only": ("off2on.strategies.online_only:OnlineOnly", "online rows alone, from the first one on"),
    "warm_start": (
        "off2on.strategies.warm_start:WarmStart",
        "online rows alone, after a while with the frozen policy (WSRL)",
    ),
    "policy_expansion": (
        "off2on.strategies.policy_expansion:PolicyExpansionStrategy",
        "half and half; the old policy goes on acting where it is better (PEX)",
    ),
    "ensemble": (
        "off2on.strategies.ensemble:Ensemble",
        "online rows alone; optimism, and pairs of critics as targets (E2O)",
    ),
    "rlpd": ("off2on.strategies.rlpd:RLPDStrategy", "half and half, twenty updates per step (RLPD)"),
    "so2": ("off2on.strategies.so2:SO2", "perturbed targets, ten updates per step (SO2)"),
    "adaptive": (
        "off2on.strategies.adaptive:Adaptive",
        "all rows; the pull towards the data follows the returns",
    ),
}

DEFAULT = "symmetric"
"""Where nothing is said: half of every batch is new, however many rows are recorded."""


def find_strategy(name: str) -> "type[Strategy]":
    """The strategy of a catalogue name, or of ``package.module:Class``."""
    target = CATALOGUE[name][0] if name in CATALOGUE else name
    module, _, attribute = target.partition(":")
    if not attribute:
        raise UnknownName(
            f"no strategy is called '{name}'.", f"{nearest(name, CATALOGUE)}All: {' '.join(CATALOGUE)}"
        )
    from off2on.replay.strategy import Strategy

    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(
            f"'{name}' cannot be imported: {error}.", "Expected package.module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UnknownName(
            f"'{name}' is not a Strategy.", "Expected a subclass of off2on.strategies.Strategy."
        )
    return found
