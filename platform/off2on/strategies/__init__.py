"""Fine-tuning strategies: composition of the batches in the online phase.

Some strategies of papers also state online settings (`off2on.online.settings`), which hold by default.
The catalogue holds strings, so that reading it imports none of them.
"""

from typing import TYPE_CHECKING

from datasets_io.imports import import_object
from off2on.errors import UnknownName

if TYPE_CHECKING:
    from off2on.replay.strategy import Strategy

CATALOGUE = {
    "append": ("off2on.strategies.append:Append", "offline and online transitions, all equally likely"),
    "symmetric": ("off2on.strategies.symmetric:Symmetric", "a fixed offline share of each batch"),
    "annealed": ("off2on.strategies.annealed:Annealed", "an offline share that decreases linearly"),
    "balanced": (
        "off2on.strategies.balanced:Balanced",
        "prioritised by an estimated online/offline density ratio",
    ),
    "online_only": ("off2on.strategies.online_only:OnlineOnly", "online transitions only"),
    "warm_start": (
        "off2on.strategies.warm_start:WarmStart",
        "online transitions only, after a warm-up with the frozen policy (WSRL)",
    ),
    "policy_expansion": (
        "off2on.strategies.policy_expansion:PolicyExpansionStrategy",
        "symmetric; the critics choose between the policy of the handover and the new one (PEX)",
    ),
    "ensemble": (
        "off2on.strategies.ensemble:Ensemble",
        "online transitions only; optimistic exploration, pairwise minimum targets (E2O)",
    ),
    "rlpd": ("off2on.strategies.rlpd:RLPDStrategy", "symmetric, 20 updates per step (RLPD)"),
    "so2": (
        "off2on.strategies.so2:SO2",
        "a tenth online, noise on target actions, 10 updates per step (SO2)",
    ),
    "adaptive": (
        "off2on.strategies.adaptive:Adaptive",
        "all transitions; regularisation towards the data controlled by the returns",
    ),
}

DEFAULT = "symmetric"
"""Default strategy: half of every batch is online, independent of the size of the data set."""


def find_strategy(name: str) -> "type[Strategy]":
    """Return the strategy of a catalogue name, or of ``package.module:Class``.

    Raises:
        UnknownName: There is no such strategy, or it is not a `Strategy`.
    """
    target = CATALOGUE[name][0] if name in CATALOGUE else name
    if ":" not in target:
        raise UnknownName(
            f"no strategy is called '{name}'.", f"All: {' '.join(CATALOGUE)}", given=name, known=CATALOGUE
        )
    from off2on.replay.strategy import Strategy

    found: type[Strategy] = import_object(target, Strategy)
    return found
