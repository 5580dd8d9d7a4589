"""Discrete BC: behaviour cloning, the data's actions by classification.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991; for actions that are numbers as d3rlpy and the imitation of discrete BCQ do it.

    actor   L_pi = -E[ log pi(a|s) ] + beta E[ l(s)^2 ],  pi = softmax(l), a mean over batch and actions

Differences: the regulariser is not Pomerleau's. It is that of discrete BCQ's authors, on the network's
output as it is, with their beta. d3rlpy squares log probabilities instead, and its default of 0.5 leaves
two actions that the data always tells apart at odds of no more than about two to one. The regulariser
hardly moves the most probable action but decides what is sampled online.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.discrete import CategoricalActor
from off2on.recipe.distributions import Categorical
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Nets
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class DiscreteBCHyperparameters(Hyperparameters):
    """One of its own."""

    beta: float = hp(0.01, "weight of the logits' squares: 0.5 in d3rlpy", least=0, search=("log", 1e-3, 1))


class DiscreteBC(OfflineToOnline):
    """Copy the data."""

    Hyperparameters = DiscreteBCHyperparameters
    actions = "discrete"
    columns = ("obs", "action")
    objectives = ("actor",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: DiscreteBCHyperparameters) -> Nets:
        """One categorical policy."""
        return Nets(actor=CategoricalActor(obs_space.shape[0], int(action_space.n), hp.hidden))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: DiscreteBCHyperparameters) -> Loss:
        """Cross-entropy to the data's actions, and a pull of the logits towards 0."""
        policy = nets.actor(batch.obs)
        clone = -policy.log_prob(batch.action).mean()
        loss = clone + hp.beta * policy.logits.square().mean()
        hits = (policy.mode == batch.action).float().mean()
        return loss, {"actor/clone": clone.detach(), "actor/accuracy": hits}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: DiscreteBCHyperparameters) -> Categorical:
        """The probabilities of all actions."""
        return nets.actor(obs)  # type: ignore[no-any-return]
