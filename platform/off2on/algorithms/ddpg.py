"""DDPG: Q-learning where a policy network finds the best action.

Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016, arXiv:1509.02971.

    critic  L_Q  = E[ (r + gamma Q'(s', pi'(s')) - Q(s, a))^2 ]
    actor   L_pi = -E[ Q(s, pi(s)) ]

Order as in algorithm 1: the critic, the actor with the new critic, the targets of both. It is the
backbone of TD3; alone, offline, nothing keeps it near the data.

Differences: Gaussian noise explores instead of an Ornstein-Uhlenbeck process, for acting keeps no
state between steps. There is no batch normalisation, no weight decay and no small last layer, and
the action enters the critic in the first layer instead of the second.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import DeterministicActor
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import Normal, gaussian_around
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class DDPGHyperparameters(Hyperparameters):
    """Section 7 of the paper."""

    critic_lr: float = hp(1e-3, "Adam's step size for the critic", above=0, search=("log", 1e-4, 1e-3))
    critics: int = hp(1, "number of critics; the smallest target counts", least=1)
    exploration_noise: float = hp(0.2, "sigma of the noise on actions when collecting online", least=0)
    actor_lr: float = hp(1e-4, "Adam's step size for the policy", above=0, search=("log", 3e-5, 1e-3))
    batch_size: int = hp(64, "transitions per update, over all learners", least=1)
    polyak: float = hp(0.001, "share of the networks the targets take over per update", least=0, most=1)
    hidden: tuple[int, ...] = hp((400, 300), "widths of the hidden layers", least=1)


class DDPG(OfflineToOnline):
    """Q-learning where a policy network finds the best action."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = DDPGHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("critic", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """The critic and a tanh policy, both followed by targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            critic=cls.new_critic(obs, action, hp),
            actor=cls.new_actor(obs, action, hp),
            targets=("critic", "actor"),
        )

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """The critics, before their first update."""
        return Critic(obs, action, hp.hidden, hp.critics)

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> DeterministicActor:
        """The policy, before its first update."""
        return DeterministicActor(obs, action, hp.hidden)

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Bellman error of every critic against the one target."""
        with torch.no_grad():
            future = cls.target_value(nets, batch, hp, cls.next_action(nets, batch, hp))
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """The action a' [B, A] at which the next state is valued: the target policy's."""
        return nets.target.actor(batch.next_obs)  # type: ignore[no-any-return]

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """What the targets make of s' and an action there: the smallest, [B]."""
        return nets.target.critic(batch.next_obs, action).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """The first critic's value of the policy's action."""
        return -nets.critic.first(batch.obs, nets.actor(batch.obs)).mean(), {}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Normal | None:
        """Its action with Gaussian noise."""
        return gaussian_around(cls.act(nets, obs, hp, explore=False), hp.exploration_noise)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """The policy's action, with Gaussian noise when exploring."""
        action: Tensor = nets.actor(obs)
        return action + hp.exploration_noise * torch.randn_like(action) if explore else action
