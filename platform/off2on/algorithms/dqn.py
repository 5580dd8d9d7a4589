"""DQN: Q-learning with a network for the values of all actions, and a target network.

Mnih et al., "Human-level Control through Deep Reinforcement Learning", Nature 518, 2015, after
"Playing Atari with Deep Reinforcement Learning", arXiv:1312.5602.

    critic  L_Q = sum_i E[ huber(r + gamma min_j Q'_j(s', a') - Q_i(s, a)) ]
            a'  = argmax_a mean_j Q'_j(s', a)

Order: the critic, then, on every ``target_every``-th update, its target network Q'. With one member, the
default, the target is the paper's max_a Q'(s', a). Online a share epsilon of the actions is random.

Differences: Adam and not RMSProp. The paper clips the error's derivative to [-1, 1], which is Huber's error
(``td_error=squared`` does not). The defaults are for vector observations and for short runs: the target is
updated every 100 updates as in d3rlpy's CartPole example, batch and learning rate are those of the discrete
BCQ authors' code; ``preset=atari`` has d3rlpy's default rate and 8,000 updates, and the epsilon of its Atari
scripts (the paper: batch 32, RMSProp at 2.5e-4, 10,000 updates). Epsilon is constant; in the paper it
decreases from 1 to 0.1 over a million steps, as there is no offline phase. Evaluation is greedy where the
paper keeps epsilon at 0.05. Several members are d3rlpy's ensemble.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of, values_of
from off2on.recipe.discrete import (
    ActionValues,
    epsilon_greedy,
    epsilon_greedy_distribution,
    greedy,
    value_of_action,
)
from off2on.recipe.distributions import Categorical
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets
from off2on.rllib.algorithm import OfflineToOnline

ATARI = {
    "critic_lr": 6.25e-5,
    "adam_epsilon": 3.125e-4,
    "batch_size": 32,
    "polyak": 1.0,
    "target_every": 8000,
    "epsilon": 0.01,
}


@dataclass(frozen=True)
class DQNHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters for vector observations."""

    critic_lr: float = hp(3e-4, "learning rate of the values (Adam)", above=0, search=("log", 3e-5, 1e-3))
    critics: int = hp(1, "number of critics", least=1, built=True)
    td_error: str = hp(
        "huber", "Huber error with bound 1, or squared error; of plain critics", choices=tuple(losses.TD)
    )
    target_every: int = hp(
        100, "updates between two updates of the target networks", least=1, search=("log", 10, 10_000)
    )
    polyak: float = hp(1.0, "tau: target <- (1 - tau) target + tau network; 1 is a copy", least=0, most=1)
    epsilon: float = hp(0.1, "share of random actions in exploration", least=0, most=1)
    adam_epsilon: float = hp(1e-8, "epsilon in the denominator of Adam", above=0, built=True)
    batch_size: int = hp(64, "transitions per gradient update, over all learners", least=1)
    actor_lr: float = hp(3e-4, "not used, because the policy is greedy in the values", above=0)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"atari": ATARI}


class DQN(OfflineToOnline):
    """Q-learning on the values of all actions."""

    Hyperparameters = DQNHyperparameters
    actions = "discrete"
    objectives = ("critic",)
    acting_networks = ("critic",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build action values and their target network."""
        sizes = obs_space.shape[0], int(action_space.n), hp.hidden, hp.critics
        critic = ActionValues(*sizes, head=head_of(hp))
        return Nets(critic=critic, targets=("critic",))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add ``values``, the prediction [E, B, n] of Q_i(s, ·), with gradient."""
        batch.values = nets.critic.predict(batch.obs)
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the error of every critic against the minimum target at the next action."""
        with torch.no_grad():
            future = nets.target.critic.future(batch.next_obs)
            best = value_of_action(future, cls.next_action(nets, batch, values_of(future), hp)).amin(0)
            target = batch.reward + hp.discount * batch.mask * best
        q = value_of_action(batch.values, batch.action)
        return losses.TD[hp.td_error](q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def next_action(cls, nets: Nets, batch: Batch, future: Tensor, hp: Any) -> Tensor:
        """Return the actions [B] at s': greedy in the target values ``future`` [E, B, n]."""
        return greedy(future)

    @classmethod
    def is_target_update_due(cls, hp: Any, update: int, progress: float) -> bool:
        """Return True on every `target_every`-th update."""
        return bool(update % hp.target_every == 0)

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        """Return Adam with `adam_epsilon`."""
        return torch.optim.Adam([vector], cls.lr(objective, hp, 0.0), eps=hp.adam_epsilon, fused=True)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> Categorical:
        """Return the epsilon-greedy distribution of actions at [B, D]."""
        return epsilon_greedy_distribution(
            cls.act(nets, obs, hp, explore=False), nets.critic.actions, hp.epsilon
        )

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the best actions [B], epsilon-greedy if exploring."""
        values = nets.critic(obs)
        best = greedy(values)
        return epsilon_greedy(best, values.shape[-1], hp.epsilon) if explore else best
