"""Discrete BC: behaviour cloning, classification of the data's actions.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991; for discrete actions as in d3rlpy and the behaviour policy of discrete BCQ.

    actor   L_pi = -E[ log pi(a|s) ] + beta E[ l(s)^2 ],  pi = softmax(l), a mean over batch and actions

Differences: the regulariser is not Pomerleau's. It is that of discrete BCQ's authors, on the logits, with
their beta. d3rlpy squares log probabilities instead, and with its default of 0.5 two actions that the data
always separates have odds of no more than about two to one. The regulariser hardly changes the most
probable action, but it determines the samples online.
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
    """Hyperparameters of discrete BC."""

    beta: float = hp(0.01, "weight of the squared logits; 0.5 in d3rlpy", least=0, search=("log", 1e-3, 1))


class DiscreteBC(OfflineToOnline):
    """Behaviour cloning by classification."""

    Hyperparameters = DiscreteBCHyperparameters
    actions = "discrete"
    columns = ("obs", "action")
    objectives = ("actor",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: DiscreteBCHyperparameters) -> Nets:
        """Build a categorical policy."""
        return Nets(actor=CategoricalActor(obs_space.shape[0], int(action_space.n), hp.hidden))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: DiscreteBCHyperparameters) -> Loss:
        """Compute the cross-entropy to the data's actions, and the regularisation of the logits."""
        policy = nets.actor(batch.obs)
        clone = -policy.log_prob(batch.action).mean()
        loss = clone + hp.beta * policy.logits.square().mean()
        hits = (policy.mode == batch.action).float().mean()
        return loss, {"actor/clone": clone.detach(), "actor/accuracy": hits}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: DiscreteBCHyperparameters) -> Categorical:
        """Return the probabilities of all actions at [B, D]."""
        return nets.actor(obs)  # type: ignore[no-any-return]
