"""Ways for target critics to combine online that any recipe with ``target_value`` can take.

Each overrides that one hook; offline the recipe's own way holds. Values are [E, B] of E target critics, or
[E, n, B] where the recipe asks for several actions per state.
"""

from typing import Any

import torch
from torch import Tensor

from off2on.errors import OnlineSettingsError
from off2on.online.modifier import Change
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Recipe
from off2on.recipe.networks import Nets


class Asked(Change):
    """What is asked of target critics in `target_value`."""

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuses a recipe whose targets are not made in `target_value`."""
        if getattr(recipe, "target_value", None) is None:
            raise OnlineSettingsError(
                f"the targets of {recipe.__name__} are not made of its critics' values of one action.",
                "SAC, TD3 and their kin combine them; 'own' leaves the recipe as it is.",
            )


class Combined(Asked):
    """Asks all target critics; a subclass says what it makes of their values."""

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """What the targets make of s' and an action [B, A] there: [B]."""
        if batch.progress < 1:
            return super().target_value(nets, batch, hp, action)  # type: ignore[misc, no-any-return]
        return cls.combine(nets.target.critic(batch.next_obs, action))

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """One value of every [E, …]."""
        raise NotImplementedError


class Smallest(Combined):
    """min_i Q'_i."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """One value of every [E, …]."""
        return q.amin(0)


class Mean(Combined):
    """mean_i Q'_i."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """One value of every [E, …]."""
        return q.mean(0)


class RandomPair(Combined):
    """min(Q'_i, Q'_j) of two members drawn anew for every update: REDQ, arXiv:2101.05982, algorithm 1."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """One value of every [E, …]."""
        return q[torch.randperm(len(q), device=q.device)[:2]].amin(0)


class WeightedPair(Combined):
    """The mean over all pairs i < j of min(Q'_i, Q'_j): E2O, arXiv:2306.06871, WeightedMinPair."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """One value of every [E, …]."""
        return losses.weighted_pair(q)


class Jitter(Asked):
    """The targets are asked about actions nearby.

    Zhang et al., "A Perspective of Q-value Estimation on Offline-to-Online Reinforcement Learning" (SO2),
    AAAI 2024, arXiv:2312.07685, perturbed value update: a' + clip(N(0, target_jitter^2), ± 2 target_jitter).
    """

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """What the targets make of s' and an action [B, A] near the given one: [B]."""
        if batch.progress >= 1:
            sigma = cls.online_settings.target_jitter
            noise = (sigma * torch.randn_like(action)).clamp(-2 * sigma, 2 * sigma)
            action = (action + noise).clamp(-1, 1)
        return super().target_value(nets, batch, hp, action)  # type: ignore[misc, no-any-return]


TARGETS: dict[str, Any] = {
    "own": None,
    "min": Smallest,
    "mean": Mean,
    "random_pair": RandomPair,
    "weighted_pair": WeightedPair,
}
