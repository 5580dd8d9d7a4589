"""PLAS: a policy over the latent actions of a generative model, which is trained first.

Zhou, Bajracharya & Held, "PLAS: Latent Action Space for Offline Reinforcement Learning", CoRL 2020,
arXiv:2011.07213.

    vae     L_G  = E[ (G(s, z) - a)^2 ] + 0.5 KL( N(mu, sigma)(s, a) || N(0, 1) ),  z ~ N(mu, sigma)
    critic  L_Q  = sum_i E[ (r + gamma (w min_j Q'_j + (1 - w) max_j Q'_j)(s', a') - Q_i(s, a))^2 ]
    actor   L_pi = -E[ Q_1(s, a~) ],  a~ = G(s, 2 tanh f(s)), and a' likewise with the targets
                   PLAS+P:  a~ = clip(G + Phi tanh(xi(s, G)), -1, 1),  G = G(s, 2 tanh f(s))

Order: only the autoencoder for the first half of the offline updates; then it is frozen, and critics,
policy and targets are updated. Online it stays frozen. ``preset=perturbation`` is PLAS+P.

Differences: w = 0.75 is the authors' code's; d3rlpy's reproduction takes 1. The code trains the
autoencoder for 500k updates and the policy for as many: here that is a share of the offline updates,
so that their number is the budget of both. Online exploration, which is not in the paper, adds Gaussian
noise to the action, as in TD3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import Normal, gaussian_around
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import MLP, Critic, Nets
from off2on.recipe.vae import Autoencoder, Perturbation, min_max_mixture
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class PLASHyperparameters(Hyperparameters):
    """Hyperparameters of the authors' code."""

    perturbation: float = hp(
        0.0, "Phi, the largest correction of a decoded action: 0 is PLAS, 0.05 PLAS+P", least=0,
        search=("choice", 0.0, 0.01, 0.05), built=True,
    )  # fmt: skip
    reach: float = hp(2.0, "largest absolute value of a latent action", above=0, built=True)
    vae_share: float = hp(
        0.5, "share of the offline updates that train the autoencoder, before the rest", least=0, below=1
    )
    smallest: float = hp(0.75, "w of the target value: w min_i Q_i + (1 - w) max_i Q_i", least=0, most=1)
    vae_hidden: tuple[int, ...] = hp(
        (750, 750),
        "widths of the autoencoder's hidden layers; 128 for medium-replay data",
        least=1,
        built=True,
    )
    kl_weight: float = hp(0.5, "weight of the autoencoder's divergence from N(0, 1)", least=0)
    exploration_noise: float = hp(0.1, "sigma of the noise on exploring actions", least=0)
    vae_lr: float = hp(1e-4, "learning rate of the autoencoder (Adam)", above=0)
    critic_lr: float = hp(1e-3, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    actor_lr: float = hp(1e-4, "learning rate of the policy (Adam)", above=0, search=("log", 3e-5, 1e-3))
    hidden: tuple[int, ...] = hp((400, 300), "widths of the hidden layers", least=1)
    batch_size: int = hp(100, "transitions per gradient update, over all learners", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "perturbation": {"perturbation": 0.05},
        "locomotion-medium-replay": {"vae_hidden": (128, 128)},
    }


class LatentActor(nn.Module):
    """A deterministic policy over latent actions, with an optional correction of the decoded actions."""

    def __init__(self, obs: int, action: int, hp: PLASHyperparameters) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hp.hidden, 2 * action))
        self.reach = hp.reach
        if hp.perturbation:
            self.correct = Perturbation(obs, action, hp.hidden, hp.perturbation)

    def forward(self, obs: Tensor, decoder: Autoencoder) -> Tensor:
        """Return actions [B, A] at observations [B, D]."""
        action: Tensor = decoder(obs, self.reach * self.mlp(obs).tanh())
        return self.correct(obs, action) if hasattr(self, "correct") else action


class PLAS(OfflineToOnline):
    """A policy over the latent actions of a generative model."""

    Hyperparameters = PLASHyperparameters
    objectives = ("vae", "critic", "actor")
    acting_networks = ("vae", "actor")
    schedules = ("vae_share",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: PLASHyperparameters) -> Nets:
        """Build the autoencoder, twin critics and the latent policy; the latter two have targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            vae=Autoencoder(obs, action, hp.vae_hidden),
            critic=Critic(obs, action, hp.hidden),
            actor=LatentActor(obs, action, hp),
            targets=("critic", "actor"),
        )

    @classmethod
    def is_due(cls, objective: Objective, hp: PLASHyperparameters, update: int, progress: float) -> bool:
        """Return True for the autoencoder in the first share of the updates, for the others after."""
        return (objective.name == "vae") == (progress < hp.vae_share)

    @classmethod
    def compute_vae_loss(cls, nets: Nets, batch: Batch, hp: PLASHyperparameters) -> Loss:
        """Compute the loss of the autoencoder of the data's actions."""
        return nets.vae.loss_per_transition(batch.obs, batch.action, hp.kl_weight).mean(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: PLASHyperparameters) -> Loss:
        """Compute the Bellman error against a mixture of the targets."""
        with torch.no_grad():
            action = nets.target.actor(batch.next_obs, nets.vae)
            future = min_max_mixture(nets.target.critic(batch.next_obs, action), hp.smallest)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: PLASHyperparameters) -> Loss:
        """Compute the deterministic policy gradient loss through the decoder."""
        return -nets.critic.first(batch.obs, nets.actor(batch.obs, nets.vae)).mean(), {}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: PLASHyperparameters) -> Normal | None:
        """Return the policy's action with Gaussian noise; None without noise."""
        return gaussian_around(cls.act(nets, obs, hp, explore=False), hp.exploration_noise)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: PLASHyperparameters, explore: bool) -> Tensor:
        """Return the decoded action, with Gaussian noise if exploring."""
        action: Tensor = nets.actor(obs, nets.vae)
        return action + hp.exploration_noise * torch.randn_like(action) if explore else action
