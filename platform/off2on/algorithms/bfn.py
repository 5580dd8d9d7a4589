"""BFN: the best of N actions of a flow that imitates the data, by a critic that is trained with them.

Baseline and basis of Li, Zhou & Levine, "Reinforcement Learning with Action Chunking", NeurIPS 2025,
arXiv:2507.07969 (there Q-chunking with chunks of one action).

    flow    L_v  = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  z ~ N(0, 1),  t ~ U[0, 1]
    critic  L_Q  = sum_i E[ (r + gamma agg_j Q'_j(s', a*) - Q_i(s, a))^2 ]
            a*     argmax over N actions of the flow at s' of agg_i Q_i(s', a)
    act     a* at s

The data's policy is imitated, never improved; the improvement is the choice. Both losses use the old
networks, as in the authors' code: `prepare` draws the noise and computes the targets.

Differences: squares are sums over critics, the authors' a mean. Layer normalisation has epsilon 1e-5, the
authors' 1e-6. The deterministic action chooses among N fixed noises, of which the first is 0; the authors
evaluate with new ones. Online they collect 5,000 steps before the first update
(``--strategy append online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.action_choice import best_proposal
from off2on.recipe.batch import Batch
from off2on.recipe.flows import Field, euler, fixed_noise, flow_matching
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, glorot
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class BFNHyperparameters(Hyperparameters):
    """Hyperparameters of the paper's tables 3 and 4; ``pessimistic`` is Li & Levine's, arXiv:2601.14234."""

    samples: int = hp(
        4, "N, actions of the flow to choose from", least=1, search=("choice", 4, 8, 16, 32), built=True
    )
    aggregate: str = hp("mean", "combination of the critics", choices=losses.AGGREGATES)
    rho: float = hp(
        0.5, "weight of the critics' standard deviation", least=0, only=("aggregate", "pessimistic")
    )
    flow_steps: int = hp(10, "steps of Euler from noise to an action", least=1)
    flow_lr: float = hp(3e-4, "learning rate of the flow (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    hidden: tuple[int, ...] = hp((512, 512, 512, 512), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "robomimic": {"samples": 16, "reward": "minus_one"},
    }


class BFN(OfflineToOnline):
    """The best of N actions of a flow that imitates the data."""

    Hyperparameters = BFNHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("flow", "critic")
    acting_networks: ClassVar[tuple[str, ...]] = ("flow", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: BFNHyperparameters) -> Nets:
        """Build the flow, and twin critics with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        flow = Field(obs, action, hp.hidden)
        flow.register_buffer("draws", fixed_noise(hp.samples, action))
        critic = Critic(obs, action, hp.hidden, layer_norm="after", activation="gelu")
        glorot(critic)
        return Nets(flow=flow, critic=critic, targets=("critic",))

    @classmethod
    def combined(cls, q: Tensor, hp: BFNHyperparameters) -> Tensor:
        """Combine the critics' values [E, …] to […]."""
        return losses.aggregate(q, hp.aggregate, hp.rho)

    @classmethod
    def best_action(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: BFNHyperparameters) -> Tensor:
        """Return the best action [B, A] of the ends of the paths from noise [n, B, A]."""
        proposals = euler(nets.flow, obs, noise, hp.flow_steps)
        return best_proposal(cls.combined(nets.critic(obs, proposals), hp), proposals)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: BFNHyperparameters) -> Batch:
        """Add the flow's ``start`` [B, A] and ``time`` [B, 1], and the critics' ``target`` [B]."""
        with torch.no_grad():
            batch.start = torch.randn_like(batch.action)
            batch.time = torch.rand_like(batch.action[:, :1])
            noise = torch.randn(hp.samples, *batch.action.shape, device=batch.action.device)
            action = cls.best_action(nets, batch.next_obs, noise, hp)
            future = cls.target_value(nets, batch, hp, action)
            batch.target = batch.reward + hp.discount * batch.mask * future
        return batch

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: BFNHyperparameters, action: Tensor) -> Tensor:
        """Return the combined value [B] of the targets at s' and the best action."""
        return cls.combined(nets.target.critic(batch.next_obs, action), hp)

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: BFNHyperparameters) -> Loss:
        """Compute the flow matching loss on the data's actions."""
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: BFNHyperparameters) -> Loss:
        """Compute the Bellman error against the targets' value of the best next action."""
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, batch.target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: BFNHyperparameters, explore: bool) -> Tensor:
        """Return the best of N actions, from new noise if exploring and from the same noise otherwise."""
        noise = nets.flow.draws.expand(-1, obs.shape[0], -1)
        return cls.best_action(nets, obs, torch.randn_like(noise) if explore else noise, hp)
