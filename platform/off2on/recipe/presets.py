"""Choose the preset of a data set by the data set's name: ``preset=auto``."""

from collections.abc import Mapping
from typing import Any

from off2on.errors import HyperparameterError
from off2on.recipe.hyperparameters import PRESET

AUTO = "auto"
"""Value of ``preset`` that stands for the preset of the data set."""

FAMILIES = dict.fromkeys(("pen", "door", "hammer", "relocate"), "adroit") | dict.fromkeys(
    ("halfcheetah", "hopper", "walker2d"), "locomotion"
)
"""First word of a data set's name to the family of data sets that presets may name instead."""

COMPOUNDS = ("medium-replay", "medium-expert", "full-replay")
"""Parts of names that are one word: a preset of ``hopper-medium`` is not for ``hopper-medium-replay-v2``."""

OGBENCH_MAZES = {"navigate", "stitch", "explore"}
"""Words in the names of OGBench's mazes, whose AntMaze has other rewards than D4RL's."""


def with_preset_of_data(kind: Any, values: Mapping[str, object], data: str, owner: str) -> dict[str, object]:
    """Return hyperparameters in which ``preset=auto`` is replaced by the name of the data set's preset.

    Args:
        kind: Class of the hyperparameters.
        values: Hyperparameters, typed or as text.
        data: Name of the data set.
        owner: Name of the algorithm, for messages.

    Raises:
        HyperparameterError: No preset fits the data set.
    """
    found = dict(values)
    if found.get(PRESET) == AUTO:
        found[PRESET] = preset_of(kind.presets, data, owner)
    return found


def preset_of(presets: Mapping[str, object], data: str, owner: str) -> str:
    """Return the longest name of a preset that a data set's name begins with, word by word.

    Where none does, the first word is replaced by its family: ``pen-human-v1`` by ``adroit-human-v1``.
    """
    name = data.rsplit("/", 1)[-1].removeprefix("ogbench-").lower()
    first = name.partition("-")[0]
    named = [name, name.replace(first, FAMILIES[first], 1)] if first in FAMILIES else [name]
    for words in map(_words, named):
        fitting = [preset for preset in presets if _fits(_words(preset), words)]
        if fitting:
            return max(fitting, key=len)
    raise HyperparameterError(
        f"{owner} has no preset for the data set '{data}'.",
        f"All: {' '.join(presets) or 'none'}; preset=auto takes the longest that the name begins with.",
        given=name,
        known=presets,
    )


def _words(name: str) -> list[str]:
    for compound in COMPOUNDS:
        name = name.replace(compound, compound.replace("-", " "))
    return name.split("-")


def _fits(preset: list[str], data: list[str]) -> bool:
    """Return True if a preset's words are the first ones of a data set's name."""
    other_rewards = preset[0] == "antmaze" and not OGBENCH_MAZES & {*preset} and OGBENCH_MAZES & {*data}
    return data[: len(preset)] == preset and not other_rewards
