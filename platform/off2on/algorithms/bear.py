"""BEAR: an actor-critic with a bound on the MMD between the policy's and the data's actions.

Kumar et al., "Stabilizing Off-Policy Q-Learning via Bootstrapping Error Reduction", NeurIPS 2019,
arXiv:1906.00949.

    vae         L_G     = E[ (G(s, z) - a)^2 ] + 0.5 KL( N(mu, sigma)(s, a) || N(0, 1) )
    critic      L_Q     = sum_i E[ (r + gamma max_n Q*(s', a_n) - Q_i(s, a))^2 ],  a_n ~ pi'(s'), n = 1 ... 10
                          Q* = w min_j Q'_j + (1 - w) max_j Q'_j
    actor       L_pi    = E[ alpha (MMD(s) - eps) - min_i Q_i(s, tanh u_1) ],  without Q at first
                          MMD of u_n ~ pi(s) and v_n ~ G(s, clip(N(0, 1), -0.5, 0.5)), before the tanh
    multiplier  L_alpha = -alpha E[ MMD(s) - eps ],  alpha = exp(clip(log alpha, -5, 10))

Order as in the authors' first code: autoencoder, critics, policy (in their D4RL runs it is before the
critics), multiplier (with the policy's MMD), targets. Acting takes the best of 100 samples under Q_1.

Differences: settings are those of the authors' runs on D4RL; their code reports the root of the MMD and drops
the penalty on the critics' spread. The target's actions are those of the target policy, as in the paper;
those runs take them from pi itself (``slow_actor=false``). The Q of the policy is that of one of the MMD's
samples; the authors' first code averaged over all. 40k updates of warm-up are a share of the offline ones. At
test time the 100 samples use the same noise in every state. The authors start last layers near 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, Scalar
from off2on.recipe.vae import Autoencoder, best_action, min_max_mixture
from off2on.rllib.algorithm import OfflineToOnline

LOG_ALPHA = (-5.0, 10.0)


@dataclass(frozen=True)
class BEARHyperparameters(Hyperparameters):
    """Hyperparameters of the authors for D4RL; those of Hopper and Walker2d where data sets differ."""

    threshold: float = hp(0.05, "eps, the bound on the MMD", above=0, search=("log", 0.02, 0.2))
    kernel: str = hp("laplacian", "kernel of the MMD", choices=("laplacian", "gaussian"))
    sigma: float = hp(20.0, "width of the kernel", above=0, search=("choice", 10.0, 20.0, 50.0))
    mmd_samples: int = hp(4, "number of actions of the policy, and of the data's model, in the MMD", least=1)
    warmup_share: float = hp(0.04, "share of the offline updates without Q in the policy's loss", least=0)
    slow_actor: bool = hp(True, "take the target's actions from the target network of the policy")
    smallest: float = hp(0.75, "w of the target value: w min_i Q_i + (1 - w) max_i Q_i", least=0, most=1)
    target_samples: int = hp(10, "number of actions that the target maximises over", least=1)
    act_samples: int = hp(100, "number of actions that the policy maximises over", least=1, built=True)
    vae_hidden: tuple[int, ...] = hp((750, 750), "widths of the autoencoder", least=1, built=True)
    kl_weight: float = hp(0.5, "weight of the autoencoder's divergence from N(0, 1)", least=0)
    vae_lr: float = hp(3e-4, "learning rate of the autoencoder (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    actor_lr: float = hp(1e-4, "learning rate of the policy (Adam)", above=0, search=("log", 3e-5, 1e-3))
    multiplier_lr: float = hp(1e-3, "learning rate of log alpha (Adam)", above=0)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"halfcheetah": {"kernel": "gaussian"}}


class BEAR(OfflineToOnline):
    """An actor-critic with a bound on the MMD between the policy's and the data's actions."""

    Hyperparameters = BEARHyperparameters
    objectives = ("vae", "critic", "actor", "multiplier")
    acting_networks = ("critic", "actor")
    schedules = ("warmup_share",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the autoencoder, the critics with targets, a squashed Gaussian policy and log alpha."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        actor = SquashedGaussianActor(obs, action, hp.hidden, log_std=(-5.0, 2.0))
        actor.register_buffer("noise", torch.randn(hp.act_samples, 1, action))
        return Nets(
            vae=Autoencoder(obs, action, hp.vae_hidden),
            critic=cls.build_critic(obs, action, hp),
            actor=actor,
            multiplier=Scalar(0.0),
            targets=("critic", "actor") if hp.slow_actor else ("critic",),
        )

    @classmethod
    def build_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build twin critics."""
        return Critic(obs, action, hp.hidden)

    @classmethod
    def compute_vae_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss of the autoencoder of the data's actions."""
        return nets.vae.loss_per_transition(batch.obs, batch.action, hp.kl_weight).mean(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Bellman error against the best of a few of the policy's actions."""
        with torch.no_grad():
            action = cls.next_actions(nets, batch, hp)
            future = min_max_mixture(nets.target.critic(batch.next_obs, action), hp.smallest).amax(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def next_actions(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Draw the actions [n, B, A] at s' that the target maximises over."""
        actor = nets.target.actor if hp.slow_actor else nets.actor
        return actor(batch.next_obs).sample(hp.target_samples)[0]  # type: ignore[no-any-return]

    @classmethod
    def mmd(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the MMD [], computed once per update, and add ``own_action`` [B, A], one of its samples."""
        if "mmd" not in vars(batch):
            rows, policy = len(batch.obs), nets.actor(batch.obs)
            noise = torch.randn(hp.mmd_samples, *policy.location.shape, device=batch.obs.device)
            raw = policy.location + policy.log_std.exp() * noise
            with torch.no_grad():
                data = nets.vae.before_tanh(batch.obs, nets.vae.latents(hp.mmd_samples, rows))
            batch.mmd, batch.own_action = losses.mmd(raw, data, hp.sigma, hp.kernel), raw[0].tanh()
        return batch.mmd  # type: ignore[no-any-return]

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss of the MMD constraint, minus the value after the warm-up."""
        mmd, alpha = cls.mmd(nets, batch, hp), nets.multiplier().detach().clamp(*LOG_ALPHA).exp()
        loss = alpha * (mmd - hp.threshold)
        if batch.progress >= hp.warmup_share:
            loss = loss - cls.own_value(nets, batch, hp).mean()
        return loss, {"actor/mmd": mmd.detach(), "multiplier": alpha}

    @classmethod
    def own_value(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the value [B] of the policy's action."""
        return nets.critic(batch.obs, batch.own_action).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def compute_multiplier_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss for dual ascent on the multiplier of the MMD constraint."""
        return losses.multiplier(nets.multiplier(), cls.mmd(nets, batch, hp) - hp.threshold, *LOG_ALPHA), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the best of many samples; new ones are drawn if exploring."""
        policy, noise = nets.actor(obs), nets.actor.noise
        if explore:
            noise = torch.randn(len(noise), *policy.location.shape, device=obs.device)
        return best_action(nets.critic, obs, (policy.location + policy.log_std.exp() * noise).tanh())
