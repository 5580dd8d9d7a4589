"""Exploration of the online phase for algorithms with critics; each class overrides `act`.

They change the exploring actions only, never the deterministic policy of the handover. Their settings are
in ``cls.online_settings``.
"""

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.errors import OnlineSettingsError
from off2on.online.modifier import RecipeModifier
from off2on.recipe.action_choice import most_optimistic, prefer_new
from off2on.recipe.hooks import Recipe
from off2on.recipe.networks import Nets


class NoisyExploration(RecipeModifier):
    """Add Gaussian noise with standard deviation ``noise`` to the exploring action, clipped to [-1, 1]."""

    name = "noisy"

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuse discrete actions."""
        if recipe.actions == "discrete":
            raise OnlineSettingsError(
                f"exploration '{cls.name}' adds noise to actions; those of {recipe.__name__} are discrete.",
                "Expected an algorithm with continuous actions, or exploration=own.",
            )

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return actions [B, A] in [-1, 1]."""
        action = super().act(nets, obs, hp, explore)
        if not explore:
            return action
        noise: Tensor = cls.online_settings.noise * torch.randn_like(action)
        return (action + noise).clamp(-1, 1)


class CriticGuidedExploration(RecipeModifier):
    """Base class of explorations that evaluate critics when acting."""

    extra_acting_networks: ClassVar[tuple[str, ...]] = ("critic",)

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuse an algorithm without critics Q(s, a) of continuous actions."""
        if recipe.actions == "discrete" or "critic" not in [
            objective.name for objective in recipe.objectives_in_order()
        ]:
            raise OnlineSettingsError(
                f"exploration '{cls.name}' needs critics Q(s, a) of continuous actions, "
                f"which {recipe.__name__} does not have.",
                "The explorations own and noisy need none.",
            )


class OptimisticExploration(CriticGuidedExploration):
    """Take the most optimistic of ``proposals`` exploring actions, see `most_optimistic` (SUNRISE)."""

    name = "optimistic"

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return actions [B, A] in [-1, 1]."""
        if not explore:
            return super().act(nets, obs, hp, explore)
        count, rows = cls.online_settings.proposals, len(obs)
        actions = super().act(nets, obs.repeat(count, 1), hp, explore).view(count, rows, -1)
        return most_optimistic(nets.critic, obs, actions, cls.online_settings.optimism)


class PolicyExpansion(CriticGuidedExploration):
    """Keep the policy of the handover; the critics choose between it and the policy that learns.

    See `prefer_new` (PEX), with ``selectivity`` as the inverse temperature. Without exploration the better of
    the two deterministic actions is taken.

    Difference: the learning policy continues from the handover; the paper's starts from random weights,
    as in the algorithm ``pex``.
    """

    name = "expansion"
    extra_acting_networks = (*CriticGuidedExploration.extra_acting_networks, "kept")

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuse an algorithm that has an expansion already, or no policy network."""
        super().check(recipe)
        names = [objective.name for objective in recipe.objectives_in_order()]
        acting = (*recipe.acting_networks, *(f"a target of {name}" for name in recipe.acting_targets))
        if "expansion" in names or "actor" not in names or acting != ("actor",):
            raise OnlineSettingsError(
                f"exploration '{cls.name}' keeps a copy of the only network that acts, but {recipe.__name__} "
                f"acts with {' and '.join(acting)}.",
                "Expected an algorithm that acts with its actor alone.",
            )

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the algorithm's networks and ``kept``, the policy of the handover.

        The buffer ``kept.is_held`` is True once that policy has been stored.
        """
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("kept", copy.deepcopy(nets.actor))
        nets.kept.register_buffer("is_held", torch.tensor(False))
        return nets

    @classmethod
    def on_handover(cls, nets: Nets, hp: Any) -> None:
        """Store the current policy."""
        super().on_handover(nets, hp)
        nets.kept.load_state_dict(nets.actor.state_dict() | {"is_held": torch.tensor(True)})

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return actions [B, A] in [-1, 1]."""
        new = super().act(nets, obs, hp, explore)
        old = super().act(Nets(actor=nets.kept), obs, hp, explore=False)
        chosen = prefer_new(nets.critic, obs, old, new, cls.online_settings.selectivity, explore)
        return torch.where((chosen | ~nets.kept.is_held).unsqueeze(-1), new, old)


EXPLORATIONS: dict[str, type[RecipeModifier] | None] = {"own": None} | {
    kind.name: kind for kind in (NoisyExploration, OptimisticExploration, PolicyExpansion)
}
