"""The catalogue of augmentations, for any algorithm: ``augment=top:0.5,noise:0.003``.

An entry of ``augment`` is NAME or NAME:NUMBER with a name of the catalogue, or, for a custom class,
``package.module:Class`` or ``package.module:Class:NUMBER``. Entries are applied in their order.

The catalogue holds names of classes as text, so that listing it imports no torch.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datasets_io.column_names import EPISODE_COLUMNS
from datasets_io.imports import import_object
from datasets_io.quantities import number
from off2on.errors import HyperparameterError, UnknownName

if TYPE_CHECKING:
    from off2on.replay.augmentation.base import Augmentation

CATALOGUE = {
    "top": ("off2on.replay.augmentation.top:Top", "use only the episodes of highest return"),
    "returns": (
        "off2on.replay.augmentation.trajectories:Returns",
        "draw rows by the return of their episode",
    ),
    "advantages": (
        "off2on.replay.augmentation.trajectories:Advantages",
        "draw rows by the return of their episode relative to its first observation",
    ),
    "noise": ("off2on.replay.augmentation.states:Noise", "add Gaussian noise to observations"),
    "uniform": ("off2on.replay.augmentation.states:Uniform", "add uniform noise to observations"),
    "amplitude": ("off2on.replay.augmentation.states:Amplitude", "scale observations by a random factor"),
    "dropout": (
        "off2on.replay.augmentation.states:Dropout",
        "replace one dimension of observations by its mean",
    ),
    "mixup": (
        "off2on.replay.augmentation.states:Mixup",
        "interpolate between observation and next observation",
    ),
    "steps": ("off2on.replay.augmentation.steps:Steps", "learn from targets of several steps"),
    "bootstrap": (
        "off2on.replay.augmentation.bootstrap:Bootstrap",
        "train each critic on its own random rows",
    ),
}


def parse_entry(entry: str) -> "tuple[type[Augmentation], float]":
    """Return the class and the number of an entry.

    Raises:
        UnknownName: There is no such augmentation.
        HyperparameterError: Its number is not a number, or out of range.
    """
    name, _, rest = entry.partition(":")
    target, text = (CATALOGUE[name][0], rest) if name in CATALOGUE else _parse_custom(entry)
    kind = _import(target)
    try:
        value = number(text) if text or entry.endswith(":") else kind.default
    except ValueError:
        value = math.nan
    is_whole = math.isfinite(value) and value == int(value)
    if not (math.isfinite(value) and kind.number.allows(value) and (is_whole or not kind.whole)):
        whole = "a whole number " if kind.whole else ""
        raise HyperparameterError(
            f"the number of '{entry}' must be {whole}in the range {kind.number.range()}: got '{text}'.",
            f"The number is: {kind.number.meaning}; default {kind.default:g}.",
        )
    return kind, value


def check(entries: Sequence[str]) -> None:
    """Check that all entries can be parsed; see `parse_entry`."""
    for entry in entries:
        parse_entry(entry)


def incompatibility(kind: "type[Augmentation]", recipe: Any) -> str | None:
    """Return the reason why an algorithm cannot use an augmentation; None if it can."""
    names = [objective.name for objective in recipe.objectives_in_order()]
    for name in kind.objectives:
        if name not in names:
            return f"it needs the objective '{name}', which the algorithm does not have"
    for name in kind.columns:
        if name not in recipe.columns:
            return f"it needs the column '{name}', which the algorithm does not read"
    from off2on.replay.augmentation.base import EpisodeAugmentation

    return _one_step_reason(recipe) if issubclass(kind, EpisodeAugmentation) else None


def _one_step_reason(recipe: Any) -> str | None:
    """Return the reason why an algorithm needs rows of one step; None if it can learn from longer windows.

    Such a window has no next action or return to go of its own, and a dynamics model learns single steps.
    """
    for name in EPISODE_COLUMNS:
        if name in recipe.columns:
            return f"the algorithm reads '{name}', which belongs to rows of one step"
    if recipe.relabelled_columns:
        return "the algorithm computes labels from rows of one step"
    if recipe.fitted_networks:
        return "the algorithm fits a model to rows of one step"
    return None


def check_augmentations(entries: Sequence[str], recipe: Any) -> None:
    """Check that an algorithm can use the entries.

    Raises:
        HyperparameterError: The algorithm cannot use one of them; the error lists the usable ones.
    """
    for entry in entries:
        if reason := incompatibility(parse_entry(entry)[0], recipe):
            usable = [name for name in CATALOGUE if incompatibility(parse_entry(name)[0], recipe) is None]
            raise HyperparameterError(
                f"{recipe.__name__} cannot use the augmentation '{entry}': {reason}.",
                f"Expected one of: {' '.join(usable)}.",
            )


def _parse_custom(entry: str) -> tuple[str, str]:
    """Split an entry that is not in the catalogue into ``package.module:Class`` and its number."""
    module, _, rest = entry.partition(":")
    attribute, _, text = rest.partition(":")
    if not attribute.isidentifier():
        raise UnknownName(
            f"no augmentation is called '{module}'.",
            f"All: {' '.join(CATALOGUE)}, or package.module:Class.",
            given=module,
            known=CATALOGUE,
        )
    return f"{module}:{attribute}", text


def _import(target: str) -> "type[Augmentation]":
    from off2on.replay.augmentation.base import BatchAugmentation, EpisodeAugmentation, EpisodeWeighting

    kinds = EpisodeWeighting, EpisodeAugmentation, BatchAugmentation
    found: type[Augmentation] = import_object(target, *kinds, known=CATALOGUE)
    return found
