"""A bandit with two equally good actions, -0.7 and 0.7, and a bad mean."""

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hooks import apply_objectives

GOOD = 0.7
SETTINGS = {"hidden": (64, 64), "batch_size": 128, "actor_lr": 1e-3, "critic_lr": 1e-3}
FLOW = {"flow_lr": 2e-3, "flow_steps": 5}


def trained(recipe: Any, seed: int, updates: int, **more: Any) -> Tensor:
    """Train on the two actions, and return exploring actions [512] of the policy."""
    torch.manual_seed(seed)
    hp = recipe.Hyperparameters.parse(SETTINGS | more, recipe.__name__)
    nets = recipe.build_nets(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Box(-1, 1, (1,)), hp)
    optimizers = {
        objective.name: torch.optim.Adam(
            getattr(nets, objective.name).parameters(), recipe.lr(objective.name, hp, 0.0)
        )
        for objective in recipe.objectives_in_order()
    }

    def step(name: str, loss: Tensor, progress: float) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for update in range(1, updates + 1):
        good = GOOD * (2 * torch.randint(2, (128, 1)).float() - 1) + 0.03 * torch.randn(128, 1)
        other = 2 * torch.rand(128, 1) - 1
        action = torch.where(torch.rand(128, 1) < 0.1, other, good)  # the critics must know the bad ones
        obs = torch.zeros(128, 1)
        reward = -10 * (action.abs() - GOOD).square().squeeze(-1)
        batch = Batch(
            obs=obs, action=action, reward=reward, next_obs=obs, mask=torch.zeros(128), last=torch.ones(128)
        )
        apply_objectives(recipe, nets, batch, hp, update, step)
        with torch.no_grad():
            for name in nets.targets:
                pairs = zip(
                    getattr(nets.target, name).parameters(), getattr(nets, name).parameters(), strict=True
                )
                for target, own in pairs:
                    target.lerp_(own, hp.polyak)
    with torch.no_grad():
        return recipe.act(nets, torch.zeros(512, 1), hp, True).squeeze(-1)


def shares(actions: Tensor) -> tuple[float, float]:
    """Shares of actions on either side of the bad middle."""
    return (actions < -GOOD / 2).float().mean().item(), (actions > GOOD / 2).float().mean().item()
