"""A policy that can act on its own: the networks it needs, and the units of the world."""

import copy
import io
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from off2on.policy_file import load_program
from off2on.recipe.distributions import END, Distribution
from off2on.recipe.networks import Nets
from off2on.replay.transforms import Transforms

UNITS = ("obs_mean", "obs_std", "action_low", "action_high")


class Acts(Protocol):
    """The part of a recipe that a policy uses."""

    def act(self, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions at transformed observations [B, D]: [B, A] in [-1, 1], or whole numbers [B]."""

    def known_distribution(self, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """What exploring actions are drawn from, if that has a density."""


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
        return self._in_world(self.recipe.act(self.nets, self._seen(obs), self.hp, explore))

    @property
    def has_density(self) -> bool:
        """Whether its exploring actions have one."""
        return self._density(self._two_rows()) is not None

    def sampled(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Exploring actions at raw observations [B, D], and their `log_prob`."""
        policy = self._surely(obs)
        action = policy.draw()
        return self._in_world(action), self._log_prob(
            policy, action if self.discrete else action.clamp(-1, 1)
        )

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """How likely it is to take actions, in the environment's units, when it explores: [B].

        A density, in those units; of dimensions at an end of the action box, the probability of the end, as
        everything beyond is clipped to it. A log probability if actions are whole numbers.

        Args:
            obs: Raw observations [B, D].
            action: [B, A], or [B].

        Raises:
            ValueError: It has no density.
        """
        if not self.discrete:
            low, high = self.get_buffer("action_low"), self.get_buffer("action_high")
            action = (2 * (action - low) / (high - low) - 1).clamp(-1, 1)
        return self._log_prob(self._surely(obs), action)

    def _log_prob(self, policy: Distribution, action: Tensor) -> Tensor:
        density = policy.log_density(action)
        if self.discrete:
            return density
        half = (self.get_buffer("action_high") - self.get_buffer("action_low")) / 2
        return (density - torch.where(action.abs() < END, half.log(), 0.0)).sum(-1)

    def _density(self, obs: Tensor) -> Distribution | None:
        return self.recipe.known_distribution(self.nets, self._seen(obs), self.hp)

    def _surely(self, obs: Tensor) -> Distribution:
        policy = self._density(obs)
        if policy is None:
            raise ValueError("what this policy explores with has no density")
        return policy

    def _seen(self, obs: Tensor) -> Tensor:
        return (obs - self.get_buffer("obs_mean")) / self.get_buffer("obs_std")

    def _in_world(self, action: Tensor) -> Tensor:
        if self.discrete:
            return action
        # lerp ends exactly on the bounds; low + share * (high - low) may round to just outside.
        share = (action.clamp(-1, 1) + 1) / 2
        return torch.lerp(self.get_buffer("action_low"), self.get_buffer("action_high"), share)

    def _two_rows(self) -> Tensor:
        return self.get_buffer("obs_mean").new_zeros(2, self.get_buffer("obs_mean").shape[0])

    def export(self, explore: bool = False) -> bytes:
        """The policy as a file's content that `load_policy` reads, without pickle.

        Args:
            explore: `sampled` instead of the deterministic actions.
        """
        on_cpu = copy.deepcopy(self).cpu().eval()
        module = Sampling(on_cpu) if explore else on_cpu
        rows = {"obs": {0: torch.export.Dim("rows")}}
        program = torch.export.export(module, (on_cpu._two_rows(),), dynamic_shapes=rows)
        content = io.BytesIO()
        torch.export.save(program, content)
        return content.getvalue()


class Sampling(nn.Module):
    """A policy that explores: from observations [B, D] to actions and their log probabilities [B].

    Args:
        policy: Which.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """See `Policy.sampled`."""
        return self.policy.sampled(obs)


def load_policy(path: str | Path) -> nn.Module:
    """Read what `Policy.export` made; needs no Ray and no class of an algorithm, and runs no code in it.

    Returns:
        A module from observations [B, D] to actions [B, A], float32, in the world's units.

    Raises:
        UserError: It is another file, or says more than a policy's does, see `programs`.
    """
    return load_program(path)
