"""Check that an algorithm, the data and new data are compatible."""

from typing import Any

import numpy as np

from datasets_io import Shards
from off2on.errors import HyperparameterError, RecipeError
from off2on.recipe.chunks import chunk_of
from off2on.recipe.histories import context_of
from off2on.replay.augmentation.base import BatchAugmentation
from off2on.replay.augmentation.catalogue import check_augmentations, parse_entry
from off2on.replay.augmentation.compose import episode_augmentations, episode_changes
from off2on.replay.offline_rows import layout_of
from off2on.rllib.update_step import trained_objectives

ROUNDING = 1e-5
"""Largest difference of two equal bounds of actions, as a share of their range."""


def check_new_data(shards: Shards, new: Shards, steps: int) -> None:
    """Check that the new data fit into the spaces of the data, and have enough transitions."""
    for kind in ("observations", "actions"):
        old, other = (getattr(each, f"{kind[:-1]}_space") for each in (shards, new))
        if old.shape != other.shape or getattr(old, "n", None) != getattr(other, "n", None):
            raise RecipeError(f"{new.name} has {kind} in {other}, {shards.name} in {old}.")
    if steps > new.rows:
        raise RecipeError(
            f"{new.name} has {new.rows:,} transitions, fewer than the {steps:,} requested.",
            "Each transition is used once, as one step.",
            f"--online {new.rows}",
        )
    if not hasattr(shards.action_space, "n"):
        _check_bounds(shards, new)


def _check_bounds(shards: Shards, new: Shards) -> None:
    """Check that continuous actions of the new data are within the bounds of the data, but for rounding."""
    low, high = shards.action_space.low.ravel(), shards.action_space.high.ravel()
    least, most = (np.ravel(new.manifest.statistics["actions"][side]) for side in ("min", "max"))
    slack = ROUNDING * (high - low)
    beyond = np.flatnonzero((least < low - slack) | (most > high + slack))
    if len(beyond):
        index = beyond[0]
        raise RecipeError(
            f"action {index} of the new data {new.name} is between {least[index]:g} and {most[index]:g}; the "
            f"bounds of {shards.name} are {low[index]:g} and {high[index]:g}.",
            "It would be clipped. Data without declared bounds have the range of their own values: train on "
            "both as one data set, or declare bounds for the first (--env ID; bounds=LOW:HIGH of a table).",
        )


def check_actions(recipe: Any, shards: Shards) -> None:
    """Check that the algorithm supports the data's kind of actions, and that they are bounded and vary."""
    space = shards.action_space
    are_choices = hasattr(space, "n")
    if are_choices != (recipe.actions == "discrete"):
        raise RecipeError(
            f"{recipe.__name__} needs {recipe.actions} actions; those of {shards.name} are {space}.",
            "`off2on algos` lists the algorithms for each kind. Whole numbers of a table are choices, unless "
            "it was added with continuous=true.",
            f"off2on train {'discrete_cql' if are_choices else 'iql'} {shards.path} --updates 10k",
        )
    if are_choices:
        return
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise RecipeError(
            f"the actions of {shards.name} have no bounds: {space}.",
            "They are scaled to [-1, 1]; the data set must declare a bounded Box.",
        )
    fixed = np.flatnonzero(space.low == space.high)
    if len(fixed):  # scaling would divide by zero
        raise RecipeError(
            f"action {fixed[0]} of {shards.name} has only one value, {np.ravel(space.low)[fixed[0]]:g}.",
            "They are scaled to [-1, 1]: leave out a column that never varies, or give its range "
            "(--env ID; bounds=LOW:HIGH of a table).",
        )


def check_batches(recipe: Any, hp: Any, online_hp: Any, learners: int) -> None:
    """Check that batches can be shared by the learners, and have the same model rollouts in both phases.

    Args:
        recipe: The algorithm.
        hp: Hyperparameters of the offline phase.
        online_hp: Hyperparameters of the online phase.
        learners: Number of learners that share a batch.

    Raises:
        HyperparameterError: They cannot.
    """
    for name, size in (("batch_size", hp.batch_size), ("online.batch_size", online_hp.batch_size)):
        if size % learners:
            raise HyperparameterError(
                f"{name} {size} is not a multiple of the number of learners, {learners}.",
                "Each learner gets an equal part of a batch.",
            )
    if recipe.rollout_schedule(hp) != recipe.rollout_schedule(online_hp):
        raise HyperparameterError(
            "the model rollouts must be the same in both phases.",
            "Their buffer is built once: real_ratio, rollout_every, rollout_starts, horizon and rounds_kept "
            "have no value of their own online.",
        )


def check_rows(recipe: Any, hp: Any, online_hp: Any) -> None:
    """Check that an algorithm can use the augmentations, and stored rows the settings of the online phase.

    Args:
        recipe: The algorithm.
        hp: Hyperparameters of the offline phase.
        online_hp: Hyperparameters of the online phase.

    Raises:
        HyperparameterError: They do not.
    """
    check_augmentations(hp.augment, recipe)
    if "ret" in recipe.columns and online_hp.discount != hp.discount:
        raise HyperparameterError(
            f"discount must be the same in both phases for {recipe.__name__}: got {hp.discount:g} offline, "
            f"{online_hp.discount:g} online.",
            "The returns to go are discounted with it before the rows are stored.",
        )
    if not episode_changes(hp):
        return
    chunk, context = chunk_of(hp), context_of(hp)
    window = f"context={context}" if context else f"chunk={chunk}" if chunk > 1 else ""
    source = window or f"augment={','.join(hp.augment)}"
    for entry in hp.augment:
        kind = parse_entry(entry)[0]
        is_second = bool(window and episode_augmentations([entry]))
        needs_one = getattr(kind, "single_steps", False) or (context and issubclass(kind, BatchAugmentation))
        if is_second or needs_one:
            raise HyperparameterError(
                f"'{entry}' needs rows of one step, but {source} makes rows of several steps.",
                "Leave out one of the two.",
            )
    if online_hp.discount != hp.discount:
        raise HyperparameterError(
            f"discount must be the same in both phases with rows of several steps: got {hp.discount:g} "
            f"offline, {online_hp.discount:g} online.",
            "The rewards of several steps are summed with it before the rows are stored.",
        )


def check_online(recipe: Any, hp: Any, steps: int) -> None:
    """Check that an algorithm has an online phase of a number of steps.

    Raises:
        RecipeError: Its policy decides by a history.
    """
    if steps and context_of(hp):
        raise RecipeError(
            f"{recipe.__name__} has no online phase: it imitates recorded actions, and does not explore.",
            "Fine-tuning it online is another method (Zheng et al. 2022, arXiv:2202.05607). Evaluations in "
            "the environment need no online phase.",
            "--online 0",
        )


def check_offline(recipe: Any, hp: Any, online_hp: Any, updates: int) -> None:
    """Check that without offline updates no network stays as it was drawn.

    Args:
        recipe: The algorithm.
        hp: Hyperparameters of the offline phase.
        online_hp: Hyperparameters of the online phase.
        updates: Number of offline updates.

    Raises:
        RecipeError: An objective is only due offline.
    """
    if updates:
        return
    online = trained_objectives(recipe, online_hp, 1, 1.0)
    for objective in trained_objectives(recipe, hp, 1, 0.0):
        if objective not in online:
            raise RecipeError(
                f"{recipe.__name__} trains '{objective.name}' only offline, and there are 0 offline updates.",
                "",
                "--updates 100k",
            )


def check_order(recipe: Any, shards: Shards, learners: int, memory_budget: int) -> None:
    """Check that an algorithm that needs whole episodes in order can hold all of the data at once.

    Args:
        recipe: The algorithm.
        shards: The data.
        learners: Number of learners that share the data.
        memory_budget: Largest number of bytes that a learner holds.
    """
    layout = layout_of(shards, recipe.columns, recipe.relabelled_columns)
    needed = 4 * layout.width * sum(-(-piece.size // learners) for piece in shards.pieces)
    if recipe.relabelled_columns and needed > memory_budget:
        raise RecipeError(
            f"{recipe.__name__} needs whole episodes, and the {needed:,} bytes of {shards.name} "
            f"per learner exceed the memory budget of {memory_budget:,}.",
            "Larger data are streamed in shuffled order.",
            f"--memory {needed}",
        )
