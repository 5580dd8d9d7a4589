"""Expansions: more, or better, out of the same data, for any algorithm: ``augment=top:0.5,noise:0.003``.

A word is NAME or NAME:NUMBER with a name of the catalogue, or, of one's own,
``package.module:Class`` or ``package.module:Class:NUMBER``. Words apply in their order.

The catalogue holds strings, so that reading it imports nothing.
"""

import importlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from off2on.errors import HyperparameterError, UnknownName, nearest
from off2on.recipe.hyperparameters import number

if TYPE_CHECKING:
    from off2on.replay.augmentation.base import Expansion

CATALOGUE = {
    "top": ("off2on.replay.augmentation.top:Top", "only the episodes of highest return"),
    "returns": ("off2on.replay.augmentation.trajectories:Returns", "rows by their episode's return"),
    "advantages": (
        "off2on.replay.augmentation.trajectories:Advantages",
        "rows by their episode's return, given where it began",
    ),
    "noise": ("off2on.replay.augmentation.states:Noise", "Gaussian noise on observations"),
    "uniform": ("off2on.replay.augmentation.states:Uniform", "uniform noise on observations"),
    "amplitude": ("off2on.replay.augmentation.states:Amplitude", "observations scaled by a random factor"),
    "dropout": ("off2on.replay.augmentation.states:Dropout", "observations that lose a dimension"),
    "mixup": ("off2on.replay.augmentation.states:Mixup", "observations mixed with the next"),
    "bootstrap": ("off2on.replay.augmentation.bootstrap:Bootstrap", "every critic learns from its own rows"),
}


def find_augmentation(word: str) -> "tuple[type[Expansion], float]":
    """The class of a word, and its number.

    Raises:
        UnknownName: There is no such expansion.
        HyperparameterError: Its number is none, or out of range.
    """
    name, _, rest = word.partition(":")
    target, text = (CATALOGUE[name][0], rest) if name in CATALOGUE else _own(word)
    kind = _import(target)
    try:
        value = number(text) if text or word.endswith(":") else kind.default
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and kind.number.allows(value)):
        raise HyperparameterError(
            f"the number of '{word}' must be in the range {kind.number.range()}: got '{text}'.",
            f"It is: {kind.number.meaning}. Without one: {kind.default:g}.",
        )
    return kind, value


def check(words: Sequence[str]) -> None:
    """Refuse words that are none; see `find_augmentation`."""
    for word in words:
        find_augmentation(word)


def unfit(kind: "type[Expansion]", recipe: Any) -> str | None:
    """Why an algorithm cannot be expanded so, None if it can."""
    names = [objective.name for objective in recipe.objectives_in_order()]
    for name in kind.objectives:
        if name not in names:
            return f"it needs the objective '{name}', and there is none"
    for name in kind.columns:
        if name not in recipe.columns:
            return f"it needs the column '{name}', which is not read"
    return None


def check_fit(words: Sequence[str], recipe: Any) -> None:
    """Refuse words that an algorithm cannot be expanded by.

    Raises:
        HyperparameterError: Says why, and what it can.
    """
    for word in words:
        if reason := unfit(find_augmentation(word)[0], recipe):
            fit = [name for name in CATALOGUE if unfit(find_augmentation(name)[0], recipe) is None]
            raise HyperparameterError(
                f"{recipe.__name__} cannot be expanded by '{word}': {reason}.", f"It can by: {' '.join(fit)}"
            )


def _own(word: str) -> tuple[str, str]:
    """``package.module:Class`` and the number of a word that is not of the catalogue."""
    module, _, rest = word.partition(":")
    attribute, _, text = rest.partition(":")
    if not attribute.isidentifier():
        raise UnknownName(
            f"no expansion is called '{module}'.",
            f"{nearest(module, CATALOGUE)}All: {' '.join(CATALOGUE)}, or package.module:Class.",
        )
    return f"{module}:{attribute}", text


def _import(target: str) -> "type[Expansion]":
    from off2on.replay.augmentation.base import BatchAugmentation, EpisodeWeighting

    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownName(
            f"'{target}' cannot be imported: {error}.",
            f"{nearest(module, CATALOGUE)}Expected package.module:Class.",
        ) from None
    if not (isinstance(found, type) and issubclass(found, EpisodeWeighting | BatchAugmentation)):
        raise UnknownName(
            f"'{target}' is not an expansion.",
            "Expected a subclass of EpisodeWeights or BatchChange of off2on.replay.augmentation.base.",
        )
    return found
