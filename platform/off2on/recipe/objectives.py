"""Compute the losses of one update of a recipe."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.networks import Nets


def apply_objectives(
    recipe: Any, nets: Nets, batch: Batch, hp: Any, update: int, step: Callable[[str, Tensor, float], object]
) -> dict[str, Tensor]:
    """Compute the losses of one update, for every objective that is due, in order.

    Args:
        recipe: Algorithm.
        nets: Networks.
        batch: Transitions to train on.
        hp: Hyperparameters.
        update: Number of the update, counted from 1.
        step: Function ``(name, loss, progress)`` that takes the gradient of the loss and updates the network
            `name`, at once or after the last loss; called before the next loss is computed.

    Returns:
        Losses by objective, and the metrics of the algorithm.
    """
    batch, progress = recipe.prepare(nets, batch, hp), batch.progress
    logged: dict[str, Tensor] = {}
    for objective in recipe.objectives_in_order():
        if recipe.is_due(objective, hp, update, progress):
            loss, metrics = recipe.loss(objective.name, nets, batch, hp)
            step(objective.name, loss, progress)
            logged |= {f"{objective.name}/loss": loss.detach()} | metrics
    return logged
