"""ISPI-S: TD3+BC that is also regularised towards its previous policy.

Hu, Ma, Xiao, Zheng & Hao, "Iteratively Refined Behavior Regularization for Offline Reinforcement
Learning" (at first "In-Sample Policy Iteration"), arXiv:2306.05726, with a single policy.

    critic     L_Q   = TD3's
    reference  L_ref = 1/2 |theta_ref - theta|^2 over all weights: a learning rate of 1 copies the policy
    actor      L_pi  = -lambda E[ Q_1(s, pi(s)) ] + w E[ |pi(s) - ref(s)|^2 ] + (1 - w) E[ |pi(s) - a|^2 ]
               lambda = alpha / E|Q_1|

The reference's actions are computed before the copy is made, and the copy before the actor steps: the actor
is regularised towards the policy of one of its steps before. Order: critic, reference, actor, targets.

Differences: the reference starts with other weights than the policy, and is a copy from the first update
on. Observations are normalised, as in TD3+BC and the authors' command line.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.td3_bc import TD3BC, TD3BCHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class ISPISHyperparameters(TD3BCHyperparameters):
    """Hyperparameters of the authors' configuration."""

    reference_weight: float = hp(
        0.5, "w: 0 is TD3+BC, 1 ignores the data", least=0, most=1, search=("choice", 0.5, 0.7)
    )
    reference_interval: int = hp(2, "updates between two copies, if the actor is updated too", least=1)


class ISPIS(TD3BC):
    """TD3+BC that is also regularised towards its previous policy."""

    Hyperparameters = ISPISHyperparameters
    objectives = ("critic", Objective("reference", every=2), Objective("actor", every=2))
    unclipped = ("reference",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks of TD3, and the reference policy."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("reference", cls.new_actor(obs_space.shape[0], action_space.shape[0], hp))
        return nets

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``reference_action`` [B, A], before the reference is updated."""
        with torch.no_grad():
            batch.reference_action = nets.reference(batch.obs)
        return batch

    @classmethod
    def compute_reference_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute half the squared distance to the policy's weights."""
        pairs = zip(nets.reference.parameters(), nets.actor.parameters(), strict=True)
        return 0.5 * torch.stack([(mine - its.detach()).square().sum() for mine, its in pairs]).sum(), {}

    @classmethod
    def distance(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, q: Tensor) -> Tensor:
        """Compute the distance to the data's actions and to the reference's."""
        data = (1 - hp.reference_weight) * super().distance(nets, batch, hp, action, q)
        reference = F.mse_loss(action, batch.reference_action)
        return data + hp.reference_weight * reference  # type: ignore[no-any-return]

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for the reference on every `reference_interval`-th update, if the actor is due."""
        waits = objective.name == "reference" and update % hp.reference_interval != 0
        return super().is_due(objective, hp, update, progress) and not waits

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        """Return gradient descent for the reference, Adam for the others."""
        if objective == "reference":
            return torch.optim.SGD([vector], lr=1.0)
        return super().optimizer(objective, hp, vector)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """Return the learning rate: 1 for the reference."""
        return 1.0 if objective == "reference" else super().lr(objective, hp, progress)
