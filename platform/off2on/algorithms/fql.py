"""FQL: a policy in one step, distilled from a flow of the data's actions while it maximises Q.

Park, Li & Levine, "Flow Q-Learning", ICML 2025, arXiv:2502.02538.

    flow    L_v  = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  z ~ N(0, 1),  t ~ U[0, 1]    (1)
    actor   L_mu = alpha E[ |mu(s, z) - a_v(s, z)|^2 ] - lambda E[ mean_i Q_i(s, mu(s, z)) ]              (8)
            a_v    the end of the flow's path from z (10 steps of Euler)
    critic  L_Q  = sum_i E[ (r + gamma agg_j Q'_j(s', mu(s', z')) - Q_i(s, a))^2 ]                        (6)

Only the policy is improved, and it needs no gradient through the steps of the flow. The authors compute all
losses with the old networks: `prepare` draws the noise and computes the targets, and the actor is updated
before what it reads. lambda is 1, or 1 / |mean Q| if ``normalise_q``, which is the authors' advice for new
data; Q is computed for actions clipped to the box, the distance for unclipped ones.

Differences: squares are sums over critics, the authors' a mean (Adam makes of it the same step, apart from
its epsilon). Layer normalisation has epsilon 1e-5, the authors' 1e-6. The deterministic action is mu(s, 0);
the authors evaluate with new noise. ``normalise_q`` is the default here, with alpha 1; the presets are the
paper's for offline runs. For runs that continue online the authors' alpha is 100 on humanoidmaze-medium, 30
on antsoccer, 1e3 on cloned pen, door and hammer, 1e4 on cloned relocate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.flows import Field, NoiseActor, euler, flow_matching
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, glorot
from off2on.rllib.algorithm import OfflineToOnline

# alpha: OGBench; with another discount; with the minimum of the critics; D4RL AntMaze.
OGBENCH = {"cube": 300.0, "scene": 300.0, "puzzle": 1000.0}
FAR = {"humanoidmaze": 30.0, "antsoccer": 10.0, "antmaze-giant-navigate": 10.0}
LEAST = {
    "antmaze-large-navigate": 10.0, "antmaze-giant-navigate": 10.0, "pen-human": 1e4, "pen-cloned": 1e4,
    "pen-expert": 3e3, "door": 3e4, "hammer-human": 3e4, "hammer-cloned": 1e4, "hammer-expert": 3e4,
    "relocate-human": 1e4, "relocate-cloned": 3e4, "relocate-expert": 3e4,
}  # fmt: skip
D4RL_ANTMAZE = {"antmaze-umaze": 10.0, "antmaze-medium": 10.0, "antmaze-large": 3.0}


def _presets() -> dict[str, dict[str, object]]:
    """Return the settings of the authors' README by data set."""
    presets: dict[str, dict[str, object]] = {}
    for alphas, common in (
        (OGBENCH, {}),
        (FAR, {"discount": 0.995}),
        (LEAST, {"aggregate": "min"}),
        (D4RL_ANTMAZE, {"reward": "minus_one"}),
    ):
        for name, alpha in alphas.items():
            presets[name] = presets.get(name, {"normalise_q": False}) | {"alpha": alpha} | common
    return presets


@dataclass(frozen=True)
class FQLHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of the paper's table 5; alpha and lambda as the authors advise for new data."""

    alpha: float = hp(
        1.0,
        "weight of the distance to the flow's action; larger stays closer to the data",
        least=0,
        search=("choice", 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    )
    normalise_q: bool = hp(True, "divide Q in the policy's loss by its mean absolute value")
    aggregate: str = hp("mean", "combination of the critics in the target", choices=losses.AGGREGATES)
    rho: float = hp(
        0.5, "weight of the critics' standard deviation", least=0, only=("aggregate", "pessimistic")
    )
    flow_steps: int = hp(10, "steps of Euler from noise to an action", least=1)
    flow_lr: float = hp(3e-4, "learning rate of the flow (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    hidden: tuple[int, ...] = hp((512, 512, 512, 512), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = _presets()


class FQL(OfflineToOnline):
    """A policy in one step, distilled from a flow while it maximises Q."""

    Hyperparameters = FQLHyperparameters
    objectives = ("actor", "flow", "critic")
    regularisation = ("alpha",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: FQLHyperparameters) -> Nets:
        """Build the policy, the flow, and twin critics with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        critic = Critic(obs, action, hp.hidden, layer_norm="after", activation="gelu", head=head_of(hp))
        glorot(critic)
        return Nets(
            actor=NoiseActor(obs, action, hp.hidden),
            flow=Field(obs, action, hp.hidden),
            critic=critic,
            targets=("critic",),
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: FQLHyperparameters) -> Batch:
        """Add the noise of the losses [B, A], the flow's ``time`` [B, 1], and the critics' ``target`` [B]."""
        with torch.no_grad():
            batch.start, batch.noise, next_noise = torch.randn(
                3, *batch.action.shape, device=batch.obs.device
            )
            batch.time = torch.rand_like(batch.action[:, :1])
            next_action = nets.actor(batch.next_obs, next_noise).clamp(-1, 1)
            future = cls.target_value(nets, batch, hp, next_action)
            batch.target = batch.reward + hp.discount * batch.mask * future
        return batch

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: FQLHyperparameters, action: Tensor) -> Tensor:
        """Return the combined value [B] of the targets at s' and the policy's action."""
        return losses.aggregate(nets.target.critic.future(batch.next_obs, action), hp.aggregate, hp.rho)

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: FQLHyperparameters) -> Loss:
        """Compute the distance to the flow's action minus the Q of the policy's action."""
        with torch.no_grad():
            flow_action = euler(nets.flow, batch.obs, batch.noise, hp.flow_steps)
        action = nets.actor(batch.obs, batch.noise)
        distance = (action - flow_action).square().mean()
        q = nets.critic(batch.obs, action.clamp(-1, 1)).mean(0)
        scale = 1 / q.detach().abs().mean() if hp.normalise_q else 1.0
        return hp.alpha * distance - scale * q.mean(), {"actor/distance": distance.detach()}

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: FQLHyperparameters) -> Loss:
        """Compute the flow matching loss on the data's actions."""
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: FQLHyperparameters) -> Loss:
        """Compute the Bellman error against the targets' value of the policy's next action."""
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, batch.target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: FQLHyperparameters, explore: bool) -> Tensor:
        """Return the policy's action, from new noise if exploring and from noise 0 otherwise."""
        noise = obs.new_zeros(obs.shape[0], nets.actor.width)
        return nets.actor(obs, torch.randn_like(noise) if explore else noise).clamp(-1, 1)  # type: ignore[no-any-return]
