"""QAM-F: QAM, and a policy in one step that is distilled from its flow while it maximises Q.

Li & Levine, "Q-learning with Adjoint Matching", ICLR 2026, arXiv:2601.14234: QAM-FQL. To QAM's losses comes
that of FQL's policy, distilled from f in place of the flow of the data:

    actor  L_mu = alpha E[ |mu(s, z) - a_f(s, z)|^2 ] - E[ mean_i Q_i(s, clip(mu(s, z))) ]
           a_f    the end of f's path from z
    act    clip(mu(s, z)), also in the critics' target

Differences: as in QAM. On cube-double and puzzle-3x3 the authors chose
alpha 0, which in their code is QAM: there is no preset for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.qam import QAM, QAMHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.flows import NoiseActor, euler
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets
from off2on.recipe.ogbench import common_preset

# lambda and alpha.
VALUES = {
    "cube-triple": (10.0, 300.0), "cube-quadruple": (0.3, 30.0), "scene": (1.0, 300.0),
    "puzzle-4x4": (3.0, 3.0), "antmaze-large-navigate": (3.0, 30.0), "antmaze-giant-navigate": (3.0, 30.0),
    "humanoidmaze-medium-navigate": (1.0, 30.0), "humanoidmaze-large-navigate": (0.3, 30.0),
}  # fmt: skip


@dataclass(frozen=True)
class QAMFHyperparameters(QAMHyperparameters):
    """Hyperparameters of the authors' code."""

    fql_alpha: float = hp(
        10.0,
        "alpha, weight of the distance to the flow's action; larger stays closer to it",
        least=0,
        search=("choice", 3.0, 10.0, 30.0, 100.0, 300.0),
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        domain: common_preset(domain, inv_temp=inv_temp, fql_alpha=alpha)
        for domain, (inv_temp, alpha) in VALUES.items()
    }


class QAMF(QAM):
    """QAM with a policy in one step that is distilled from its flow while it maximises Q."""

    Hyperparameters = QAMFHyperparameters
    objectives = ("actor", "flow", "fast", "critic")
    acting_networks = ("actor",)
    regularisation = ("fql_alpha",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build QAM's networks and the policy."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("actor", NoiseActor(obs_space.shape[0], action_space.shape[0], hp.hidden))
        return nets

    @classmethod
    def act_from(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: Any, draw: bool) -> Tensor:
        """Return the policy's actions [B, A] from noise [B, A]."""
        return nets.actor(obs, noise).clamp(-1, 1)  # type: ignore[no-any-return]

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``noise`` [B, A] for the policy's loss to what QAM adds."""
        batch = super().prepare(nets, batch, hp)
        batch.noise = torch.randn_like(batch.action)
        return batch

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the distance to the flow's action minus the Q of the policy's action."""
        with torch.no_grad():
            flow_action = euler(nets.fast, batch.obs, batch.noise, hp.flow_steps)
        action = nets.actor(batch.obs, batch.noise)
        distance = (action - flow_action).square().mean()
        q = nets.critic(batch.obs, action.clamp(-1, 1)).mean()
        return hp.fql_alpha * distance - q, {"actor/distance": distance.detach()}
