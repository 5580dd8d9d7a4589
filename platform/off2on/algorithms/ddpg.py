"""DDPG: Q-learning with a deterministic policy network for the maximising action.

Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016, arXiv:1509.02971.

    critic  L_Q  = E[ (r + gamma Q'(s', pi'(s')) - Q(s, a))^2 ]
    actor   L_pi = -E[ Q(s, pi(s)) ]

Order as in algorithm 1: the critic, the actor with the new critic, the targets of both. It is the
backbone of TD3; by itself, offline, it has no regularisation towards the data.

Differences: exploration uses Gaussian noise instead of an Ornstein-Uhlenbeck process, because acting keeps
no state between steps. There is no batch normalisation, no weight decay and no small last layer, and
the action enters the critic in the first layer instead of the second.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import DeterministicActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.distributions import Normal, gaussian_around
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class DDPGHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of section 7."""

    critic_lr: float = hp(1e-3, "learning rate of the critic (Adam)", above=0, search=("log", 1e-4, 1e-3))
    critics: int = hp(1, "number of critics; the target is their minimum", least=1, built=True)
    exploration_noise: float = hp(0.2, "sigma of the noise on exploring actions", least=0)
    actor_lr: float = hp(1e-4, "learning rate of the policy (Adam)", above=0, search=("log", 3e-5, 1e-3))
    batch_size: int = hp(64, "transitions per gradient update, over all learners", least=1)
    polyak: float = hp(0.001, "tau: per update, target <- (1 - tau) target + tau network", least=0, most=1)
    hidden: tuple[int, ...] = hp((400, 300), "widths of the hidden layers", least=1)


class DDPG(OfflineToOnline):
    """Q-learning with a deterministic policy network for the maximising action."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = DDPGHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("critic", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the critic and a tanh policy, both with target networks."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            critic=cls.new_critic(obs, action, hp),
            actor=cls.new_actor(obs, action, hp),
            targets=("critic", "actor"),
        )

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build the critics."""
        return Critic(obs, action, hp.hidden, hp.critics, head=head_of(hp))

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> DeterministicActor:
        """Build the policy."""
        return DeterministicActor(obs, action, hp.hidden)

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Bellman error of every critic against the common target."""
        with torch.no_grad():
            next_value = cls.next_value(nets, batch, hp, cls.next_action(nets, batch, hp))
            target = batch.reward + hp.discount * batch.mask * next_value
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the target policy's action a' [B, A] at the next state."""
        return nets.target.actor(batch.next_obs)  # type: ignore[no-any-return]

    @classmethod
    def next_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return what the target adds to the reward [B], before the discount."""
        return cls.target_value(nets, batch, hp, action)

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the minimum over the target critics [B] at s' and an action there."""
        return cls.target_values(nets, batch, hp, action).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute minus the first critic's value of the policy's action."""
        return -nets.critic.first(batch.obs, nets.actor(batch.obs)).mean(), {}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Normal | None:
        """Return the policy's action with Gaussian noise; None without noise."""
        return gaussian_around(cls.act(nets, obs, hp, explore=False), hp.exploration_noise)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the policy's action, with Gaussian noise if exploring."""
        action: Tensor = nets.actor(obs)
        return action + hp.exploration_noise * torch.randn_like(action) if explore else action
