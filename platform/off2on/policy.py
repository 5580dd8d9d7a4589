"""A policy that can act on its own: the networks it needs, and the units of the world."""

import copy
import io
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from off2on.nets import Nets
from off2on.transforms import Transforms

UNITS = ("obs_mean", "obs_std", "action_low", "action_high")


class Acts(Protocol):
    """The part of a recipe that a policy uses."""

    def act(self, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions at transformed observations [B, D]: [B, A] in [-1, 1], or whole numbers [B]."""


class Policy(nn.Module):
    """From observations in the world's units to actions in the environment's.

    Args:
        recipe: How to act with the networks.
        nets: The networks.
        hp: The recipe's hyperparameters.
        transforms: The units.
    """

    def __init__(self, recipe: Acts, nets: Nets, hp: Any, transforms: Transforms) -> None:
        super().__init__()
        self.recipe, self.nets, self.hp = recipe, nets, hp
        self.discrete = transforms.discrete
        for name in UNITS:
            value = torch.tensor(getattr(transforms, name))
            self.register_buffer(name, value, persistent=False)

    def forward(self, obs: Tensor, explore: bool = False) -> Tensor:
        """Actions in the environment's units at raw observations [B, D]: [B, A] float32, or [B] int64."""
        mean, std, low, high = (self.get_buffer(name) for name in UNITS)
        action = self.recipe.act(self.nets, (obs - mean) / std, self.hp, explore)
        if self.discrete:
            return action
        action = action.clamp(-1, 1)
        # lerp ends exactly on the bounds; low + share * (high - low) may round to just outside.
        return torch.lerp(low, high, (action + 1) / 2)

    def export(self) -> bytes:
        """The deterministic policy as a file's content that `load_policy` reads, without pickle."""
        obs = torch.zeros(2, self.get_buffer("obs_mean").shape[0])
        on_cpu = copy.deepcopy(self).cpu().eval()
        program = torch.export.export(on_cpu, (obs,), dynamic_shapes={"obs": {0: torch.export.Dim("rows")}})
        content = io.BytesIO()
        torch.export.save(program, content)
        return content.getvalue()


def load_policy(path: str | Path) -> nn.Module:
    """Read what `Policy.export` made; needs neither Ray nor the algorithm's class.

    Returns:
        A module from observations [B, D] to actions [B, A], float32, in the world's units.
    """
    with open(path, "rb") as file:
        return torch.export.load(file).module()
