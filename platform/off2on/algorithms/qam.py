"""QAM: a flow is moved to better actions by adjoint matching, and stays near a flow of the data's actions.

Li & Levine, "Q-learning with Adjoint Matching", ICLR 2026, arXiv:2601.14234; adjoint matching is due to
Domingo-Enrich et al., arXiv:2409.08861 (`recipe/adjoint_matching.py` has its equations).

    flow    L_v = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  z ~ N(0, 1),  t ~ U[0, 1]
    fast    L_f = E[ sum_i |2 (f(s, x_i, t_i) - v'(s, x_i, t_i)) / sigma_i + sigma_i g_i|^2 ]
            x_i   a random path of T steps along f, from z
            g_i   adjoint at x_i, along v', of the cost -lambda mean_j Q'_j(s, clip(x_T))
    critic  L_Q = mean_i E[ (r + gamma agg_j Q'_j(s', a') - Q_i(s, a))^2 ],  a' an action of f at s'
    act     the end of f's path

With many steps, the optimal f generates the data's policy weighted by exp(lambda Q); no gradient goes through
the steps of f. v' and Q' are targets. As in the authors' code, all losses use the old networks, and the
gradients of all networks are scaled together to a norm of at most 1. The squares of L_Q are therefore a mean
over critics, as there. Variants with a second policy: `qam_e`, with which the paper reports the best scores,
and `qam_f`.

Differences: layer normalisation has epsilon 1e-5, the authors' 1e-6. The deterministic action starts from
noise 0; the authors evaluate with new noise. The presets are the authors'; on cubes, scenes and puzzles they
are for chunks of actions, and on scenes and puzzles for sparse rewards. Online the authors collect 5,000
steps before the first update (``--strategy append online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.adjoint_matching import adjoint_matching, adjoints, random_path
from off2on.recipe.batch import Batch
from off2on.recipe.flows import Field, euler, flow_matching
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, glorot
from off2on.recipe.ogbench import common_preset
from off2on.rllib.algorithm import OfflineToOnline

INV_TEMP = {
    "cube-double": 1.0, "cube-triple": 3.0, "cube-quadruple": 1.0, "scene": 1.0, "puzzle-3x3": 3.0,
    "puzzle-4x4": 30.0, "antmaze-large-navigate": 10.0, "antmaze-giant-navigate": 3.0,
    "humanoidmaze-medium-navigate": 3.0, "humanoidmaze-large-navigate": 3.0,
}  # fmt: skip


@dataclass(frozen=True)
class QAMHyperparameters(Hyperparameters):
    """Hyperparameters of the authors' code."""

    inv_temp: float = hp(
        1.0,
        "lambda, weight of Q; larger goes farther from the data, and 0 imitates them",
        least=0,
        search=("choice", 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    )
    critics: int = hp(10, "number of critics", least=1, built=True)
    aggregate: str = hp("pessimistic", "combination of the critics in the target", choices=losses.AGGREGATES)
    rho: float = hp(0.5, "weight of their standard deviation", least=0, only=("aggregate", "pessimistic"))
    flow_steps: int = hp(10, "T, steps from noise to an action", least=1)
    gradient_norm: float | None = hp(1.0, "largest norm of all gradients together; none: no limit", above=0)
    flow_lr: float = hp(3e-4, "learning rate of the flow of the data (Adam)", above=0)
    fast_lr: float = hp(3e-4, "learning rate of the flow that is moved (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    hidden: tuple[int, ...] = hp((512, 512, 512, 512), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        domain: common_preset(domain, inv_temp=value) for domain, value in INV_TEMP.items()
    }


class QAM(OfflineToOnline):
    """A flow that is moved to better actions by adjoint matching."""

    Hyperparameters = QAMHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("flow", "fast", "critic")
    acting_networks: ClassVar[tuple[str, ...]] = ("fast",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the flow of the data and critics, both with targets, and the flow that is moved."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        critic = Critic(obs, action, hp.hidden, hp.critics, layer_norm="after", activation="gelu")
        glorot(critic)
        flow, fast = Field(obs, action, hp.hidden), Field(obs, action, hp.hidden)
        return Nets(flow=flow, fast=fast, critic=critic, targets=("flow", "critic"))

    @classmethod
    def act_from(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: Any, draw: bool) -> Tensor:
        """Return actions [B, A] from noise [B, A]; `draw` draws what else is random."""
        return euler(nets.fast, obs, noise, hp.flow_steps)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``points`` [T + 1, B, A], ``adjoints`` [T, B, A], ``target`` [B], and the flow's draws."""
        shape, device = batch.action.shape, batch.obs.device
        with torch.no_grad():
            batch.start, path_start, next_noise = torch.randn(3, *shape, device=device)
            batch.time = torch.rand_like(batch.action[:, :1])
            noise = torch.randn(hp.flow_steps - 1, *shape, device=device)
            action = cls.act_from(nets, batch.next_obs, next_noise, hp, draw=True)
            future = cls.target_value(nets, batch, hp, action)
            batch.target = batch.reward + hp.discount * batch.mask * future
            batch.points = random_path(nets.fast, nets.target.flow, batch.obs, path_start, noise)

        def cost(action: Tensor) -> Any:
            return -hp.inv_temp * nets.target.critic(batch.obs, action.clamp(-1, 1)).mean(0).sum()

        batch.adjoints = adjoints(nets.target.flow, batch.obs, batch.points, cost)
        return batch

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the combined value [B] of the targets at s' and an action there."""
        return losses.aggregate(nets.target.critic(batch.next_obs, action), hp.aggregate, hp.rho)

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the flow matching loss on the data's actions."""
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time), {}

    @classmethod
    def compute_fast_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the adjoint matching loss."""
        loss = adjoint_matching(nets.fast, nets.target.flow, batch.obs, batch.points, batch.adjoints)
        return loss, {"fast/adjoint": batch.adjoints.abs().mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Bellman error, a mean over critics, because gradients are scaled together."""
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, batch.target, batch.weight) / len(q), {"q": q.detach().mean()}

    @classmethod
    def max_joint_gradient_norm(cls, hp: Any) -> float | None:
        """Return the largest norm of all gradients together."""
        return hp.gradient_norm  # type: ignore[no-any-return]

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the policy's action, from new noise if exploring and from noise 0 otherwise."""
        noise = obs.new_zeros(obs.shape[0], getattr(nets, cls.acting_networks[0]).width)
        return cls.act_from(nets, obs, torch.randn_like(noise) if explore else noise, hp, draw=explore)
