"""The recipe: what an algorithm says of itself, all of it class-level and without state.

An algorithm is a few networks, and a loss for each, in an order. A subclass of
`off2on.rllib.algorithm.OfflineToOnline` states them:

    objectives             names of networks, in the order in which they are updated
    build_nets             the networks
    compute_<name>_loss    (nets, batch, hp) → (loss, metrics), minimised over nets.<name> alone

The losses run in learner processes, on other machines perhaps: there is no ``self`` to keep
anything on. Sampling, optimisers, targets, devices and checkpoints are `off2on.rllib.learner`'s.

``progress`` is 0 … 1 over the offline updates and 1 … 2 over the online ones; a loss finds it in
``batch.progress``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import RecipeError, nearest
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import value_of_action
from off2on.recipe.distributions import Distribution
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.recipe.networks import Nets

Loss = tuple[Tensor, dict[str, Tensor]]
"""A scalar to minimise and the scalars to log."""


@dataclass(frozen=True)
class Objective:
    """A network to update on every `every`-th update only, as TD3 delays its actor."""

    name: str
    every: int = 1


@dataclass(frozen=True)
class RolloutSchedule:
    """How much a recipe with a model of the world dreams, and how much of it it believes.

    Attributes:
        every: Updates between two rounds of rollouts.
        starts: Recorded states from which a round sets out.
        kept: Most imagined transitions kept; the oldest are overwritten.
        real_share: Share of every batch that is recorded.
    """

    every: int
    starts: int
    kept: int
    real_share: float


class Recipe:
    """The hooks and their defaults."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    actions: ClassVar[str] = "continuous"
    """The actions it takes: ``continuous`` (vectors in [-1, 1]) or ``discrete`` (whole numbers)."""
    columns: ClassVar[tuple[str, ...]] = ("obs", "action", "reward", "next_obs", "mask")
    """The columns the losses read; the data has them or is refused at the start."""
    relabelled_columns: ClassVar[tuple[str, ...]] = ()
    """Further columns, numbers that `relabel` computes from the networks as they are."""
    fitted_networks: ClassVar[tuple[str, ...]] = ()
    """Networks that `fit` trains in a first stage, before the first update."""
    objectives: ClassVar[tuple[str | Objective, ...]] = ()
    target_update_interval: ClassVar[int] = 1
    """The following copies move on every so-many-th update."""
    acting_networks: ClassVar[tuple[str, ...]] = ("actor",)
    """The networks that `act` needs; runners have no others."""
    value_networks: ClassVar[tuple[str, ...]] = ("critic", "value")
    """What it calls the networks that estimate values, if it has them."""
    regularisation: ClassVar[tuple[str, ...]] = ()
    """The hyperparameters that weigh its regularisation towards the data; see `scale_regularisation`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for objective in cls.objectives_in_order():
            if not hasattr(cls, f"compute_{objective.name}_loss"):
                losses = [name for name in dir(cls) if name.startswith("compute_") and name.endswith("_loss")]
                names = [name.removeprefix("compute_").removesuffix("_loss") for name in losses]
                missing = f"compute_{objective.name}_loss"
                raise RecipeError(
                    f"{cls.__name__} names the objective '{objective.name}' but has no {missing}.",
                    f"{nearest(objective.name, names)}It has: {' '.join(losses) or 'none'}",
                )

    @classmethod
    def objectives_in_order(cls) -> tuple[Objective, ...]:
        """The objectives in order."""
        return tuple(Objective(item) if isinstance(item, str) else item for item in cls.objectives)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """The networks.

        Args:
            obs_space: A Box of shape [D].
            action_space: The environment's: a Box of shape [A], which arrives as [-1, 1] in batches, or a
                Discrete of n, whose actions arrive as numbers [B].
            hp: The hyperparameters.
        """
        raise NotImplementedError

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """What `act` draws from when it explores, at transformed [B, D]; None if that has no density."""
        return None

    @classmethod
    def known_distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """The `distribution`, unless a subclass of whoever said it acts otherwise: then None."""
        last = next(kind for kind in cls.__mro__ if {"act", "distribution"} & vars(kind).keys())
        return cls.distribution(nets, obs, hp) if "distribution" in vars(last) else None

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Actions at transformed observations [B, D]: [B, A] in [-1, 1], or whole numbers [B]."""
        policy = cls.distribution(nets, obs, hp)
        if policy is None:
            raise NotImplementedError(f"{cls.__name__} must say `distribution` or `act`")
        return policy.draw() if explore else policy.mode

    @classmethod
    def q(cls, nets: Nets, obs: Tensor, action: Tensor) -> Tensor | None:
        """What each critic says of actions [B, A], or [B], at [B, D]: [E, B]; None if there is no critic."""
        if "critic" not in nets.names():
            return None
        discrete = cls.actions == "discrete"
        return value_of_action(nets.critic(obs), action) if discrete else nets.critic(obs, action)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add to the batch what several losses share; called once per update, before them.

        A tensor with a graph may be shared as long as the networks it came from have not stepped.
        """
        return batch

    @classmethod
    def loss(cls, name: str, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """The loss of the objective of this name."""
        return getattr(cls, f"compute_{name}_loss")(nets, batch, hp)  # type: ignore[no-any-return]

    # When, and by what.

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Whether an update, counted from 1, moves an objective's network."""
        return update % objective.every == 0

    @classmethod
    def is_target_update_due(cls, hp: Any, update: int, progress: float) -> bool:
        """Whether the following copies move at the end of an update, counted from 1."""
        return update % cls.target_update_interval == 0

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        """The optimiser of an objective's parameters, which are one vector; `lr` sets its step size."""
        return torch.optim.Adam([vector], lr=cls.lr(objective, hp, 0.0), fused=True)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """The step size of an objective."""
        return float(getattr(hp, f"{objective}_lr"))

    # The handover.

    @classmethod
    def scale_regularisation(cls, hp: Any, share: float) -> Any:
        """The hyperparameters with so much left of the pull towards the data: 1 as it is, 0 none."""
        weights = {name: getattr(hp, name) for name in cls.regularisation}
        return replace(hp, **{name: share * weight for name, weight in weights.items() if weight is not None})

    @classmethod
    def on_handover(cls, nets: Nets, hp: Any) -> None:
        """Called once, when learning goes online, without gradient: what to do with the networks then."""

    # What comes before, and beside.

    @classmethod
    def resolve(cls, hp: Any, shards: Shards) -> Any:
        """The hyperparameters with what was left open taken from the data; refuses what cannot go together.

        Raises:
            UserError: The data and the hyperparameters do not fit.
        """
        return hp

    @classmethod
    def fit(cls, nets: Nets, rows: Batch, hp: Any, generator: torch.Generator) -> dict[str, float]:
        """A first stage, before the first update: train what the updates take as given.

        Called once, if the recipe names networks as `fitted`, with all the recorded rows [N, …] held.

        Returns:
            What there is to say of it, such as the error on held-out rows.
        """
        raise NotImplementedError

    @classmethod
    def rollout_schedule(cls, hp: Any) -> RolloutSchedule | None:
        """How much `generate_rollouts` is used; None if the recipe has no model."""
        return None

    @classmethod
    def generate_rollouts(cls, nets: Nets, starts: Batch, hp: Any) -> Batch:
        """Transitions [n, …] that a model makes up, setting out from recorded states; without gradient.

        Batches hold recorded rows first, ``batch.real`` of them, and then imagined ones.
        """
        raise NotImplementedError

    @classmethod
    def is_relabel_due(cls, hp: Any, update: int) -> bool:
        """Whether `relabel` is called before an update, counted from 1."""
        return False

    @classmethod
    def relabel(cls, nets: Nets, rows: Batch, hp: Any, update: int) -> dict[str, Tensor]:
        """New values [N] of some of the columns `relabelled`, without gradient.

        Args:
            nets: The networks.
            rows: All transitions [N, …] that are held, whole episodes in the order of time; ``rows.last``
                says where an episode, or what is held of it, ends.
            hp: The hyperparameters.
            update: The update that comes next, counted from 1.
        """
        raise NotImplementedError


def apply_objectives(
    recipe: Any, nets: Nets, batch: Batch, hp: Any, update: int, step: Callable[[str, Tensor, float], object]
) -> dict[str, Tensor]:
    """The losses of one update: every objective that is due, in order.

    Args:
        recipe: Whose.
        nets: The networks.
        batch: The rows to learn from.
        hp: The hyperparameters.
        update: Which one, counted from 1.
        step: Moves the network of a name along the gradient of a loss, before the next loss is computed.

    Returns:
        The losses by objective, and the recipe's metrics.
    """
    batch, progress = recipe.prepare(nets, batch, hp), batch.progress
    logged: dict[str, Tensor] = {}
    for objective in recipe.objectives_in_order():
        if recipe.is_due(objective, hp, update, progress):
            loss, metrics = recipe.loss(objective.name, nets, batch, hp)
            step(objective.name, loss, progress)
            logged |= {f"{objective.name}/loss": loss.detach()} | metrics
    return logged


def cosine(progress: float) -> float:
    """From 1 at the start to 0 at the end, along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
