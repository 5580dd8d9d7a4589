"""Double DQN: DQN with the next action selected by the critic and evaluated by the target network.

van Hasselt, Guez & Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016,
arXiv:1509.06461.

    critic  L_Q = DQN's with a' = argmax_a mean_i Q_i(s', a) in place of the targets' argmax

Order and hyperparameters are DQN's.

Differences: those of DQN. The paper updates the target network every 10,000 updates and, tuned for the
double estimate, every 30,000.
"""

from typing import Any

from torch import Tensor

from off2on.algorithms.dqn import DQN
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import greedy
from off2on.recipe.networks import Nets


class DoubleDQN(DQN):
    """DQN with the next action selected by the critic and evaluated by the target network."""

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, future: Tensor, hp: Any) -> Tensor:
        """Return the critics' best actions [B] at s'."""
        return greedy(nets.critic(batch.next_obs))
