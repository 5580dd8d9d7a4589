"""Whether a recipe's losses can be computed for several networks at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import RecipeError
from off2on.recipe.batch import Batch
from off2on.replay.offline_rows import layout_of
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.batched.stack import StackedNetworks

ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD)
"""Optimisers that move every number by itself, so that those of several networks may lie side by side."""

ROWS = 16
"""Of a batch on which losses are tried."""

ALONE = "leave out --together: the runs then go one after the other"


def gradients(
    stack: StackedNetworks,
    recipe: Any,
    hp: Any,
    columns: dict[str, Tensor],
    noise: Sequence[torch.Generator],
    where: tuple[float, int],
) -> None:
    """The gradients of all objectives, on columns [S, B, …], and no step.

    Args:
        stack: The networks.
        recipe: Whose losses.
        hp: The hyperparameters.
        columns: Of one batch for each network.
        noise: Random numbers of each network.
        where: The batch's progress, and how many of its rows are recorded.
    """

    def program(nets: Any, draws: PerNetworkRandom, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = Batch(**parts)
        batch.progress, batch.real = where
        batch = recipe.prepare(nets, batch, hp)
        for objective in recipe.objectives_in_order():
            parameters = stack.flat[objective.name].parameters
            loss, _ = recipe.loss(objective.name, nets, batch, hp)
            draws.whole(lambda losses: torch.autograd.grad(losses.sum(), parameters)[0], loss)  # noqa: B023
        return {}

    stack.run(program, noise, columns)


def check_together(recipe: Any, hp: Any, shards: Shards) -> None:
    """That the recipe's losses can be computed for two networks at once, on made-up rows.

    Raises:
        RecipeError: They cannot, or the optimiser would mix the networks.
    """
    layout = layout_of(shards, recipe.columns, recipe.relabelled_columns)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [recipe.build_nets(shards.observation_space, shards.action_space, hp) for _ in range(2)]
        columns = vars(layout.split(2 * torch.rand(len(nets), ROWS, layout.width) - 1))
    columns |= {name: torch.zeros(len(nets), ROWS) for name in ("mask", "last") if name in columns}
    if layout.choices:
        columns["action"] = torch.arange(ROWS).remainder(layout.choices).float().expand(len(nets), ROWS)
    stack = StackedNetworks(nets)
    for objective in recipe.objectives_in_order():
        name = objective.name
        optimizer = recipe.optimizer(name, hp, stack.flat[name].vector)
        if type(optimizer) not in ELEMENTWISE:
            raise RecipeError(
                f"the seeds of {recipe.__name__} cannot be trained together: {name} is moved by "
                f"{type(optimizer).__name__}.",
                "Expected an optimiser that moves every number by itself: "
                f"{', '.join(kind.__name__ for kind in ELEMENTWISE)}.",
                ALONE,
            )
    try:
        for progress in (0.0, 1 - 1e-6):
            gradients(stack, recipe, hp, columns, [torch.Generator() for _ in nets], (progress, ROWS))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"the seeds of {recipe.__name__} cannot be trained together: its losses cannot be computed for "
            "several networks at once.",
            f"torch.func.vmap says: {str(error).strip().splitlines()[0]}",
            ALONE,
        ) from error
