"""ISPI-C: two TD3+BC policies, each regularised towards the other where that has the higher value.

Hu, Ma, Xiao, Zheng & Hao, "Iteratively Refined Behavior Regularization for Offline Reinforcement
Learning" (at first "In-Sample Policy Iteration"), arXiv:2306.05726, with competing policies.

    critic        L_Q1  = E[ (r + gamma min(Q'_1(s', a'_1), Q'_2(s', a'_2)) - Q_1(s, a))^2 ]
                  a'_i  = clip(pi'_i(s') + clip(noise, -c, c), -1, 1),  the same noise for both
    actor         L_pi1 = -lambda E[ Q_1(s, pi_1(s)) ] + w E[ f |pi_1(s) - pi_2(s)|^2 ]
                          + (1 - w) E[ |pi_1(s) - a|^2 ],  lambda = alpha / E|Q_1|
                  f     = 1 where Q_2(s, pi_2(s)) > Q_1(s, pi_1(s)), 1/2 where they are equal, else 0
    rival_critic  L_Q2  = the same with 1 and 2 exchanged
    rival_actor   L_pi2 = the same with 1 and 2 exchanged

Odd updates train critic and actor, even ones their rivals, every update with a new batch; the actors are
not delayed. The acting policy is the one with the higher value under its own critic.

Differences: a step of the authors is two updates here, after which the targets of both are updated;
the authors' first targets are updated half a step earlier. Observations are normalised, as in TD3+BC and
the authors' command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.td3_bc import TD3BC, TD3BCHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CRITIC_HEAD, VALUE_HEADS
from off2on.recipe.distributions import Normal, gaussian_around
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class ISPICHyperparameters(TD3BCHyperparameters):
    """Hyperparameters of the authors' configuration."""

    critic_head: str = hp("plain", CRITIC_HEAD, choices=VALUE_HEADS)
    rival_weight: float = hp(
        0.5, "w: 0 is cloning only, 1 ignores the data", least=0, most=1, search=("choice", 0.5, 0.7)
    )
    critics: int = hp(1, "number of critics of each policy; the target is their minimum", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah-expert": {"alpha": 1.0, "rival_weight": 0.7},
    }


class ISPIC(TD3BC):
    """Two TD3+BC policies, each regularised towards the other where that has the higher value."""

    Hyperparameters = ISPICHyperparameters
    objectives = ("critic", "actor", "rival_critic", "rival_actor")
    acting_networks = ("critic", "actor", "rival_critic", "rival_actor")
    value_networks = ("critic", "rival_critic")
    turns = 2

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build two critics and two policies, all with target networks."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            critic=cls.new_critic(obs, action, hp),
            actor=cls.new_actor(obs, action, hp),
            rival_critic=cls.new_critic(obs, action, hp),
            rival_actor=cls.new_actor(obs, action, hp),
            targets=cls.acting_networks,
        )

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return both target policies' actions [2, B, A]."""
        actors = nets.target.actor, nets.target.rival_actor
        return cls.smoothed(torch.stack([actor(batch.next_obs) for actor in actors]), hp)

    @classmethod
    def target_values(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the values [2 E, B] that both policies' target critics give to their own actions [2, B, A].

        The target is the minimum.
        """
        mine = nets.target.critic(batch.next_obs, action[0])
        its = nets.target.rival_critic(batch.next_obs, action[1])
        return torch.cat((mine, its))

    @classmethod
    def distance(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, q: Tensor) -> Tensor:
        """Compute the distance to the data's actions, and to the rival's where their value is higher."""
        with torch.no_grad():
            rival = nets.rival_actor(batch.obs)
            better = 0.5 * (torch.sign(nets.rival_critic.first(batch.obs, rival) - q) + 1)
        gap = (better.unsqueeze(-1) * (action - rival).square()).mean()
        data = (1 - hp.rival_weight) * super().distance(nets, batch, hp, action, q)
        return data + hp.rival_weight * gap  # type: ignore[no-any-return]

    @classmethod
    def compute_rival_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the critic's loss for the rival."""
        return cls.compute_critic_loss(swap_roles(nets), batch, hp)

    @classmethod
    def compute_rival_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the actor's loss for the rival."""
        return cls.compute_actor_loss(swap_roles(nets), batch, hp)

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for rivals on even updates, for the others on odd ones."""
        return objective.name.startswith("rival") == (update % 2 == 0)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """Return the learning rate, which rivals share."""
        return super().lr(objective.removeprefix("rival_"), hp, progress)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Normal | None:
        """Return the policy's action with Gaussian noise; None without noise."""
        return gaussian_around(cls.act(nets, obs, hp, explore=False), hp.exploration_noise)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the policy's action with the higher value, with Gaussian noise if exploring."""
        mine, its = nets.actor(obs), nets.rival_actor(obs)
        ahead = nets.critic.first(obs, mine) >= nets.rival_critic.first(obs, its)
        action = torch.where(ahead.unsqueeze(-1), mine, its)
        return action + hp.exploration_noise * torch.randn_like(action) if explore else action


def swap_roles(nets: Any) -> Any:
    """Return the networks with the roles of the two policies exchanged."""
    swapped, target = (
        {
            "critic": of.rival_critic,
            "actor": of.rival_actor,
            "rival_critic": of.critic,
            "rival_actor": of.actor,
        }
        for of in (nets, nets.target)
    )
    return SimpleNamespace(**swapped, target=SimpleNamespace(**target))
