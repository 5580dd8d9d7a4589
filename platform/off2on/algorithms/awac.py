"""AWAC: an actor-critic with advantage-weighted cloning, the same offline and online.

Nair, Gupta, Dalal & Levine, "AWAC: Accelerating Online Reinforcement Learning with Offline
Datasets", 2020, arXiv:2006.09359.

    actor   L_pi = -E[ w log pi(a|s) ],  A = min_i Q_i(s, a) - min_i Q_i(s, a~),  a~ ~ pi(s)
            w = B softmax(A / lambda) over the batch of B, or min(exp(A / lambda), 100)
    critic  L_Q  = sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ],  a' ~ pi(s')

Order: critics, policy, targets; a~ and a' are drawn first. As in the authors' code (rlkit), the advantage of
the softmax sees the critics as the update found them; as in CORL's, that of ``weight=exp_clip`` sees them
after their step. The policy is N(tanh f(s), sigma) with one sigma for all states, log sigma in [-6, 0]. Only
the policy's weights decay. At the handover, neither the batches nor the networks change.

Differences: the paper's weight exp(A / lambda) / Z has an unknown Z(s); the authors' code divides by the sum
over the batch, which is the default here. ``weight=exp_clip`` is CORL's, without Z, and the presets are
CORL's settings with it, but for the policy: CORL's mean is not bounded, and its log sigma starts at 0, in
[-20, 2]. Samples are clipped to the action box before they are evaluated (d3rlpy, CORL). log sigma is a
clipped number that starts where the authors' squashed one does, at -3. The critics are as deep as the policy;
rlkit starts the policy's last layer near 0. With several learners the softmax is over a learner's share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.distributions import Normal
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets
from off2on.rllib.algorithm import OfflineToOnline

CORL = {"weight": "exp_clip", "batch_size": 256, "hidden": (256, 256, 256), "normalise_obs": True}
CORL |= {"weight_decay": 0.0}


@dataclass(frozen=True)
class AWACHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of the paper's appendix; presets for D4RL from CORL."""

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "locomotion": CORL | {"temperature": 0.3333},
        "antmaze": CORL | {"temperature": 0.1, "reward": "minus_one"},
        "adroit": CORL | {"temperature": 0.1},
    }

    temperature: float = hp(
        1.0, "lambda: small follows the critics, large clones the data", above=0, search=("log", 0.1, 10)
    )
    weight: str = hp(
        "softmax", "weight of an action: over the batch, or independent", choices=("softmax", "exp_clip")
    )
    weight_clip: float = hp(100.0, "largest weight with exp_clip", above=0)
    weight_decay: float = hp(1e-4, "weight decay of the policy, added to its gradient", least=0, built=True)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    batch_size: int = hp(1024, "transitions per gradient update, over all learners", least=1)
    hidden: tuple[int, ...] = hp((256, 256, 256, 256), "widths of the hidden layers", least=1)


class AWAC(OfflineToOnline):
    """Advantage-weighted cloning with a critic that is learned off-policy."""

    Hyperparameters = AWACHyperparameters
    objectives = ("critic", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: AWACHyperparameters) -> Nets:
        """Build twin critics with targets and a Gaussian policy."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            actor=GaussianActor(obs, action, hp.hidden, log_std=(-6.0, 0.0), start=-3.0),
            critic=Critic(obs, action, hp.hidden, head=head_of(hp)),
            targets=("critic",),
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: AWACHyperparameters) -> Batch:
        """Draw ``own_action`` [B, A] ~ pi(s) and ``own_next_action`` [B, A] ~ pi(s'), without gradient.

        With softmax weights also add ``advantage`` [B], by the critics before their step.
        """
        with torch.no_grad():
            drawn = nets.actor(torch.cat((batch.obs, batch.next_obs))).sample().clamp(-1, 1)
        batch.own_action, batch.own_next_action = drawn.chunk(2)
        if hp.weight == "softmax":
            batch.advantage = cls.advantage(nets, batch)
        return batch

    @classmethod
    @torch.no_grad()
    def advantage(cls, nets: Nets, batch: Batch) -> Tensor:
        """Return the advantage [B] of the recorded action over the policy's own."""
        actions = torch.stack((batch.action, batch.own_action))
        taken, own = nets.critic(batch.obs, actions).amin(0)
        return taken - own  # type: ignore[no-any-return]

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: AWACHyperparameters) -> Loss:
        """Compute the cloning loss, weighted by the advantage over the policy's own action."""
        softmax = hp.weight == "softmax"
        advantage = batch.advantage if softmax else cls.advantage(nets, batch)
        log_prob = nets.actor(batch.obs).log_prob(batch.action)
        metrics = {"actor/log_prob": log_prob.detach().mean(), "advantage": advantage.mean()}
        if not softmax:
            loss = losses.advantage_weighted(log_prob, advantage, 1 / hp.temperature, hp.weight_clip)
            return loss, metrics
        weight = (advantage / hp.temperature).softmax(0)  # sums to 1: the batch's mean has B of them
        return -(weight * log_prob).sum(), metrics | {"actor/largest_weight": weight.max() * len(weight)}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: AWACHyperparameters) -> Loss:
        """Compute the Bellman error of every critic against the minimum of the targets."""
        with torch.no_grad():
            future = nets.target.critic.future(batch.next_obs, batch.own_next_action).amin(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def optimizer(cls, objective: str, hp: AWACHyperparameters, vector: Tensor) -> torch.optim.Optimizer:
        """Return Adam, with weight decay for the policy."""
        decay = hp.weight_decay if objective == "actor" else 0.0
        return torch.optim.Adam([vector], lr=cls.lr(objective, hp, 0.0), weight_decay=decay, fused=True)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: AWACHyperparameters) -> Normal:
        """Return the Gaussian distribution of actions at [B, D]."""
        return nets.actor(obs)  # type: ignore[no-any-return]
