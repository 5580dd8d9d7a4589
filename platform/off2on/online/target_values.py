"""Target values of the online phase for algorithms with ``target_value``; each class overrides that hook.

In the offline phase the algorithm's own combination holds. Values are [E, B] of E target critics, or
[E, n, B] where the algorithm evaluates several actions per state.
"""

from typing import Any

import torch
from torch import Tensor

from off2on.errors import OnlineSettingsError
from off2on.online.modifier import RecipeModifier
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Recipe
from off2on.recipe.networks import Nets


class TargetModifier(RecipeModifier):
    """Base class of modifiers of `target_value`."""

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuse an algorithm that does not compute its targets in `target_value`."""
        if getattr(recipe, "target_value", None) is None:
            raise OnlineSettingsError(
                f"the targets of {recipe.__name__} are not computed from critics' values of one action.",
                "Expected an algorithm such as SAC, TD3 or one derived from them; "
                "targets=own leaves the algorithm unchanged.",
            )


class CombinedTargets(TargetModifier):
    """Base class of modifiers that evaluate all target critics and combine their values."""

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the target value [B] of s' and an action [B, A] there."""
        if batch.progress < 1:
            return super().target_value(nets, batch, hp, action)  # type: ignore[misc, no-any-return]
        return cls.combine(cls.target_values(nets, batch, hp, action))

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """Reduce values [E, …] to […]."""
        raise NotImplementedError


class MinimumTargets(CombinedTargets):
    """min_i Q'_i."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """Reduce values [E, …] to […]."""
        return q.amin(0)


class MeanTargets(CombinedTargets):
    """mean_i Q'_i."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """Reduce values [E, …] to […]."""
        return q.mean(0)


class RandomPairTargets(CombinedTargets):
    """min(Q'_i, Q'_j) of two members drawn for every update: REDQ, arXiv:2101.05982, algorithm 1."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """Reduce values [E, …] to […]."""
        return losses.random_minimum(q, 2)


class WeightedPairTargets(CombinedTargets):
    """Mean over all pairs i < j of min(Q'_i, Q'_j): E2O, arXiv:2306.06871, WeightedMinPair."""

    @classmethod
    def combine(cls, q: Tensor) -> Tensor:
        """Reduce values [E, …] to […]."""
        return losses.weighted_pair(q)


class TargetJitter(TargetModifier):
    """Evaluate the targets at actions with clipped Gaussian noise.

    Zhang et al., "A Perspective of Q-value Estimation on Offline-to-Online Reinforcement Learning" (SO2),
    AAAI 2024, arXiv:2312.07685, perturbed value update: a' + clip(N(0, target_jitter^2), ± 2 target_jitter).
    """

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the target value [B] of s' and an action [B, A] with noise."""
        if batch.progress >= 1:
            sigma = cls.online_settings.target_jitter
            noise = (sigma * torch.randn_like(action)).clamp(-2 * sigma, 2 * sigma)
            action = (action + noise).clamp(-1, 1)
        return super().target_value(nets, batch, hp, action)  # type: ignore[misc, no-any-return]


TARGETS: dict[str, type[RecipeModifier] | None] = {
    "own": None,
    "min": MinimumTargets,
    "mean": MeanTargets,
    "random_pair": RandomPairTargets,
    "weighted_pair": WeightedPairTargets,
}
