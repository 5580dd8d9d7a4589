"""Find losses and weights that are NaN or infinite.

Losses are checked by their means over a block of updates, which are read anyway; only in a block with such a
mean is the update looked for. Weights are checked before each evaluation and checkpoint.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from off2on.errors import Diverged

if TYPE_CHECKING:
    from off2on.rllib.learner import RecipeLearner


def checked_means(
    learner: "RecipeLearner", logged: Mapping[str, list[Tensor]], first: int
) -> dict[str, float]:
    """Return the means of losses and metrics over a block of updates, whose values are scalars.

    Args:
        learner: The learner, after the block.
        logged: Values by name.
        first: Number of the first update of the block.

    Raises:
        Diverged: The mean of a loss is NaN or infinite.
    """
    means = {name: float(torch.stack(values).mean()) for name, values in logged.items()}
    error = find_divergence(learner, means, lambda name: torch.stack(logged[name]), first, learner.updates)
    if error is not None:
        raise error
    return means


def find_divergence(
    learner: "RecipeLearner",
    means: Mapping[str, float],
    values: Callable[[str], Tensor],
    first: int,
    last: int,
) -> Diverged | None:
    """Return the error of the earliest loss in a block of updates that is NaN or infinite; None without one.

    Args:
        learner: The learner.
        means: Means over the block, by name.
        values: Function from the name of a loss to its values [n] in the updates of the block that have it.
        first: Number of the first update of the block, counted from 1.
        last: Number of its last update.
    """
    recipe, found = learner.recipe, []
    for order, objective in enumerate(recipe.objectives_in_order()):
        loss = f"{objective.name}/loss"
        if math.isfinite(means.get(loss, 0.0)):
            continue
        updates = [
            update
            for update in range(first, last + 1)
            if recipe.is_due(objective, learner.hp, update, learner.progress_at(update))
        ]
        finite = torch.isfinite(values(loss)).tolist()
        if not all(finite):  # finite ones may have an infinite sum
            index = finite.index(False)
            # A learner without the objective in some updates of the block has fewer values than updates.
            update = updates[index] if len(updates) == len(finite) else last
            found.append((update, order, objective.name, values(loss)[index].item()))
    if not found:
        return None
    update, _, name, value = min(found)
    kind = "NaN" if math.isnan(value) else "infinite"
    return Diverged(f"the loss of the objective '{name}' is {kind} at update {update:,}.", name, update)


def check_weights(learner: "RecipeLearner") -> None:
    """Check the weights of all networks of a learner.

    Raises:
        Diverged: A weight is NaN or infinite.
    """
    for name, flat in learner.flat.items():
        if not torch.isfinite(flat.vector).all():
            what = f"weights of the network '{name}' are NaN or infinite after update {learner.updates:,}."
            raise Diverged(what, name, learner.updates)
