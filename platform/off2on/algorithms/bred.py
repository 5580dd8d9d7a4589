"""BRED: several CQL agents offline, merged online into one that their critics improve together.

Lee, Seo, Lee, Abbeel & Shin, "Offline-to-Online Reinforcement Learning via Balanced Replay and
Pessimistic Q-Ensemble", CoRL 2021, arXiv:2107.00591.

Offline E agents learn, each as CQL does from its own two critics, actions and temperature. Then

    pi(s) = tanh N(mean_e mu_e(s), mean_e(sigma_e^2 + mu_e^2) - (mean_e mu_e)^2)

acts, which has the moments of a draw from any of them, and online all of them learn through it:

    temperature         L_alpha = sum_e CQL's                                            offline
    merged_temperature  L_mean  = -E[ log alpha (log pi(a~|s) + H) ]                     online
    actor    L_pi = sum_e CQL's offline;  online, with a~ ~ pi(s),
             E[ alpha log pi(a~|s) - mean_e min(Q_e1(s, a~), Q_e2(s, a~)) ]
    critic   L_Q  = sum_e CQL's offline;  online, without the conservative term, with a' ~ pi(s'),
             sum_e sum_i E[ (r + gamma (min(Q'_e1(s', a'), Q'_e2(s', a')) - alpha log pi(a'|s')) - Q_ei(s, a))^2 ]

The other half of the method is ``--strategy balanced``. Order as in CQL.

Differences: the agents share their batches and differ by their initial weights and by chance, where
the authors train them one by one. The merged policy is scored offline as well. At the handover the
authors copy the critics into the targets and start new optimisers; here both go on, and only the one
temperature is new, from 1. Their first thousand steps are followed by five to ten times as many
updates; they compute all losses before the first step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on import losses
from off2on.actors import EnsembleActor
from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.batches import Batch
from off2on.distributions import TanhNormal
from off2on.hyperparameters import hp
from off2on.nets import Critic, Nets, Scalar
from off2on.recipe import Loss, Objective


@dataclass(frozen=True)
class BREDHyperparameters(CQLHyperparameters):
    """Section 5 of the paper, and the authors' script."""

    agents: int = hp(5, "number E of agents, each with a policy and `critics` critics", least=1)
    online_actor_lr: float = hp(3e-4, "Adam's step size for the policies online", above=0)
    merged_temperature_lr: float = hp(3e-4, "Adam's step size for the one log temperature online", above=0)
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}


class BRED(CQL):
    """Several CQL agents, merged online."""

    Hyperparameters = BREDHyperparameters
    objectives = ("temperature", "merged_temperature", "actor", "multiplier", "critic")
