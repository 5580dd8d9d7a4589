"""Several seeds as one program learn what each would learn alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from off2on.together import Together

Build = Callable[..., Any]
SEEDS = (3, 4)


def data(recipe: Any) -> str:
    return "toy-cartpole" if recipe.actions == "discrete" else "wide"


def learnt(learner: Any) -> dict[str, Any]:
    """Everything that an update changes."""
    states = {objective.name: learner.optimizer_state(objective.name) for objective in learner.recipe.plan()}
    return {"updates": learner.updates, "nets": dict(learner.nets.state_dict()), "optimizers": states}


def test_every_algorithm_learns_together_what_it_learns_alone(build_learner: Build, recipe: Any):
    """Products of stacked matrices are summed in another order: hence no more than close."""
    alone, abreast = ([build_learner(recipe, data(recipe), seed=seed) for seed in SEEDS] for _ in range(2))
    group = Together(abreast)
    for updates in (3, 2):
        expected = [one.advance(updates) for one in alone]
        found = [group.advance(one, updates) for one in abreast]
        for mine, its in zip(found, expected, strict=True):
            assert mine == pytest.approx(its, rel=1e-3, abs=1e-4)
    for mine, its in zip(abreast, alone, strict=True):
        torch.testing.assert_close(learnt(mine), learnt(its), rtol=1e-3, atol=1e-4)
