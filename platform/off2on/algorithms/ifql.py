"""IFQL: IQL's values, and the best of N actions of a flow that imitates the data.

Park, Li & Levine, "Flow Q-Learning", ICML 2025, arXiv:2502.02538, section 6: IDQL (Hansen-Estruch et al.,
arXiv:2304.10573) with a flow in place of the diffusion model.

    value   L_V  = E[ |tau - 1(u < 0)| u^2 ],  u = agg_i Q'_i(s, a) - V(s)
    critic  L_Q  = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]
    flow    L_v  = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  z ~ N(0, 1),  t ~ U[0, 1]
    act     argmax over N actions of the flow of min_i Q_i(s, a)

The policy reads no values: offline it imitates the data, and the critics choose among its actions. All losses
use the old networks, as in the authors' code: the critics are updated before the value that they read. agg is
the minimum; Li & Levine, arXiv:2601.14234, take ten critics' mean minus half their standard deviation.

Differences: layer normalisation has epsilon 1e-5, the authors' 1e-6. The deterministic action chooses among N
fixed noises, of which the first is 0; the authors evaluate with new ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.action_choice import best_proposal
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.flows import Field, euler, fixed_noise, flow_matching
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, Value, glorot
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class IFQLHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of the paper's tables 5 and 6."""

    expectile: float = hp(
        0.9,
        "tau in the value loss: 0.5 is the mean, near 1 the maximum over the data's actions",
        above=0,
        below=1,
        search=("uniform", 0.5, 0.95),
    )
    aggregate: str = hp("min", "combination of the critics in the value loss", choices=losses.AGGREGATES)
    rho: float = hp(
        0.5, "weight of the critics' standard deviation", least=0, only=("aggregate", "pessimistic")
    )
    samples: int = hp(32, "N, actions of the flow to choose from", least=1, built=True)
    flow_steps: int = hp(10, "steps of Euler from noise to an action", least=1)
    flow_lr: float = hp(3e-4, "learning rate of the flow (Adam)", above=0)
    value_lr: float = hp(3e-4, "learning rate of the value (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0)
    hidden: tuple[int, ...] = hp((512, 512, 512, 512), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"reward": "minus_one"},
        "antmaze-giant-navigate": {"discount": 0.995},
        "humanoidmaze": {"discount": 0.995},
        "antsoccer": {"discount": 0.995},
        "door-cloned": {"samples": 128},
        "hammer-human": {"samples": 128},
        "relocate-human": {"samples": 128},
    }


class IFQL(OfflineToOnline):
    """IQL's values, and the best of N actions of a flow that imitates the data."""

    Hyperparameters = IFQLHyperparameters
    objectives = ("critic", "value", "flow")
    acting_networks = ("flow", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: IFQLHyperparameters) -> Nets:
        """Build a value, twin critics with targets, and the flow."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        value = Value(obs, hp.hidden, "gelu", layer_norm="after")
        critic = Critic(obs, action, hp.hidden, layer_norm="after", activation="gelu", head=head_of(hp))
        for network in (value, critic):
            glorot(network)
        flow = Field(obs, action, hp.hidden)
        flow.register_buffer("draws", fixed_noise(hp.samples, action))
        return Nets(value=value, critic=critic, flow=flow, targets=("critic",))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: IFQLHyperparameters) -> Batch:
        """Add ``target_q`` [B], agg_i Q'_i(s, a), and the flow's ``start`` [B, A] and ``time`` [B, 1]."""
        with torch.no_grad():
            q = nets.target.critic(batch.obs, batch.action)
            batch.target_q = losses.aggregate(q, hp.aggregate, hp.rho)
            batch.start = torch.randn_like(batch.action)
            batch.time = torch.rand_like(batch.action[:, :1])
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: IFQLHyperparameters) -> Loss:
        """Compute the regression of Q on the reward and the next state's value."""
        with torch.no_grad():
            target = batch.reward + hp.discount * batch.mask * nets.value(batch.next_obs)
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_value_loss(cls, nets: Nets, batch: Batch, hp: IFQLHyperparameters) -> Loss:
        """Compute the expectile regression of V on the targets' Q."""
        value = nets.value(batch.obs)
        return losses.expectile(batch.target_q - value, hp.expectile), {"value": value.detach().mean()}

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: IFQLHyperparameters) -> Loss:
        """Compute the flow matching loss on the data's actions."""
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: IFQLHyperparameters, explore: bool) -> Tensor:
        """Return the best of N actions, from new noise if exploring and from the same noise otherwise."""
        noise = nets.flow.draws.expand(-1, obs.shape[0], -1)
        proposals = euler(nets.flow, obs, torch.randn_like(noise) if explore else noise, hp.flow_steps)
        return best_proposal(nets.critic(obs, proposals).amin(0), proposals)
