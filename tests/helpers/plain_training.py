"""Training without a learner: batches, losses, a step of Adam for each, and targets that follow."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.objectives import apply_objectives


def learn(recipe: Any, nets: Any, hp: Any, batches: Iterable[Batch]) -> None:
    """Make an update with each batch."""
    optimizers = {
        one.name: torch.optim.Adam(getattr(nets, one.name).parameters(), recipe.lr(one.name, hp, 0.0))
        for one in recipe.objectives_in_order()
    }

    def step(name: str, loss: Tensor, progress: float) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for update, batch in enumerate(batches, 1):
        apply_objectives(recipe, nets, batch, hp, update, step)
        with torch.no_grad():
            for name in nets.targets:
                own, target = getattr(nets, name), getattr(nets.target, name)
                for mine, its in zip(own.parameters(), target.parameters(), strict=True):
                    its.lerp_(mine, hp.polyak)
