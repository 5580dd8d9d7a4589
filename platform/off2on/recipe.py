"""The recipe: what an algorithm says of itself, all of it class-level and without state.

An algorithm is a few networks, and a loss for each, in an order. A subclass of
`off2on.algorithm.OfflineToOnline` states them:

    objectives             names of networks, in the order in which they are updated
    build_nets             the networks
    compute_<name>_loss    (nets, batch, hp) → (loss, metrics), minimised over nets.<name> alone

The losses run in learner processes, on other machines perhaps: there is no ``self`` to keep
anything on. Sampling, optimisers, targets, devices and checkpoints are `off2on.learner`'s.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from off2on.batches import Batch
from off2on.errors import RecipeError, nearest
from off2on.hyperparameters import Hyperparameters
from off2on.nets import Nets

Loss = tuple[Tensor, dict[str, Tensor]]
"""A scalar to minimise and the scalars to log."""


@dataclass(frozen=True)
class Objective:
    """A network to update on every `every`-th update only, as TD3 delays its actor."""

    name: str
    every: int = 1


class Recipe:
    """The hooks and their defaults."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    columns: ClassVar[tuple[str, ...]] = ("obs", "action", "reward", "next_obs", "mask")
    """The columns the losses read; the data has them or is refused at the start."""
    objectives: ClassVar[tuple[str | Objective, ...]] = ()
    targets_every: ClassVar[int] = 1
    """The following copies move on every so-many-th update."""
    acting: ClassVar[tuple[str, ...]] = ("actor",)
    """The networks that `act` needs; runners have no others."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for objective in cls.plan():
            if not hasattr(cls, f"compute_{objective.name}_loss"):
                losses = [name for name in dir(cls) if name.startswith("compute_") and name.endswith("_loss")]
                names = [name.removeprefix("compute_").removesuffix("_loss") for name in losses]
                missing = f"compute_{objective.name}_loss"
                raise RecipeError(
                    f"{cls.__name__} names the objective '{objective.name}' but has no {missing}.",
                    f"{nearest(objective.name, names)}It has: {' '.join(losses) or 'none'}",
                )

    @classmethod
    def plan(cls) -> tuple[Objective, ...]:
        """The objectives in order."""
        return tuple(Objective(item) if isinstance(item, str) else item for item in cls.objectives)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """The networks.

        Args:
            obs_space: A Box of shape [D].
            action_space: The environment's; continuous ones arrive as [-1, 1] in batches.
            hp: The hyperparameters.
        """
        raise NotImplementedError

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions [B, A] in [-1, 1] at transformed observations [B, D]."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add to the batch what several losses share; called once per update, before them.

        A tensor with a graph may be shared as long as the networks it came from have not stepped.
        """
        return batch

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """Adam's step size for an objective; `progress` runs from 0 to 1 offline, online it is 0."""
        return float(getattr(hp, f"{objective}_lr"))


def cosine(progress: float) -> float:
    """From 1 at the start to 0 at the end, along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
