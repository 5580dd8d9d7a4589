"""Hyperparameters by which offline updates depend on how many are planned are declared as `schedules`."""

from collections.abc import Callable
from typing import Any

import pytest

from off2on.algorithms import CATALOGUE, find_algorithm

PROGRESS = (0.0, 0.03, 0.3, 0.6, 0.99)
"""Points of the offline phase, one of them within the first share of BEAR."""


def offline_updates(given: Any) -> list[list[Any]]:
    """Return what an update takes from its progress, at each point: learning rates, objectives, losses …"""
    recipe, hp, targets = given.recipe, given.hp, given.nets.targets
    found = []
    for progress in PROGRESS:
        given.batch.progress = progress
        rates = [recipe.target_rate(name, hp, update, progress) for name in targets for update in (1, 8)]
        for objective in recipe.objectives_in_order():
            rates.append(recipe.lr(objective.name, hp, progress))
            rates += [recipe.is_due(objective, hp, update, progress) for update in (1, 2, 8)]
            rates.append(given.loss(objective.name).item())
        found.append(rates)
    return found


def test_without_its_schedules_every_algorithm_is_the_same_at_any_progress(
    recipe: Any, problem: Callable[..., Any]
):
    off = {name: type(getattr(recipe.Hyperparameters(), name))(0) for name in recipe.schedules}
    first, *others = offline_updates(problem(recipe, **off))
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("name", "schedule"), [(name, one) for name in CATALOGUE for one in find_algorithm(name).schedules]
)
def test_every_schedule_changes_an_update(name: str, schedule: str, problem: Callable[..., Any]):
    recipe = find_algorithm(name)
    on = True if isinstance(getattr(recipe.Hyperparameters(), schedule), bool) else 0.2
    first, *others = offline_updates(problem(recipe, **{schedule: on}))
    assert any(other != first for other in others)
