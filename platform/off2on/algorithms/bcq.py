"""BCQ: Q-learning over actions that a generative model of the data proposes.

Fujimoto, Meger & Precup, "Off-Policy Deep Reinforcement Learning without Exploration", ICML 2019,
arXiv:1812.02900.

    vae     L_G  = E[ (G(s, z) - a)^2 ] + 0.5 KL( N(mu, sigma)(s, a) || N(0, 1) ),  z ~ N(mu, sigma)
    critic  L_Q  = sum_i E[ (r + gamma max_n (w min_j Q'_j + (1 - w) max_j Q'_j)(s', a_n) - Q_i(s, a))^2 ]
                   a_n = xi'(s', G(s', z_n)),  n = 1 ... 10,  z_n ~ clip(N(0, 1), -0.5, 0.5)     (13)
    actor   L_xi = -E[ Q_1(s, xi(s, G(s, z))) ],  xi(s, a) = clip(a + Phi tanh(f(s, a)), -1, 1)

Order: autoencoder, critics, perturbation, targets. It acts by the best of 100 proposals under Q_1.

Differences: the target takes the best of 10 proposals and acting the best of 100, as the authors'
code does; algorithm 1 has one n for both. Error and divergence of the autoencoder are means over
dimensions, as in the code. At test time the 100 latents are the same for every state, drawn when
the networks are built, so that the policy is a function; exploring online draws fresh ones.
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
    """Appendix C of the paper, and the authors' code."""

    perturbation: float = hp(
        0.05, "Phi, the largest correction of an action; 0 is none", least=0, search=("uniform", 0, 0.2)
    )
    smallest: float = hp(0.75, "w, share of the smallest critic in the target, the rest is the largest's",
                         least=0, most=1)  # fmt: skip
    target_samples: int = hp(10, "proposals of which the target takes the best", least=1)
    act_samples: int = hp(100, "proposals of which acting takes the best", least=1)
    vae_hidden: tuple[int, ...] = hp((750, 750), "widths of the autoencoder's hidden layers", least=1)
    kl_weight: float = hp(0.5, "weight of the autoencoder's divergence from N(0, 1)", least=0)
    vae_lr: float = hp(1e-3, "Adam's step size for the autoencoder", above=0)
    critic_lr: float = hp(1e-3, "Adam's step size for the critics", above=0, search=("log", 1e-4, 1e-3))
    actor_lr: float = hp(1e-3, "Adam's step size for the perturbation", above=0, search=("log", 1e-4, 1e-3))
    hidden: tuple[int, ...] = hp((400, 300), "widths of the hidden layers", least=1)
    batch_size: int = hp(100, "transitions per update, over all learners", least=1)


class BCQ(OfflineToOnline):
    """Q-learning over actions that a generative model of the data proposes."""

    Hyperparameters = BCQHyperparameters
    objectives = ("vae", "critic", "actor")
    acting_networks = ("vae", "critic", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: BCQHyperparameters) -> Nets:
        """The autoencoder, twin critics and the perturbation; the latter two have targets."""
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
        """Reconstruct the data's actions from few latent numbers."""
        return nets.vae.loss_per_transition(batch.obs, batch.action, hp.kl_weight).mean(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: BCQHyperparameters) -> Loss:
        """Q-learning, its maximum taken over a few proposals."""
        with torch.no_grad():
            latent = nets.vae.latents(hp.target_samples, len(batch.obs))
            action = nets.target.actor(batch.next_obs, nets.vae(batch.next_obs, latent))
            future = min_max_mixture(nets.target.critic(batch.next_obs, action), hp.smallest).amax(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: BCQHyperparameters) -> Loss:
        """Deterministic policy gradient of the perturbation."""
        with torch.no_grad():
            proposal = nets.vae(batch.obs, nets.vae.latents(len(batch.obs)))
        action = nets.actor(batch.obs, proposal)
        shift = (action.detach() - proposal).abs().mean()
        return -nets.critic.first(batch.obs, action).mean(), {"actor/shift": shift}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: BCQHyperparameters, explore: bool) -> Tensor:
        """The best of many proposals, fresh ones when exploring."""
        rows, fixed = obs.shape[0], nets.vae.draws
        latent = nets.vae.latents(len(fixed), rows) if explore else fixed.expand(-1, rows, -1)
        return best_action(nets.critic, obs, nets.actor(obs, nets.vae(obs, latent)))
