"""A bandit with two equally good actions, -0.7 and 0.7, and a bad mean."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from plain_training import learn
from torch import Tensor

from off2on.recipe.batch import Batch

GOOD = 0.7
SETTINGS = {"hidden": (64, 64), "batch_size": 128, "actor_lr": 1e-3, "critic_lr": 1e-3}
FLOW = {"flow_lr": 2e-3, "flow_steps": 5}


def seeds(count: int) -> pytest.MarkDecorator:
    """Return the marks of so many seeds: the first in all runs of the tests, the others with `make learn`."""
    later = [pytest.param(seed, marks=pytest.mark.learning) for seed in range(1, count)]
    return pytest.mark.parametrize("seed", [0, *later])


def batch() -> Batch:
    """Draw 128 actions: mostly near one of the two good ones, and the reward of each."""
    good = GOOD * (2 * torch.randint(2, (128, 1)).float() - 1) + 0.03 * torch.randn(128, 1)
    other = 2 * torch.rand(128, 1) - 1
    action = torch.where(torch.rand(128, 1) < 0.1, other, good)  # the critics must know the bad ones
    obs = torch.zeros(128, 1)
    reward = -10 * (action.abs() - GOOD).square().squeeze(-1)
    return Batch(
        obs=obs, action=action, reward=reward, next_obs=obs, mask=torch.zeros(128), last=torch.ones(128)
    )


def trained(recipe: Any, seed: int, updates: int, **more: Any) -> Tensor:
    """Train on the two actions, and return exploring actions [512] of the policy."""
    torch.manual_seed(seed)
    hp = recipe.Hyperparameters.parse(SETTINGS | more, recipe.__name__)
    nets = recipe.build_nets(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Box(-1, 1, (1,)), hp)
    learn(recipe, nets, hp, (batch() for _ in range(updates)))
    with torch.no_grad():
        return recipe.act(nets, torch.zeros(512, 1), hp, True).squeeze(-1)


def shares(actions: Tensor) -> tuple[float, float]:
    """Shares of actions on either side of the bad middle."""
    return (actions < -GOOD / 2).float().mean().item(), (actions > GOOD / 2).float().mean().item()
