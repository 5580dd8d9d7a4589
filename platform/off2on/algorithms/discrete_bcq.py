"""Discrete BCQ: Double DQN that considers only actions which the data might have taken.

Fujimoto, Conti, Ghavamzadeh & Pineau, "Benchmarking Batch Deep Reinforcement Learning Algorithms",
arXiv:1910.01708; the idea is Fujimoto, Meger & Precup's, arXiv:1812.02900.

    critic  L_Q = Double DQN's + E[ -log G(a|s) ] + beta E[ l(s)^2 ],  G = softmax(l)
            a'  = argmax_a mean_i Q_i(s', a)  over the a with  G(a|s') >= tau max_b G(b|s')

The policy takes the same constrained argmax. Order as in DQN; values and imitation G are one network with
one optimiser. The constraint sets the other values to -1e8 (the authors' code), which cannot tie with an
allowed one, where d3rlpy multiplies shifted values by 0. The regulariser is the authors', 1e-2 times the
squares of what goes into the softmax; d3rlpy squares the log probabilities that come out of it.

Differences: the authors ask for more than tau and here it is at least tau, so that tau = 1 leaves the
most probable action and not none. G is a layer on the values' last hidden layer, as in d3rlpy; the authors
share the convolutions on Atari and nothing for vectors, which is ``share_encoder=no``. The soft target and
the other defaults are the authors' for vectors, ``preset=atari`` their Atari ones. Online, where the paper
does not go, epsilon's actions are drawn from all. The other differences are DQN's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import ATARI, DQNHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import ValuesAndPolicy, epsilon_greedy, epsilon_greedy_distribution, greedy_within
from off2on.recipe.distributions import Categorical
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class DiscreteBCQHyperparameters(DQNHyperparameters):
    """The authors' for vectors as observations."""

    tau: float = hp(
        0.3,
        "least probability of an action, in shares of the most probable: 0 is Double DQN, 1 cloning",
        least=0,
        most=1,
        search=("uniform", 0, 1),
    )
    beta: float = hp(0.01, "weight of the squares of the imitation's logits", least=0)
    share_encoder: bool = hp(True, "let values and imitation share their hidden layers")
    target_every: int = hp(1, "updates between two renewals of the target", least=1)
    polyak: float = hp(0.005, "share of the values that the target takes over then", least=0, most=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"atari": {**ATARI, "adam_epsilon": 1.5e-4}}


class DiscreteBCQ(DoubleDQN):
    """Double DQN within the data's support."""

    Hyperparameters = DiscreteBCQHyperparameters

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Action values with the imitation, and their copy."""
        sizes = obs_space.shape[0], int(action_space.n), hp.hidden, hp.critics
        return Nets(critic=ValuesAndPolicy(*sizes, shared=hp.share_encoder), targets=("critic",))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``values`` [E, B, n] and ``logits`` [B, n], with gradient."""
        batch.values, batch.logits = nets.critic.both(batch.obs)
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Double DQN's error, and the imitation's."""
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        clone = -Categorical(batch.logits).log_prob(batch.action).mean()
        loss = loss + clone + hp.beta * batch.logits.square().mean()
        return loss, metrics | {"critic/clone": clone.detach()}

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, future: Tensor, hp: Any) -> Tensor:
        """The critics' best actions [B] at s' among those that the data might have taken."""
        values, logits = nets.critic.both(batch.next_obs)
        return greedy_within(values, logits, hp.tau)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Categorical:
        """The best action mostly, any one with probability epsilon."""
        return epsilon_greedy_distribution(
            cls.act(nets, obs, hp, explore=False), nets.critic.actions, hp.epsilon
        )

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """The best allowed action [B], or sometimes any when exploring."""
        values, logits = nets.critic.both(obs)
        best = greedy_within(values, logits, hp.tau)
        return epsilon_greedy(best, logits.shape[-1], hp.epsilon) if explore else best
