"""Hyperparameters that define networks and optimisers are marked, and refused online."""

import sys
from typing import Any

import gymnasium as gym
import pytest
import torch
from problems import SPACES, random_batch, small

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.awac import AWAC
from off2on.algorithms.awr import AWR
from off2on.algorithms.bcq import BCQ
from off2on.algorithms.redq import REDQ
from off2on.errors import HyperparameterError
from off2on.online.settings import split_overrides
from off2on.recipe.batch import Batch
from off2on.recipe.objectives import apply_objectives

OBS = gym.spaces.Box(-1, 1, (5,))
ALSO_IN_LOSSES = {"critics", "agents", "policy", "diffusion_steps", "samples"}
"""Marked hyperparameters that define networks and are read in losses, which must agree with the networks."""


def spied(recipe: Any) -> tuple[Any, set[str]]:
    """Return hyperparameters, and the names that have been read from them, also from copies of them."""
    names, read = {*recipe.Hyperparameters.rules()}, set()

    class Spied(recipe.Hyperparameters):
        def __getattribute__(self, name: str) -> Any:
            if name in names:
                code = sys._getframe(1).f_code
                copied = code.co_filename == "<string>" or "dataclasses" in code.co_filename
                if not copied and code.co_name not in ("__post_init__", "as_dict"):
                    read.add(name)
            return super().__getattribute__(name)

    return Spied(**small(recipe)), read


def use(recipe: Any, nets: Any, hp: Any, batch: Batch) -> None:
    """Call all hooks of the offline and the online phase that may read hyperparameters."""
    for progress in (0.0, 0.5, 1.7):
        for update in (1, 2, 40, 250):  # 1 is of AWR's values, 250 of its policy
            batch.progress = progress
            apply_objectives(recipe, nets, Batch(**vars(batch)), hp, update, lambda *_: None)
            recipe.is_relabel_due(hp, update)
            for name in nets.targets:
                recipe.target_rate(name, hp, update, progress)
        for objective in recipe.objectives_in_order():
            recipe.lr(objective.name, hp, progress)
            recipe.max_gradient_norm(objective.name, hp)
    recipe.max_joint_gradient_norm(hp)
    with torch.no_grad():
        for explore in (False, True):
            recipe.act(nets, batch.obs, hp, explore)
        if recipe.rollout_schedule(hp) is not None:
            recipe.generate_rollouts(nets, batch, hp)
        if recipe.relabelled_columns:
            recipe.relabel(nets, batch, hp, 1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_is_only_read_before_the_first_update_is_marked(name: str):
    recipe = find_algorithm(name)
    hp, read = spied(recipe)
    nets = recipe.build_nets(OBS, SPACES[recipe.actions], hp)
    for objective in recipe.objectives_in_order():
        recipe.optimizer(objective.name, hp, torch.zeros(3, requires_grad=True))
    batch = random_batch(recipe, hp)
    if recipe.fitted_networks:
        recipe.fit(nets, batch, hp, torch.Generator())
    before = {*read}
    read.clear()
    use(recipe, nets, hp, batch)
    marked = recipe.Hyperparameters.built()
    assert before - read <= marked
    assert marked & read <= ALSO_IN_LOSSES, "it has an effect"


def test_a_marked_hyperparameter_is_refused_online_and_the_mark_is_inherited():
    for recipe, name in ((BCQ, "perturbation"), (AWAC, "weight_decay"), (AWR, "momentum"), (REDQ, "critics")):
        with pytest.raises(HyperparameterError, match=f"{name} must be the same in the online") as refusal:
            split_overrides({name: "0.5"}, recipe)
        assert f"{name} defines networks, optimisers" in refusal.value.expected
