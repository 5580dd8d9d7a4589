"""FAN: a policy in one step that is anchored to a flow of the data's actions; its critics also read noise.

Lee et al., "Towards Efficient and Expressive Offline RL via Flow-Anchored Noise-conditioned Q-Learning",
ICML 2026, arXiv:2605.01663. x, y, z: noise from N(0, 1) of the width of an action; t ~ U[0, 1].

    anchor  d(s, z, a) = a - z - v(s, (1 - t) z + t a, t)
    actor   L_mu = alpha1 E[ |d(s, z, a)|^2 ] - E[ lambda mean_i Q_i(s, a, y) + lambda' mean_i Z_i(s, a) ]
            a = mu(s, z)
    flow    L_v  = E[ |v(s, (1 - t) x + t a, t) - (a - x)|^2 ]
    upper   L_Z  = mean_i E[ |kappa - 1(u < 0)| u^2 ],  u = mean_j Q'_j(s, a, y) - Z_i(s, a)
    critic  L_Q  = sum_i E[ (r + gamma (agg_j Z_j(s', a') - alpha2 |d(s', z, a')|^2) - Q_i(s, a, z))^2 ]
            a' = mu(s', z), with the same z as Q_i

With the noise that made the next action as an input, Q learns a distribution of returns; Z is an upper
expectile of it. The anchor is 0 where the straight path from z to a follows the flow, so that no path is
followed step by step. As in the authors' code, its square is a mean over dimensions in L_mu and a sum in L_Q,
Q and Z are computed for actions clipped to the box, and all losses use the old networks. Online the authors
drop the penalty (``online.alpha2=0``) and loosen the anchor of some tasks (``online.alpha1``, 10 to 100).

Differences: squares of L_Q are sums over critics, the authors' a mean. Layer normalisation has epsilon
1e-5, the authors' 1e-6. The deterministic action is mu(s, 0); the authors evaluate with new noise. lambda
and lambda' are 1, or 1 / |mean Q| and 1 / |mean Z| if ``normalise_q``, an option of theirs and the default
here, with alpha1 = alpha2 = 1. Presets (alpha1, alpha2) are their scripts', the first of two. Reports show Z.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.flows import Field, NoiseActor, NoiseCritic, anchor, flow_matching
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, glorot
from off2on.rllib.algorithm import OfflineToOnline

OGBENCH = {"antsoccer": (10, 0.1), "cube-double": (100, 0), "puzzle": (100, 3), "scene": (100, 3)}
D4RL = {"pen": (1e3, 0), "door": (3e3, 10), "hammer": (1e4, 0.3), "relocate": (1e4, 10)}


def _preset(alphas: tuple[float, float], **more: object) -> dict[str, object]:
    return {"normalise_q": False, "alpha1": alphas[0], "alpha2": alphas[1], **more}


@dataclass(frozen=True)
class FANHyperparameters(Hyperparameters):
    """Hyperparameters of the authors' code; the weights are for values that are normalised."""

    alpha1: float = hp(
        1.0, "weight of the anchor in the policy's loss", least=0, search=("choice", 0.1, 0.3, 1.0, 3.0, 10.0)
    )
    alpha2: float = hp(1.0, "weight of the anchor in the critics' target, in the unit of the reward", least=0)
    expectile: float = hp(0.9, "kappa of the upper values: 0.5 is the mean over noise", above=0, below=1)
    normalise_q: bool = hp(True, "divide Q and Z in the policy's loss by their mean absolute values")
    aggregate: str = hp("mean", "combination of the upper values in the target", choices=losses.AGGREGATES)
    rho: float = hp(
        0.5, "weight of the upper values' standard deviation", least=0, only=("aggregate", "pessimistic")
    )
    flow_lr: float = hp(3e-4, "learning rate of the flow (Adam)", above=0)
    upper_lr: float = hp(3e-4, "learning rate of the upper values (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    hidden: tuple[int, ...] = hp((512, 512, 512, 512), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **{name: _preset(alphas, discount=0.995) for name, alphas in OGBENCH.items()},
        **{name: _preset(alphas, aggregate="min") for name, alphas in D4RL.items()},
        "antmaze-medium": _preset((3, 0.03), aggregate="min", reward="minus_one"),
        "antmaze-large": _preset((3, 0.03), aggregate="min", reward="minus_one"),
    }


class FAN(OfflineToOnline):
    """A policy in one step that is anchored to a flow; its critics also read noise."""

    Hyperparameters = FANHyperparameters
    objectives = ("actor", "flow", "upper", "critic")
    value_networks = ("critic", "upper")
    regularisation = ("alpha1", "alpha2")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: FANHyperparameters) -> Nets:
        """Build the policy, the flow, twin upper values, and twin critics with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        upper = Critic(obs, action, hp.hidden, layer_norm="after", activation="gelu")
        critic = NoiseCritic(obs, action, hp.hidden, layer_norm="after", activation="gelu")
        glorot(upper)
        glorot(critic)
        actor, flow = NoiseActor(obs, action, hp.hidden), Field(obs, action, hp.hidden)
        return Nets(actor=actor, flow=flow, upper=upper, critic=critic, targets=("critic",))

    @classmethod
    def q(cls, nets: Nets, obs: Tensor, action: Tensor) -> Tensor:
        """Return the upper values [E, B] of actions [B, A]."""
        return nets.upper(obs, action)  # type: ignore[no-any-return]

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: FANHyperparameters) -> Batch:
        """Add noise [B, A] and times [B, 1] of the losses, and ``target`` and its ``penalty`` [B]."""
        with torch.no_grad():
            batch.start, batch.noise, *others = torch.randn(5, *batch.action.shape, device=batch.obs.device)
            batch.actor_q_noise, batch.upper_noise, batch.next_noise = others
            batch.time, batch.anchor_time, time = torch.rand(3, len(batch.action), 1, device=batch.obs.device)
            action = nets.actor(batch.next_obs, batch.next_noise).clamp(-1, 1)
            distance = anchor(nets.flow, batch.next_obs, action, batch.next_noise, time)
            batch.penalty = hp.alpha2 * distance.square().sum(-1)
            future = losses.aggregate(nets.upper(batch.next_obs, action), hp.aggregate, hp.rho)
            batch.target = batch.reward + hp.discount * batch.mask * (future - batch.penalty)
        return batch

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: FANHyperparameters) -> Loss:
        """Compute the squared anchor minus Q and Z of the policy's action."""
        action = nets.actor(batch.obs, batch.noise)
        distance = anchor(nets.flow, batch.obs, action, batch.noise, batch.anchor_time).square().mean()
        action = action.clamp(-1, 1)
        q = nets.critic(batch.obs, action, batch.actor_q_noise).mean(0)
        values = torch.stack((q, nets.upper(batch.obs, action).mean(0)))
        if hp.normalise_q:
            values = values / values.detach().abs().mean(1, keepdim=True)
        return hp.alpha1 * distance - values.sum(0).mean(), {"actor/distance": distance.detach()}

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: FANHyperparameters) -> Loss:
        """Compute the flow matching loss on the data's actions."""
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time), {}

    @classmethod
    def compute_upper_loss(cls, nets: Nets, batch: Batch, hp: FANHyperparameters) -> Loss:
        """Compute the expectile regression of Z on the targets' Q."""
        with torch.no_grad():
            q = nets.target.critic(batch.obs, batch.action, batch.upper_noise).mean(0)
        value = nets.upper(batch.obs, batch.action)
        return losses.expectile(q - value, hp.expectile), {"upper": value.detach().mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: FANHyperparameters) -> Loss:
        """Compute the Bellman error of Q with the noise that made the next action."""
        q = nets.critic(batch.obs, batch.action, batch.next_noise)
        metrics = {"q": q.detach().mean(), "critic/penalty": batch.penalty.mean()}
        return losses.td(q, batch.target, batch.weight), metrics

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: FANHyperparameters, explore: bool) -> Tensor:
        """Return the policy's action, from new noise if exploring and from noise 0 otherwise."""
        noise = obs.new_zeros(obs.shape[0], nets.actor.width)
        return nets.actor(obs, torch.randn_like(noise) if explore else noise).clamp(-1, 1)  # type: ignore[no-any-return]
