"""SPOT: TD3 with a penalty on actions that a generative model of the data finds improbable.

Wu, Wu, Qiu, Wang & Long, "Supported Policy Optimization for Offline Reinforcement Learning", NeurIPS 2022,
arXiv:2202.06239.

    vae     L_G  = E[ l(s, a) ],  l(s, a) = (G(s, z) - a)^2 + 0.5 KL( N(mu, sigma)(s, a) || N(0, 1) )
            z ~ N(mu, sigma)(s, a);  -l is the evidence lower bound of log p(a|s), up to its unit
    critic  L_Q  = TD3's
    actor   L_pi = E[ -Q_1(s, pi(s)) / mean|Q_1| + lambda l(s, pi(s)) ]                              (12)

Order: only the autoencoder for the first part of the offline updates; then it is frozen, and critics, policy
and targets are updated as in TD3. The penalty is a density, not a distance: any action that is probable in
the data costs the same. Online lambda decreases linearly, by one minus the share of the online updates, down
to a fifth.

Differences: the authors train the autoencoder for 100,000 updates and the policy for a million; here the
former is a share of the offline updates, so that their number is the budget of both. Their fine-tuning of
AntMaze's large mazes has a discount of 0.995: ``online.discount=0.995``. Squared errors and divergence are
means over dimensions, as in their code. The policy's dropout also acts in the critics' target, as there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from off2on.algorithms.td3 import TD3, TD3Hyperparameters
from off2on.recipe.actors import DeterministicActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import NORMALISE, hp
from off2on.recipe.networks import Critic, Nets
from off2on.recipe.vae import Autoencoder

# lambda by data set.
LOCOMOTION = {
    "halfcheetah-medium": 0.05, "halfcheetah-medium-replay": 0.05, "halfcheetah-medium-expert": 1.0,
    "hopper-medium": 0.1, "hopper-medium-replay": 0.1, "hopper-medium-expert": 0.2,
    "walker2d-medium": 0.2, "walker2d-medium-replay": 0.2, "walker2d-medium-expert": 0.5,
}  # fmt: skip
ANTMAZE = {
    "antmaze": 0.05, "antmaze-umaze": 0.25, "antmaze-umaze-diverse": 0.25, "antmaze-medium-play": 0.05,
    "antmaze-medium-diverse": 0.025, "antmaze-large-play": 0.025, "antmaze-large-diverse": 0.025,
}  # fmt: skip
MAZE = {"actor_lr": 1e-4, "dropout": 0.0, "small_start": True, "reward": "minus_one", "normalise_obs": False}


@dataclass(frozen=True)
class SPOTHyperparameters(TD3Hyperparameters):
    """Hyperparameters of the authors' code and configurations; lambda is in the middle of theirs."""

    support_weight: float = hp(
        0.1, "lambda, weight of the penalty; larger stays closer to the data", least=0,
        search=("log", 0.025, 1.0),
    )  # fmt: skip
    online_floor: float = hp(0.2, "final share of lambda online", least=0, most=1)
    vae_share: float = hp(
        0.1, "share of the offline updates that train the autoencoder, before the rest", least=0, below=1
    )
    vae_hidden: tuple[int, ...] = hp(
        (750, 750), "widths of the autoencoder's hidden layers", least=1, built=True
    )
    kl_weight: float = hp(0.5, "weight of the autoencoder's divergence from N(0, 1)", least=0)
    vae_lr: float = hp(1e-3, "learning rate of the autoencoder (Adam)", above=0)
    dropout: float = hp(0.1, "dropout of the policy's hidden units in training", least=0, below=1)
    small_start: bool = hp(False, "start with actions and values near 0", built=True)
    normalise_obs: bool = hp(True, NORMALISE)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **{name: {"support_weight": weight} for name, weight in LOCOMOTION.items()},
        **{name: {"support_weight": weight} | MAZE for name, weight in ANTMAZE.items()},
    }


class SPOT(TD3):
    """TD3 with a penalty on actions that are improbable in the data."""

    Hyperparameters = SPOTHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("vae", "critic", Objective("actor", every=2))
    regularisation = ("support_weight",)
    schedules = ("vae_share",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks of TD3, and the autoencoder."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("vae", Autoencoder(obs_space.shape[0], action_space.shape[0], hp.vae_hidden))
        return nets

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build the critics, with values near 0 if configured."""
        critic = super().new_critic(obs, action, hp)
        if hp.small_start:
            _shrink(critic.layers[-1], 3e-3)
        return critic

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> DeterministicActor:
        """Build the policy, with actions near 0 if configured."""
        actor = super().new_actor(obs, action, hp)
        if hp.small_start:
            _shrink(actor.mlp[-1], 1e-3)
        return actor

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for the autoencoder in the first share of the updates, for the others after."""
        is_first = progress < hp.vae_share
        return (objective.name == "vae") == is_first and super().is_due(objective, hp, update, progress)

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the target policy's action [B, A] with noise, and dropout as in training."""
        return cls.smoothed(nets.target.actor(batch.next_obs, hp.dropout), hp)

    @classmethod
    def compute_vae_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss of the autoencoder of the data's actions."""
        return nets.vae.loss_per_transition(batch.obs, batch.action, hp.kl_weight).mean(), {}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the autoencoder's loss on the policy's action minus its Q, scaled to size 1."""
        action = nets.actor(batch.obs, hp.dropout)
        q = nets.critic.first(batch.obs, action)
        penalty = nets.vae.loss_per_transition(batch.obs, action, hp.kl_weight).mean()
        weight = hp.support_weight
        if batch.progress >= 1:
            weight = weight * max(hp.online_floor, 2 - batch.progress)
        loss = weight * penalty - q.mean() / q.detach().abs().mean()
        return loss, {"actor/penalty": penalty.detach()}


@torch.no_grad()
def _shrink(layer: nn.Module, bound: float) -> None:
    """Draw weights and biases of a layer uniformly from [-bound, bound]."""
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound)
