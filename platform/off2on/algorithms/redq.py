"""REDQ: SAC with the minimum over a random subset of many critics, for many updates per step.

Chen, Wang, Zhou & Ross, "Randomized Ensembled Double Q-Learning: Learning Fast Without a Model",
ICLR 2021, arXiv:2101.05982.

    critic  L_Q  = sum_i E[ (r + gamma (min_{j in M} Q'_j(s', a') - alpha log pi(a'|s')) - Q_i(s, a))^2 ]
            M    M of the N members, drawn without replacement for every update
    actor   L_pi = E[ alpha log pi(a~|s) - mean_i Q_i(s, a~) ]

Order as in algorithm 1: the critics and the targets on every update, then, on every twentieth, the
temperature and the policy. The paper makes 20 updates per environment step (``utd``).

Differences: the policy's loss uses the critics and alpha after their updates; the authors' code before.
Layers are initialised as in `torch.nn.Linear`; the authors use Xavier's range. They collect the first 5,000
steps with uniform actions and without updates (``online.warm_up=5000`` takes the policy's).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.sac import SAC, SACHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class REDQHyperparameters(SACHyperparameters):
    """Hyperparameters of the paper and the authors' configuration; the target entropies are MBPO's."""

    critics: int = hp(10, "N, number of critics", least=1)
    subset: int = hp(2, "M, critics in the minimum: fewer is more optimistic", least=1, limit="critics")
    policy_every: int = hp(20, "updates of the critics per update of policy and temperature", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "hopper": {"target_entropy": -1.0},
        "halfcheetah": {"target_entropy": -3.0},
        "walker2d": {"target_entropy": -3.0},
        "ant": {"target_entropy": -4.0},
        "humanoid": {"target_entropy": -2.0},
    }


class REDQ(SAC):
    """SAC with the minimum over a random subset of many critics."""

    Hyperparameters = REDQHyperparameters
    objectives = ("critic", "temperature", "actor")

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for the critics, and for the others on every `policy_every`-th update."""
        return objective.name == "critic" or update % hp.policy_every == 0

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the minimum [B] over a random subset of the targets; only these are evaluated."""
        if hp.subset == hp.critics:
            return super().target_value(nets, batch, hp, action)
        chosen = torch.randperm(hp.critics, device=action.device)[: hp.subset]
        return nets.target.critic.subset(batch.next_obs, action, chosen).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def actor_value(cls, q: Tensor) -> Tensor:
        """Return the mean over all members, [B]."""
        return q.mean(0)
