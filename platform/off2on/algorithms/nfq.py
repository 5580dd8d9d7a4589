"""NFQ: fitted Q iteration with a network: regression on targets of the previous iteration's values.

Riedmiller, "Neural Fitted Q Iteration - First Experiences with a Data Efficient Neural Reinforcement Learning
Method", ECML 2005.

    critic  L_Q = sum_i E[ (r + gamma min_j Q_k,j(s', a') - Q_i(s, a))^2 ],  a' = argmax_a mean_j Q_k,j(s', a)
            Q_k  the values at the end of iteration k: a copy, taken after every ``target_every`` updates

With ``target_every=1``, the default, the targets come from the current values: d3rlpy's NFQ, which is DQN
without a target network. With more it is the paper's iteration, whose inner loop is that number of updates.
Order and exploration are DQN's.

Differences: the paper fits each iteration with all transitions and Rprop for several hundred epochs, and its
network has sigmoid units; here Adam takes minibatches, and its state is kept over iterations. The paper has
costs, which it minimises, with known goal states. Minibatch, learning rate and Huber's error in place of the
square (``td_error=huber``) of d3rlpy are its DQN's. Several members are d3rlpy's ensemble.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from off2on.algorithms.dqn import DQN, DQNHyperparameters
from off2on.recipe import losses
from off2on.recipe.hyperparameters import hp


@dataclass(frozen=True)
class NFQHyperparameters(DQNHyperparameters):
    """Hyperparameters for vector observations; ``d3rlpy`` are the defaults of that library."""

    td_error: str = hp(
        "squared", "Huber error with bound 1, or squared error; of plain critics", choices=tuple(losses.TD)
    )
    target_every: int = hp(
        1,
        "updates of an iteration; 1: the targets are those of the current values",
        least=1,
        search=("log", 1, 10_000),
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "d3rlpy": {"td_error": "huber", "critic_lr": 6.25e-5, "batch_size": 32},
    }


class NFQ(DQN):
    """Fitted Q iteration with a network."""

    Hyperparameters = NFQHyperparameters
