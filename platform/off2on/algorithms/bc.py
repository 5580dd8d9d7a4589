"""BC: behaviour cloning, the data's actions by regression.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991; in offline reinforcement learning the floor that others must beat.

    actor   L_pi = E[ |pi(s) - a|^2 ]      mean over batch and action dimensions

Differences: the network squashes its output by tanh, because actions lie in [-1, 1].
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithm import OfflineToOnline
from off2on.batches import Batch
from off2on.hyperparameters import Hyperparameters
from off2on.nets import DeterministicActor, Nets
from off2on.recipe import Loss


@dataclass(frozen=True)
class BCHyperparameters(Hyperparameters):
    """Nothing of its own."""


class BC(OfflineToOnline):
    """Copy the data."""

    Hyperparameters = BCHyperparameters
    columns = ("obs", "action")
    objectives = ("actor",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: BCHyperparameters) -> Nets:
        """One tanh policy."""
        return Nets(actor=DeterministicActor(obs_space.shape[0], action_space.shape[0], hp.hidden))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: BCHyperparameters) -> Loss:
        """Squared distance to the data's actions."""
        return F.mse_loss(nets.actor(batch.obs), batch.action), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: BCHyperparameters, explore: bool) -> Tensor:
        """The policy's action; there is nothing to explore with."""
        return nets.actor(obs)  # type: ignore[no-any-return]
