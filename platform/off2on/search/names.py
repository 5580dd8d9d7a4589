"""Names in a search: the settings class that defines a name, its type and its rule."""

import typing
from collections.abc import Sequence
from typing import Any

from off2on.errors import HyperparameterError
from off2on.recipe.hyperparameters import PRESET

OF_STRATEGY, OF_ONLINE = "strategy.", "online."


def has_setting(name: str, algorithm: str, strategy: str) -> bool:
    """Return True if the algorithm, its online settings or the strategy has the name."""
    return name == PRESET or bool(owners(name, algorithm, strategy))


def rule_of(name: str, algorithm: str, strategy: str) -> Any:
    """Return the rule of a name (meaning, range, search range), or None."""
    return next((kind.rules()[rest] for kind, rest in owners(name, algorithm, strategy)), None)


def type_of(name: str, algorithm: str, strategy: str) -> Any:
    """Return the annotated type of the values of a name."""
    return next((typing.get_type_hints(kind)[rest] for kind, rest in owners(name, algorithm, strategy)), str)


def owners(name: str, algorithm: str, strategy: str) -> list[tuple[Any, str]]:
    """Return the settings classes that define a name, each with the name without its prefix."""
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


def unknown_name(
    name: str, algorithms: tuple[str, ...], strategies: tuple[str, ...], also: Sequence[str] = ()
) -> HyperparameterError:
    """Return the error for a name that no algorithm or strategy of the search has.

    Args:
        name: The unknown name.
        algorithms: The algorithms of the search.
        strategies: The strategies of the search.
        also: Other valid names, of which one may have been meant.
    """
    from off2on.algorithms import find_algorithm
    from off2on.online.settings import OnlineSettings
    from off2on.strategies import find_strategy

    own = [rule for each in algorithms for rule in find_algorithm(each).Hyperparameters.rules()]
    prefix, owners = "", algorithms
    if name.startswith(OF_STRATEGY):
        prefix, owners = OF_STRATEGY, strategies
        own = [rule for each in strategies for rule in find_strategy(each).Options.rules()]
    elif name.startswith(OF_ONLINE):
        prefix, own = OF_ONLINE, [*OnlineSettings.rules(), *own]
    known = [prefix + rule for rule in dict.fromkeys(own)]
    what = f"{owners[0]} has no '{name}'."
    if len(owners) > 1:
        what = f"none of {', '.join(owners)} has '{name}'."
    return HyperparameterError(what, f"All: {' '.join(known) or 'none'}", given=name, known=[*known, *also])
