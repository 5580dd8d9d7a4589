"""QAM-E: QAM, and a small Gaussian policy that edits the actions of its flow.

Li & Levine, "Q-learning with Adjoint Matching", ICLR 2026, arXiv:2601.14234: QAM-EDIT. To QAM's losses come
those of EXPO's edits, without a choice by the critics:

    actor        L_e     = E[ alpha log pi(e|s, b) - mean_i Q_i(s, clip(b + beta e)) ],  e ~ pi(s, b)
                 b         an action of f at s, without gradient
    temperature  L_alpha = -E[ alpha (log pi(e|s, b) + H) ],  H = -(action dimensions) / 2
    act          clip(b + beta e), also in the critics' target

Differences: as in QAM; the deterministic action takes the mode of pi.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.qam import QAM, QAMHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.edits import EditHyperparameters, Edits
from off2on.recipe.flows import euler
from off2on.recipe.hooks import Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets
from off2on.recipe.ogbench import common_preset

# lambda and beta.
VALUES = {
    "cube-double": (1.0, 0.0), "cube-triple": (3.0, 0.1), "cube-quadruple": (3.0, 0.1), "scene": (1.0, 0.0),
    "puzzle-3x3": (1.0, 0.1), "puzzle-4x4": (0.1, 0.9), "antmaze-large-navigate": (1.0, 0.1),
    "antmaze-giant-navigate": (10.0, 0.1), "humanoidmaze-medium-navigate": (3.0, 0.1),
    "humanoidmaze-large-navigate": (3.0, 0.1),
}  # fmt: skip


@dataclass(frozen=True)
class QAMEHyperparameters(EditHyperparameters, QAMHyperparameters):
    """Hyperparameters of the authors' code."""

    edit_scale: float = hp(
        0.1,
        "beta, the largest edit of an action; 0 is QAM",
        least=0,
        most=2,
        search=("choice", 0.05, 0.1, 0.3, 0.9),
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        domain: common_preset(domain, inv_temp=inv_temp, edit_scale=scale)
        for domain, (inv_temp, scale) in VALUES.items()
    }


class QAME(Edits, QAM):
    """QAM with edits of its actions."""

    Hyperparameters = QAMEHyperparameters
    objectives = ("actor", "temperature", "flow", "fast", "critic")
    acting_networks = ("fast", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build QAM's networks, the policy of the edits and the log temperature."""
        nets = super().build_nets(obs_space, action_space, hp)
        edits = cls.edit_networks(obs_space.shape[0], action_space.shape[0], hp.hidden)
        for name, network in edits.items():
            nets.add_module(name, network)
        return nets

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return False for the edits if they cannot change an action."""
        unused = hp.edit_scale == 0 and objective.name in ("actor", "temperature")
        return not unused and super().is_due(objective, hp, update, progress)

    @classmethod
    def act_from(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: Any, draw: bool) -> Tensor:
        """Return the edited actions [B, A] of the flow from noise [B, A]."""
        return cls.edited(nets, obs, super().act_from(nets, obs, noise, hp, draw), hp, draw)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add an action of the flow with an edit, see `draw_edit`, to what QAM adds."""
        batch = super().prepare(nets, batch, hp)
        with torch.no_grad():
            base = euler(nets.fast, batch.obs, torch.randn_like(batch.action), hp.flow_steps)
        cls.draw_edit(nets, batch, base)
        return batch
