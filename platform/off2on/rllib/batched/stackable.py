"""Check that a recipe's losses can be computed for several learners at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import RecipeError
from off2on.recipe.batch import Batch
from off2on.replay.augmentation.compose import layout_for
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.batched.stack import StackedNetworks

ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD)
"""Optimisers that update each parameter independently, so that several networks can share one vector."""

ROWS = 16
"""Batch size of the check."""

TRY_SEPARATELY = "leave out --together: the seeds are then trained one after another"


def gradients(
    stack: StackedNetworks,
    recipe: Any,
    hp: Any,
    columns: dict[str, Tensor],
    generators: Sequence[torch.Generator],
    progress: float,
    real: int,
) -> None:
    """Compute the gradients of all objectives on columns [S, B, …], without a step.

    Args:
        stack: The networks.
        recipe: The algorithm.
        hp: The hyperparameters.
        columns: Columns of one batch for each network.
        generators: One generator for each network.
        progress: Progress of the batch; see `Batch`.
        real: Number of rows of the batch that are not model rollouts.
    """

    def program(nets: Any, draws: PerNetworkRandom, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = Batch(**parts)
        batch.progress, batch.real = progress, real
        batch = recipe.prepare(nets, batch, hp)
        for objective in recipe.objectives_in_order():
            parameters = stack.flat[objective.name].parameters
            loss, _ = recipe.loss(objective.name, nets, batch, hp)
            draws.run_unbatched(lambda losses: torch.autograd.grad(losses.sum(), parameters)[0], loss)  # noqa: B023
        return {}

    stack.run(program, generators, columns)


def check_batchable(recipe: Any, hp: Any, shards: Shards) -> None:
    """Check that the recipe's losses can be computed for two networks at once, on random rows.

    Raises:
        RecipeError: They cannot, or an optimiser is not elementwise.
    """
    layout = layout_for(shards, recipe, hp)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [recipe.build_nets(shards.observation_space, shards.action_space, hp) for _ in range(2)]
        columns = vars(layout.split(2 * torch.rand(len(nets), ROWS, layout.width) - 1))
    columns |= {name: torch.zeros(len(nets), ROWS) for name in ("mask", "last") if name in columns}
    if layout.num_actions:
        columns["action"] = torch.arange(ROWS).remainder(layout.num_actions).float().expand(len(nets), ROWS)
    stack = StackedNetworks(nets)
    for objective in recipe.objectives_in_order():
        name = objective.name
        optimizer = recipe.optimizer(name, hp, stack.flat[name].vector)
        if type(optimizer) not in ELEMENTWISE:
            raise RecipeError(
                f"the seeds of {recipe.__name__} cannot be trained together: the "
                f"optimiser of {name} is {type(optimizer).__name__}.",
                f"Expected an elementwise optimiser: {', '.join(kind.__name__ for kind in ELEMENTWISE)}.",
                TRY_SEPARATELY,
            )
    try:
        for progress in (0.0, 1 - 1e-6):
            gradients(stack, recipe, hp, columns, [torch.Generator() for _ in nets], progress, ROWS)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"the seeds of {recipe.__name__} cannot be trained together: its losses cannot be computed for "
            "several networks at once.",
            f"torch.func.vmap: {str(error).strip().splitlines()[0]}",
            TRY_SEPARATELY,
        ) from error
