"""BCQ: Q-learning over actions proposed by a generative model of the data.

Fujimoto, Meger & Precup, "Off-Policy Deep Reinforcement Learning without Exploration", ICML 2019,
arXiv:1812.02900.

    vae     L_G  = E[ (G(s, z) - a)^2 ] + 0.5 KL( N(mu, sigma)(s, a) || N(0, 1) ),  z ~ N(mu, sigma)
    critic  L_Q  = sum_i E[ (r + gamma max_n (w min_j Q'_j + (1 - w) max_j Q'_j)(s', a_n) - Q_i(s, a))^2 ]
                   a_n = xi'(s', G(s', z_n)),  n = 1 ... 10,  z_n ~ clip(N(0, 1), -0.5, 0.5)     (13)
    actor   L_xi = -E[ Q_1(s, xi(s, G(s, z))) ],  xi(s, a) = clip(a + Phi tanh(f(s, a)), -1, 1)

Order: autoencoder, critics, perturbation, targets. The policy takes the best of 100 proposals under Q_1.

Differences: the target takes the best of 10 proposals and the policy the best of 100, as in the authors'
code; algorithm 1 has one n for both. Error and divergence of the autoencoder are means over
dimensions, as in the code. At test time the 100 latents are the same for every state, drawn when
the networks are built, so that the policy is a function; online exploration draws new ones.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets
from off2on.recipe.vae import Autoencoder, Perturbation, best_action, min_max_mixture
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class BCQHyperparameters(Hyperparameters):
    """Hyperparameters of appendix C and the authors' code."""

    perturbation: float = hp(
        0.05,
        "Phi, the largest correction of an action; 0 is none",
        least=0,
        search=("uniform", 0, 0.2),
        built=True,
    )
    smallest: float = hp(0.75, "w of the target value: w min_i Q_i + (1 - w) max_i Q_i",
                         least=0, most=1)  # fmt: skip
    target_samples: int = hp(10, "number of proposals that the target maximises over", least=1)
    act_samples: int = hp(100, "number of proposals that the policy maximises over", least=1, built=True)
    vae_hidden: tuple[int, ...] = hp(
        (750, 750), "widths of the autoencoder's hidden layers", least=1, built=True
    )
    kl_weight: float = hp(0.5, "weight of the autoencoder's divergence from N(0, 1)", least=0)
    vae_lr: float = hp(1e-3, "learning rate of the autoencoder (Adam)", above=0)
    critic_lr: float = hp(1e-3, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    actor_lr: float = hp(
        1e-3, "learning rate of the perturbation (Adam)", above=0, search=("log", 1e-4, 1e-3)
    )
    hidden: tuple[int, ...] = hp((400, 300), "widths of the hidden layers", least=1)
    batch_size: int = hp(100, "transitions per gradient update, over all learners", least=1)


class BCQ(OfflineToOnline):
    """Q-learning over actions proposed by a generative model of the data."""

    Hyperparameters = BCQHyperparameters
    objectives = ("vae", "critic", "actor")
    acting_networks = ("vae", "critic", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: BCQHyperparameters) -> Nets:
        """Build the autoencoder, twin critics and the perturbation; the latter two have targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        vae = Autoencoder(obs, action, hp.vae_hidden)
        vae.register_buffer("draws", vae.latents(hp.act_samples, 1))
        return Nets(
            vae=vae,
            critic=Critic(obs, action, hp.hidden),
            actor=Perturbation(obs, action, hp.hidden, hp.perturbation),
            targets=("critic", "actor"),
        )

    @classmethod
    def compute_vae_loss(cls, nets: Nets, batch: Batch, hp: BCQHyperparameters) -> Loss:
        """Compute the loss of the autoencoder of the data's actions."""
        return nets.vae.loss_per_transition(batch.obs, batch.action, hp.kl_weight).mean(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: BCQHyperparameters) -> Loss:
        """Compute the Bellman error against the maximum over a few proposals."""
        with torch.no_grad():
            latent = nets.vae.latents(hp.target_samples, len(batch.obs))
            action = nets.target.actor(batch.next_obs, nets.vae(batch.next_obs, latent))
            future = min_max_mixture(nets.target.critic(batch.next_obs, action), hp.smallest).amax(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: BCQHyperparameters) -> Loss:
        """Compute the deterministic policy gradient loss of the perturbation."""
        with torch.no_grad():
            proposal = nets.vae(batch.obs, nets.vae.latents(len(batch.obs)))
        action = nets.actor(batch.obs, proposal)
        shift = (action.detach() - proposal).abs().mean()
        return -nets.critic.first(batch.obs, action).mean(), {"actor/shift": shift}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: BCQHyperparameters, explore: bool) -> Tensor:
        """Return the best of many proposals; new ones are drawn if exploring."""
        rows, fixed = obs.shape[0], nets.vae.draws
        latent = nets.vae.latents(len(fixed), rows) if explore else fixed.expand(-1, rows, -1)
        return best_action(nets.critic, obs, nets.actor(obs, nets.vae(obs, latent)))
