"""Discrete CQL: Double DQN with a penalty on the values of actions that are not in the data.

Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020,
arXiv:2006.04779, CQL(H) of equation 4, where the log-sum-exp over actions is exact.

    critic  L_Q = Double DQN's + alpha sum_i E[ log sum_a exp Q_i(s, a) - Q_i(s, a_data) ]

Order as in DQN.

Differences: the authors add the term to QR-DQN, which learns quantiles and takes the target's own argmax;
here, as in d3rlpy, the target is Double DQN's, and quantiles are ``critic_head=quantile``. ``preset=atari``
is the authors' configuration for 10% of the data, ``preset=atari-1-percent`` for 1%, where alpha is 4; they
count 8,000 agent steps between updates of the target at one update every four steps, which are 2,000 updates.
Each of several members has its own term, where d3rlpy has one of their mean. The other differences are DQN's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import ATARI, DQNHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import values_of
from off2on.recipe.discrete import value_of_action
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets

QUANTILES = {**ATARI, "critic_lr": 5e-5, "target_every": 2000}


@dataclass(frozen=True)
class DiscreteCQLHyperparameters(DQNHyperparameters):
    """Hyperparameters of the paper's experiments with discrete actions."""

    alpha: float = hp(
        1.0, "weight of the conservative term: 0 is Double DQN", least=0, search=("log", 0.1, 10)
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "atari": {**QUANTILES, "alpha": 1.0},
        "atari-1-percent": {**QUANTILES, "alpha": 4.0},
    }


class DiscreteCQL(DoubleDQN):
    """Double DQN with a penalty on the values of actions that are not in the data."""

    Hyperparameters = DiscreteCQLHyperparameters

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss of Double DQN plus the conservative term."""
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        if hp.alpha == 0:
            return loss, metrics
        values = values_of(batch.values)
        gap = (values.logsumexp(-1) - value_of_action(values, batch.action)).mean(-1)
        return loss + hp.alpha * gap.sum(), metrics | {"critic/gap": gap.detach().mean()}
