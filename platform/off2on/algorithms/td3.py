"""TD3: DDPG with twin critics, target policy smoothing and delayed policy updates.

Fujimoto, van Hoof & Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML
2018, arXiv:1802.09477.

    critic  L_Q  = sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ]
            a'   = clip(pi'(s') + clip(noise, -c, c), -1, 1),  noise ~ N(0, sigma^2)
    actor   L_pi = -E[ Q_1(s, pi(s)) ]                                              (DDPG's)

Order as in algorithm 1: the critics and, on every second update, the actor and all targets. It is the
backbone of TD3+BC, ReBRAC and ISPI; by itself, offline, it has no regularisation towards the data.

Differences: widths, learning rates and batch are those of the authors' later code (the paper: 400-300,
1e-3 and 100).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.ddpg import DDPG
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters
from off2on.recipe.hooks import Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class TD3Hyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of section 6.1."""

    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    critics: int = hp(2, "number of critics; the target is their minimum", least=1, built=True)
    target_noise: float = hp(0.2, "sigma of the noise on the target policy's action", least=0)
    noise_clip: float = hp(0.5, "c, bound on that noise", least=0)
    exploration_noise: float = hp(0.1, "sigma of the noise on exploring actions", least=0)


class TD3(DDPG):
    """DDPG with twin critics, target policy smoothing and delayed policy updates."""

    Hyperparameters = TD3Hyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("critic", Objective("actor", every=2))
    target_update_interval = 2

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the target policy's action [B, A] with noise."""
        return cls.smoothed(super().next_action(nets, batch, hp), hp)

    @classmethod
    def smoothed(cls, action: Tensor, hp: Any) -> Tensor:
        """Add noise to actions [B, A] or [n, B, A], the same for all actions of a state."""
        noise: Tensor = hp.target_noise * torch.randn(action.shape[-2:], device=action.device)
        return (action + noise.clamp(-hp.noise_clip, hp.noise_clip)).clamp(-1, 1)
