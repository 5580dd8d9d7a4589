"""Recipe: the declaration of an algorithm by class attributes and class methods, without state.

An algorithm consists of networks and one loss for each of them, in a fixed order. A subclass of
`off2on.rllib.algorithm.OfflineToOnline` declares them:

    objectives             names of the networks to train, in the order of their updates
    build_nets             builds the networks
    compute_<name>_loss    (nets, batch, hp) → (loss, metrics); only nets.<name> is trained on it

All hooks are class methods, because losses run in learner processes, possibly on other machines. State
belongs in the networks. Sampling, optimisers, target networks, devices and checkpoints are the work of
`off2on.rllib.learner`.

``batch.progress`` is 0 … 1 over the offline updates and 1 … 2 over the online ones.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import RecipeError
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import value_of_action
from off2on.recipe.distributions import Distribution
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.recipe.networks import Nets

Loss = tuple[Tensor, dict[str, Tensor]]
"""The scalar to minimise, and scalars to log by name."""


@dataclass(frozen=True)
class Objective:
    """Objective of the network `name`, updated on every `every`-th update, as TD3 delays its actor."""

    name: str
    every: int = 1


@dataclass(frozen=True)
class RolloutSchedule:
    """Amount of model rollouts of a model-based algorithm, and their share of the batches.

    Attributes:
        every: Number of updates between two rounds of rollouts.
        starts: Number of recorded states from which the rollouts of a round start.
        kept: Largest number of synthetic transitions that are kept; the oldest are overwritten.
        real_share: Share of recorded transitions in every batch.
    """

    every: int
    starts: int
    kept: int
    real_share: float


class Recipe:
    """Hooks of an algorithm and their defaults."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    actions: ClassVar[str] = "continuous"
    """Kind of actions: ``continuous`` (vectors in [-1, 1]) or ``discrete`` (integers)."""
    columns: ClassVar[tuple[str, ...]] = ("obs", "action", "reward", "next_obs", "mask")
    """Columns that the losses read; data without one of them are refused before the first update."""
    relabelled_columns: ClassVar[tuple[str, ...]] = ()
    """Names of further columns of numbers, which `relabel` computes from the current networks."""
    fitted_networks: ClassVar[tuple[str, ...]] = ()
    """Names of the networks that `fit` trains before the first update."""
    objectives: ClassVar[tuple[str | Objective, ...]] = ()
    """Names of the networks that are trained, in the order of their updates."""
    target_update_interval: ClassVar[int] = 1
    """Number of updates between two updates of the target networks."""
    acting_networks: ClassVar[tuple[str, ...]] = ("actor",)
    """Names of the networks that `act` needs; environment runners hold no others."""
    acting_targets: ClassVar[tuple[str, ...]] = ()
    """Names of the networks of which `act` needs the target network."""
    value_networks: ClassVar[tuple[str, ...]] = ("critic", "value")
    """Possible names of the networks that estimate values."""
    turns: ClassVar[int] = 1
    """Number of updates in which groups of networks take turns; delays count whole rounds of them."""
    unclipped: ClassVar[tuple[str, ...]] = ()
    """Names of objectives whose gradients are exact steps, which ``grad_clip`` leaves alone."""
    regularisation: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters that weight the regularisation towards the data, see `scale_regularisation`."""
    schedules: ClassVar[tuple[str, ...]] = ()
    """Names of the hyperparameters that, unless 0 or False, make offline updates depend on how many are
    planned; a run is then not extended."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        defined = [name for name in dir(cls) if name.startswith("compute_") and name.endswith("_loss")]
        for objective in cls.objectives_in_order():
            if (missing := f"compute_{objective.name}_loss") not in defined:
                raise RecipeError(
                    f"{cls.__name__} has the objective '{objective.name}' but does not define {missing}.",
                    f"Defined: {' '.join(defined) or 'none'}",
                    given=objective.name,
                    known=[name.removeprefix("compute_").removesuffix("_loss") for name in defined],
                )

    @classmethod
    def objectives_in_order(cls) -> tuple[Objective, ...]:
        """Return the objectives in the order of their updates."""
        return tuple(Objective(item) if isinstance(item, str) else item for item in cls.objectives)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks.

        Args:
            obs_space: Box of shape [D].
            action_space: Action space of the environment: a Box of shape [A], with actions scaled to [-1, 1]
                in batches, or a Discrete of n, with actions as numbers [B] in batches.
            hp: Hyperparameters.
        """
        raise NotImplementedError

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """Return the distribution of exploring actions at transformed observations [B, D].

        None if it has no density; `act` must then be overridden.
        """
        return None

    @classmethod
    def known_distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """Return `distribution`, or None if a subclass has overridden `act` since it was defined.

        Such a subclass may draw its actions from another distribution.
        """
        last = next(kind for kind in cls.__mro__ if {"act", "distribution"} & vars(kind).keys())
        return cls.distribution(nets, obs, hp) if "distribution" in vars(last) else None

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return actions at transformed observations [B, D]: [B, A] in [-1, 1], or integers [B]."""
        policy = cls.distribution(nets, obs, hp)
        if policy is None:
            raise NotImplementedError(f"{cls.__name__} must define `distribution` or `act`")
        return policy.draw() if explore else policy.mode

    @classmethod
    def own_action(cls, nets: Nets, obs: Tensor, hp: Any) -> Tensor:
        """Return the algorithm's own exploring actions, to learn from: `online.exploration` changes none."""
        return cls.act(nets, obs, hp, explore=True)

    @classmethod
    def q(cls, nets: Nets, obs: Tensor, action: Tensor) -> Tensor | None:
        """Return each critic's value [E, B] of actions [B, A] or [B] at [B, D]; None without a critic."""
        if "critic" not in nets.names():
            return None
        values: Tensor = nets.critic(obs) if cls.actions == "discrete" else nets.critic(obs, action)
        return value_of_action(values, action) if cls.actions == "discrete" else values

    @classmethod
    def target_values(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Any:
        """Return the value [E, …], or the distribution, of s' and actions there by each target critic."""
        return nets.target.critic.future(batch.next_obs, action)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add columns to the batch that several losses share; called once per update, before the losses.

        A tensor with a gradient graph may be used until the networks it was computed with are updated.
        """
        return batch

    @classmethod
    def loss(cls, name: str, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Return the loss of the objective `name` and scalars to log.

        Raises:
            RecipeError: ``compute_<name>_loss`` returned something else.
        """
        method = f"compute_{name}_loss"
        return losses.checked(getattr(cls, method)(nets, batch, hp), f"{cls.__name__}.{method}")

    # Schedules and optimisers.

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True if an update, counted from 1, trains the network of an objective."""
        return update % objective.every == 0

    @classmethod
    def is_target_update_due(cls, hp: Any, update: int, progress: float) -> bool:
        """Return True if the target networks are updated at the end of an update, counted from 1."""
        return update % cls.target_update_interval == 0

    @classmethod
    def target_rate(cls, name: str, hp: Any, update: int, progress: float) -> float:
        """Return the share of its distance that a target network moves at the end of an update; 0: none."""
        return float(hp.polyak) if cls.is_target_update_due(hp, update, progress) else 0.0

    @classmethod
    def max_gradient_norm(cls, objective: str, hp: Any) -> float | None:
        """Return the largest norm of an objective's gradient, to which it is scaled; None: no limit."""
        return None

    @classmethod
    def max_joint_gradient_norm(cls, hp: Any) -> float | None:
        """Return the largest norm of all gradients together, taken before the first step; None: no limit."""
        return None

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        """Return the optimiser of an objective's parameters, which form one vector.

        Its learning rate is set to `lr` before every update.
        """
        return torch.optim.Adam([vector], lr=cls.lr(objective, hp, 0.0), fused=True)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """Return the learning rate of an objective."""
        return float(getattr(hp, f"{objective}_lr"))

    # The handover.

    @classmethod
    def scale_regularisation(cls, hp: Any, share: float) -> Any:
        """Return hyperparameters with the regularisation towards the data scaled by `share`: 0 removes it."""
        weights = {name: getattr(hp, name) for name in cls.regularisation}
        return replace(hp, **{name: share * weight for name, weight in weights.items() if weight is not None})

    @classmethod
    def on_handover(cls, nets: Nets, hp: Any) -> None:
        """Change the networks at the handover; called once, without gradient."""

    # Fitting before the first update, model rollouts and relabelling.

    @classmethod
    def resolve(cls, hp: Any, shards: Shards) -> Any:
        """Fill in hyperparameters that depend on the data set; raise `UserError` if they do not fit it."""
        return hp

    @classmethod
    def fit(cls, nets: Nets, rows: Batch, hp: Any, generator: torch.Generator) -> dict[str, float]:
        """Train the networks named in `fitted_networks`, before the first update; return numbers to log.

        Called once, with all recorded transitions [N, …] that this learner holds.
        """
        raise NotImplementedError

    @classmethod
    def rollout_schedule(cls, hp: Any) -> RolloutSchedule | None:
        """Return the schedule of `generate_rollouts`; None if the algorithm has no model."""
        return None

    @classmethod
    def generate_rollouts(cls, nets: Nets, starts: Batch, hp: Any) -> Batch:
        """Generate synthetic transitions [n, …] with a learned model, from recorded states; without gradient.

        The first ``batch.real`` transitions of a batch are recorded, the others synthetic.
        """
        raise NotImplementedError

    @classmethod
    def is_relabel_due(cls, hp: Any, update: int) -> bool:
        """Return True if `relabel` is called before an update, counted from 1."""
        return False

    @classmethod
    def relabel(cls, nets: Nets, rows: Batch, hp: Any, update: int) -> dict[str, Tensor]:
        """Compute new values [N] of some of the columns in `relabelled_columns`, without gradient.

        ``rows`` are all transitions [N, …] that this learner holds, as whole episodes in the order of time;
        ``rows.last`` is 1 at the last transition of an episode, or of the held part of it. The next update,
        counted from 1, is ``update``.
        """
        raise NotImplementedError
