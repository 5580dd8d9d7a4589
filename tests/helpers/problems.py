"""Recipes with all that their losses take: small networks and random transitions; no Ray, no data set."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from histories import random_histories

from off2on.recipe.batch import Batch
from off2on.recipe.chunks import chunk_of
from off2on.recipe.histories import context_of
from off2on.recipe.networks import Nets

SMALL = {
    "hidden": (32, 32), "vae_hidden": (32, 32), "dynamics_hidden": (32, 32, 32, 32),
    "batch_size": 32, "width": 32, "blocks": 1, "context": 4,
}  # fmt: skip
AT_MOST = {
    "samples": 4, "act_samples": 10, "backup_actions": 4, "penalty_samples": 4, "passes": 5, "flow_steps": 4,
}  # fmt: skip
"""What is drawn so many times: the number, unless the default is smaller."""
DREAM = {"termination": "never", "rollout_starts": 50, "dynamics_epochs": 1}
"""For recipes with a model: no rule is known by which the episodes of `wide` end."""


def small(recipe: Any) -> dict[str, Any]:
    """Hyperparameters that make a recipe fast, of those that it has."""
    rules, defaults = recipe.Hyperparameters.rules(), recipe.Hyperparameters()
    most = {name: min(value, getattr(defaults, name)) for name, value in AT_MOST.items() if name in rules}
    return {name: value for name, value in (SMALL | DREAM).items() if name in rules} | most


@dataclass
class Problem:
    """A recipe with networks, a batch and hyperparameters."""

    recipe: Any
    nets: Nets
    batch: Batch
    hp: Any

    def prepared(self, seed: int = 0) -> Batch:
        """The batch with what `prepare` adds, under fixed random numbers."""
        torch.manual_seed(seed)
        batch: Batch = self.recipe.prepare(self.nets, Batch(**vars(self.batch)), self.hp)
        return batch

    def loss(self, objective: str, batch: Batch | None = None, seed: int = 0) -> torch.Tensor:
        """One objective's loss, under fixed random numbers."""
        batch = self.prepared(seed) if batch is None else batch
        torch.manual_seed(seed + 1)
        loss: torch.Tensor = getattr(self.recipe, f"compute_{objective}_loss")(self.nets, batch, self.hp)[0]
        return loss


SPACES = {"continuous": gym.spaces.Box(-1, 1, (3,)), "discrete": gym.spaces.Discrete(4)}


def random_batch(recipe: Any, hp: Any) -> Batch:
    """64 transitions with the columns that the recipe reads, half-way through the offline updates."""

    def action() -> torch.Tensor:
        discrete = recipe.actions == "discrete"
        width = 3 * chunk_of(hp)
        return torch.randint(4, (64,)).float() if discrete else torch.rand(64, width) * 1.9 - 0.95

    batch = Batch(
        obs=torch.randn(64, 5),
        action=action(),
        reward=torch.randn(64),
        next_obs=torch.randn(64, 5),
        mask=(torch.rand(64) > 0.2).float(),
    )
    last = torch.maximum(1 - batch.mask, (torch.rand(64) > 0.9).float())
    last[-1] = 1.0
    going = 1 - last if recipe.actions == "discrete" else (1 - last).unsqueeze(1)
    late = {"ret": torch.randn(64), "last": last, "next_action": action() * going}
    late |= {name: torch.randn(64) for name in recipe.relabelled_columns}
    for name in (*recipe.columns, *recipe.relabelled_columns):
        if name in late:
            setattr(batch, name, late[name])
    if (chunk := chunk_of(hp)) > 1:
        batch.inside = (torch.arange(chunk) < torch.randint(1, chunk + 2, (64, 1))).float()
    if context := context_of(hp):
        batch.obs = random_histories(64, context, 5, 3)
    plan = recipe.rollout_schedule(hp)
    batch.real = 64 if plan is None else min(max(1, round(64 * plan.real_share)), 63)
    batch.progress = 0.5
    return batch
