"""EDAC: SAC-N with a penalty on the similarity of the critics' action gradients, so that fewer suffice.

An, Moon, Kim & Song, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble",
NeurIPS 2021, arXiv:2110.01548.

    critic  L_Q = SAC-N's + eta E[ sum_{i != j} <g_i, g_j> ] / (N - 1)
            g_i = grad_a Q_i(s, a) / (|grad_a Q_i(s, a)| + 1e-10)

The sum over pairs is |sum_i g_i|^2 - sum_i |g_i|^2. The rest is SAC-N's.

Differences: SAC-N's. Presets for pen-human and pen-cloned are the authors'; N and eta of the others are
CORL's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.sac_n import ADROIT, SACN, SACNHyperparameters
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class EDACHyperparameters(SACNHyperparameters):
    """Hyperparameters of the authors' configuration and of CORL."""

    eta: float = hp(
        1.0,
        "weight of the critics' similarity: 0 is SAC-N; 5 for medium-expert data, 10 to 1000 for Adroit",
        least=0,
        search=("log", 0.1, 10),
    )
    critics: int = hp(10, "N, number of critics: 50 for Hopper", least=2)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah": {"critics": 10, "eta": 1.0},
        "halfcheetah-medium-expert": {"critics": 10, "eta": 5.0},
        "walker2d": {"critics": 10, "eta": 1.0},
        "walker2d-medium-expert": {"critics": 10, "eta": 5.0},
        "hopper": {"critics": 50, "eta": 1.0},
        "pen-human": {"critics": 20, "eta": 1000.0, **ADROIT},
        "pen-cloned": {"critics": 20, "eta": 10.0, "backup_actions": 10, **ADROIT},
        "pen-expert": {"critics": 20, "eta": 10.0, **ADROIT},
        "adroit": {"critics": 50, "eta": 200.0, **ADROIT},
    }


class EDAC(SACN):
    """SAC-N with a penalty on the similarity of the critics' action gradients."""

    Hyperparameters = EDACHyperparameters

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute SAC-N's loss plus the similarity of the critics' gradients at the data's actions."""
        if hp.eta == 0:
            return super().compute_critic_loss(nets, batch, hp)
        with torch.no_grad():
            action, log_prob = nets.actor(batch.next_obs).sample()
            target = cls.soft_target(nets, batch, hp, action, log_prob)
        q, slope = nets.critic.with_action_gradient(batch.obs, batch.action)
        similarity = ensemble_similarity(slope)
        loss = losses.td(q, target, batch.weight) + hp.eta * similarity
        return loss, {"q": q.detach().mean(), "critic/similarity": similarity.detach()}


def ensemble_similarity(slope: Tensor) -> Tensor:
    """Compute the sum of the cosines between members over (N - 1), averaged over the batch.

    Args:
        slope: Gradients [N, B, A] of the members' values with respect to the action.

    Returns:
        A number from -N / (N - 1) to N.
    """
    unit = slope / (torch.linalg.vector_norm(slope, dim=-1, keepdim=True) + 1e-10)
    pairs = unit.sum(0).square().sum(-1) - unit.square().sum((0, -1))
    return pairs.mean() / (len(slope) - 1)  # type: ignore[no-any-return]
