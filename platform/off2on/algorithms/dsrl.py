"""DSRL: a policy chooses the noise that a flow of the data's actions starts from, so that Q is maximal.

Wagenmaker et al., "Steering Your Diffusion Policy with Latent Space Reinforcement Learning", CoRL 2025,
arXiv:2506.15799, the variant with noise aliasing, with a flow as in the code of Li & Levine, "Q-learning with
Adjoint Matching", ICLR 2026, arXiv:2601.14234. dec(s, z) is the end of the flow's path from noise z.

    actor         L_pi    = E[ alpha log pi(u|s) - mean_i Z_i(s, sigma u) ],  u ~ pi(s), in (-1, 1)
    temperature   L_alpha = -E[ alpha (log pi(u|s) + H) ],  H = -(action dimensions) / 2
    flow          L_v     = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  t ~ U[0, 1]
    noise_critic  L_Z     = sum_i E[ (Q_i(s, dec(s, z)) - Z_i(s, z))^2 ],  z ~ N(0, 1)
    critic        L_Q     = sum_i E[ (r + gamma agg_j Q'_j(s', dec(s', sigma u')) - Q_i(s, a))^2 ]
    act           dec(s, sigma u)

The policy learns from Z, without a gradient through the flow. dec follows v', the target of v, in learning
and in acting. All losses use the old networks, as in the code: the actor is updated before what it reads. The
paper steers a policy that is given: with ``freeze_base`` the online phase changes neither v nor v'.

Differences: flow, critics and policy learn together offline, as in the code for flows; its presets also train
the flow online. Squares are sums over critics, the code's a mean. Layer normalisation has epsilon 1e-5, the
code's 1e-6. The deterministic action is that of pi's mode; the authors evaluate with new noise. The presets
are for chunks of actions on cubes, scenes and puzzles, and for sparse rewards on scenes and puzzles. Online
the code collects 5,000 steps before the first update (``--strategy append online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.bfn import BFN, BFNHyperparameters
from off2on.recipe import losses
from off2on.recipe.action_choice import best_proposal
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.flows import Field, euler
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, Scalar, glorot
from off2on.recipe.ogbench import common_preset

SCALES = {
    "cube-double": 1.0, "cube-triple": 1.4, "cube-quadruple": 1.4, "scene": 0.4, "puzzle-3x3": 1.0,
    "puzzle-4x4": 1.0, "antmaze-large-navigate": 0.8, "antmaze-giant-navigate": 1.2,
    "humanoidmaze-medium-navigate": 0.6, "humanoidmaze-large-navigate": 0.8,
}  # fmt: skip


@dataclass(frozen=True)
class DSRLHyperparameters(BFNHyperparameters):
    """Hyperparameters of the code for flows."""

    noise_scale: float = hp(1.0, "sigma, largest noise; 0: one action", least=0, search=("uniform", 0.4, 1.4))
    freeze_base: bool = hp(True, "keep the flow as it is in the online phase")
    samples: int = hp(1, "N, actions of the policy to choose from", least=1)
    critics: int = hp(10, "number of critics, and of noise critics", least=1, built=True)
    aggregate: str = hp("pessimistic", "combination of the critics in the target", choices=losses.AGGREGATES)
    target_entropy: float | None = hp(None, "H, target entropy; none: minus half the action dimensions")
    temperature_lr: float = hp(3e-4, "learning rate of the log temperature (Adam)", above=0)
    noise_critic_lr: float = hp(3e-4, "learning rate of the noise critics (Adam)", above=0)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        name: common_preset(name, noise_scale=scale, freeze_base=False) for name, scale in SCALES.items()
    }


class DSRL(BFN):
    """A policy of the noise that a flow starts from; the losses of flow and critics are BFN's."""

    Hyperparameters = DSRLHyperparameters
    objectives = ("actor", "temperature", "flow", "noise_critic", "critic")
    acting_networks = ("actor", "critic")
    acting_targets = ("flow",)
    value_networks = ("critic", "noise_critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the policy, the log temperature, and flow, noise critics and critics, some with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        actor = SquashedGaussianActor(obs, action, hp.hidden, activation="gelu")
        shape = obs, action, hp.hidden, hp.critics
        critic, noise_critic = (Critic(*shape, layer_norm="after", activation="gelu") for _ in range(2))
        for network in (actor, critic, noise_critic):
            glorot(network)
        flow, critics = Field(obs, action, hp.hidden), {"critic": critic, "noise_critic": noise_critic}
        return Nets(actor=actor, temperature=Scalar(0.0), flow=flow, **critics, targets=("flow", "critic"))

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return False for the flow online if it is frozen."""
        frozen = hp.freeze_base and progress >= 1 and objective.name == "flow"
        return not frozen and super().is_due(objective, hp, update, progress)

    @classmethod
    def target_rate(cls, name: str, hp: Any, update: int, progress: float) -> float:
        """Return 0 for the flow online if it is frozen: the action of a noise stays the same."""
        frozen = hp.freeze_base and progress >= 1 and name == "flow"
        return 0.0 if frozen else super().target_rate(name, hp, update, progress)

    @classmethod
    def best_action(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: Any) -> Tensor:
        """Return the best [B, A] of n actions, drawn with normal noise [n, B, A]; 0 is the mode."""
        policy = nets.actor(obs)
        drawn = (policy.location + policy.log_std.exp() * noise).tanh()
        found = euler(nets.target.flow, obs, hp.noise_scale * drawn, hp.flow_steps)
        return found[0] if len(found) == 1 else best_proposal(nets.critic(obs, found).mean(0), found)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``latent`` [B, A], ``latent_q`` [E, B], ``own_noise`` [B, A] and ``own_log_prob`` [B]."""
        batch = super().prepare(nets, batch, hp)
        batch.latent = torch.randn_like(batch.action)
        with torch.no_grad():
            action = euler(nets.target.flow, batch.obs, batch.latent, hp.flow_steps)
            batch.latent_q = nets.critic(batch.obs, action)
        batch.own_noise, batch.own_log_prob = nets.actor(batch.obs).sample()
        return batch

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute alpha log pi minus the noise critics' mean value of the drawn noise."""
        alpha = nets.temperature().detach().exp()
        value = nets.noise_critic(batch.obs, hp.noise_scale * batch.own_noise).mean(0)
        return (alpha * batch.own_log_prob - value).mean(), {}

    @classmethod
    def compute_temperature_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss that moves alpha towards the target entropy."""
        entropy = -0.5 * batch.action.shape[-1] if hp.target_entropy is None else hp.target_entropy
        return losses.learned_temperature(nets.temperature(), batch.own_log_prob, entropy)

    @classmethod
    def compute_noise_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the error against the critics' values of the actions of normal noise."""
        return losses.td(nets.noise_critic(batch.obs, batch.latent), batch.latent_q), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the policy's action, drawn if exploring and of its mode otherwise."""
        shape = obs.shape[0], nets.target.flow.width
        noise = torch.randn(hp.samples, *shape, device=obs.device) if explore else obs.new_zeros(1, *shape)
        return cls.best_action(nets, obs, noise, hp)
