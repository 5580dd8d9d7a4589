"""Discrete BCQ: Double DQN restricted to actions that are probable in the data.

Fujimoto, Conti, Ghavamzadeh & Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms",
arXiv:1910.01708; the idea is Fujimoto, Meger & Precup's, arXiv:1812.02900.

    critic  L_Q = Double DQN's + E[ -log G(a|s) ] + beta E[ l(s)^2 ],  G = softmax(l)
            a'  = argmax_a mean_i Q_i(s', a)  over the a with  G(a|s') >= tau max_b G(b|s')

The policy takes the same constrained argmax. Order as in DQN; the values and the behaviour policy G are one
network with one optimiser. The constraint sets the other values to -1e8 (the authors' code), which cannot tie
with an allowed one, where d3rlpy multiplies shifted values by 0. The regulariser is the authors', 1e-2 times
the squared logits; d3rlpy squares the log probabilities.

Differences: the authors require more than tau, here it is at least tau, so that tau = 1 allows the most
probable action instead of none. G is a layer on the values' last hidden layer, as in d3rlpy; the authors
share the convolutions on Atari and nothing for vectors, which is ``share_encoder=no``. The soft target and
the other defaults are the authors' for vectors, ``preset=atari`` their Atari ones. Online, which is not in
the paper, random actions are drawn from all. The other differences are DQN's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import ATARI, DQNHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import head_of
from off2on.recipe.discrete import ValuesAndPolicy, epsilon_greedy, epsilon_greedy_distribution, greedy_within
from off2on.recipe.distributions import Categorical
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class DiscreteBCQHyperparameters(DQNHyperparameters):
    """Hyperparameters of the authors for vector observations."""

    tau: float = hp(
        0.3,
        "smallest allowed probability, relative to the most probable action: 0 is Double DQN, 1 cloning",
        least=0,
        most=1,
        search=("uniform", 0, 1),
    )
    beta: float = hp(0.01, "weight of the squared logits of the behaviour policy", least=0)
    share_encoder: bool = hp(
        True, "share hidden layers between the values and the behaviour policy", built=True
    )
    target_every: int = hp(1, "updates between two updates of the target networks", least=1)
    polyak: float = hp(0.005, "tau: target <- (1 - tau) target + tau network", least=0, most=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"atari": {**ATARI, "adam_epsilon": 1.5e-4}}


class DiscreteBCQ(DoubleDQN):
    """Double DQN restricted to actions that are probable in the data."""

    Hyperparameters = DiscreteBCQHyperparameters

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build action values with a behaviour policy, and their target network."""
        sizes = obs_space.shape[0], int(action_space.n), hp.hidden, hp.critics
        return Nets(
            critic=ValuesAndPolicy(*sizes, shared=hp.share_encoder, head=head_of(hp)), targets=("critic",)
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``values``, the prediction [E, B, n], and ``logits`` [B, n], with gradient."""
        batch.values, batch.logits = nets.critic.predictions_and_logits(batch.obs)
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss of Double DQN plus that of the behaviour policy."""
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        clone = -Categorical(batch.logits).log_prob(batch.action).mean()
        loss = loss + clone + hp.beta * batch.logits.square().mean()
        return loss, metrics | {"critic/clone": clone.detach()}

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, future: Tensor, hp: Any) -> Tensor:
        """Return the critics' best allowed actions [B] at s'."""
        values, logits = nets.critic.values_and_logits(batch.next_obs)
        return greedy_within(values, logits, hp.tau)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Categorical:
        """Return the epsilon-greedy distribution of actions at [B, D]."""
        return epsilon_greedy_distribution(
            cls.act(nets, obs, hp, explore=False), nets.critic.actions, hp.epsilon
        )

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the best allowed actions [B], epsilon-greedy if exploring."""
        values, logits = nets.critic.values_and_logits(obs)
        best = greedy_within(values, logits, hp.tau)
        return epsilon_greedy(best, logits.shape[-1], hp.epsilon) if explore else best
