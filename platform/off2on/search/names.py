"""What a name in a search means: whose it is, and what is known of it."""

import typing
from collections.abc import Sequence
from typing import Any

from off2on.errors import nearest
from off2on.recipe.hyperparameters import PRESET

OF_STRATEGY, OF_ONLINE = "strategy.", "online."


def applies(name: str, algorithm: str, strategy: str) -> bool:
    """Whether a name means something to an algorithm that crosses by a strategy."""
    return name == PRESET or bool(owners(name, algorithm, strategy))


def rule_of(name: str, algorithm: str, strategy: str) -> Any:
    """What is known of a name (meaning, range, search range), or None."""
    return next((kind.rules()[rest] for kind, rest in owners(name, algorithm, strategy)), None)


def type_of(name: str, algorithm: str, strategy: str) -> Any:
    """The annotated type of a name's value."""
    return next((typing.get_type_hints(kind)[rest] for kind, rest in owners(name, algorithm, strategy)), str)


def owners(name: str, algorithm: str, strategy: str) -> list[tuple[Any, str]]:
    """The settings that know a name, and what they call it."""
    from off2on.algorithms import find_algorithm
    from off2on.online.settings import OnlineSettings
    from off2on.strategies import find_strategy

    own = find_algorithm(algorithm).Hyperparameters
    places: Sequence[Any] = (own,)
    rest = name
    if name.startswith(OF_STRATEGY):
        places, rest = (find_strategy(strategy).Options,), name.removeprefix(OF_STRATEGY)
    elif name.startswith(OF_ONLINE):
        places, rest = (OnlineSettings, own), name.removeprefix(OF_ONLINE)
    return [(kind, rest) for kind in places if rest in kind.rules()]


def nobody_has(
    name: str, algorithms: tuple[str, ...], strategies: tuple[str, ...], also: Sequence[str] = ()
) -> tuple[str, str]:
    """What is wrong, and what there is.

    Args:
        name: Nobody's.
        algorithms: Who might have it.
        strategies: Who might have it.
        also: Other names that may have been meant.
    """
    from off2on.algorithms import find_algorithm
    from off2on.online.settings import OnlineSettings
    from off2on.strategies import find_strategy

    own = [rule for each in algorithms for rule in find_algorithm(each).Hyperparameters.rules()]
    prefix, who = "", algorithms
    if name.startswith(OF_STRATEGY):
        prefix, who = OF_STRATEGY, strategies
        own = [rule for each in strategies for rule in find_strategy(each).Options.rules()]
    elif name.startswith(OF_ONLINE):
        prefix, own = OF_ONLINE, [*OnlineSettings.rules(), *own]
    known = [prefix + rule for rule in dict.fromkeys(own)]
    whose = who[0] if len(who) == 1 else f"none of {', '.join(who)}"
    has = f"{whose} has no '{name}'." if len(who) == 1 else f"{whose} has '{name}'."
    return has, f"{nearest(name, [*known, *also])}All: {' '.join(known) or 'none'}"
