"""What a loss returns: one number to differentiate, and metrics."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from off2on.algorithms.bc import BC
from off2on.errors import RecipeError
from off2on.recipe.batch import Batch
from off2on.recipe.networks import Nets
from off2on.recipe.objectives import apply_objectives


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda loss: loss, "compute_actor_loss returned a value of the type Tensor"),
        (lambda loss: (loss, None), "compute_actor_loss returned a value of the type tuple"),
        (lambda loss: (loss.expand(2), {}), r"compute_actor_loss returned has the shape \[2\]"),
        (lambda loss: (0.5, {}), "compute_actor_loss returned has the type float"),
    ],
)
def test_a_loss_that_is_no_number_with_metrics_is_refused_by_its_name(
    problem: Callable[..., Any], returned: Callable[[Tensor], Any], said: str
):
    class Mine(BC):
        @classmethod
        def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Any:
            return returned(super().compute_actor_loss(nets, batch, hp)[0])

    made = problem(Mine)
    with pytest.raises(RecipeError, match=rf"Mine\.{said}"):
        apply_objectives(Mine, made.nets, made.batch, made.hp, 1, lambda *_: None)
