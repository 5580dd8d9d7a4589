"""Discrete SAC: SAC with exact expectations over discrete actions.

Christodoulou, "Soft Actor-Critic for Discrete Action Settings", arXiv:1910.07207.

    critic       L_Q     = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]
                 V(s')   = sum_a pi(a|s') (min_j Q'_j(s', a) - alpha log pi(a|s'))              (10)
    actor        L_pi    = E[ sum_a pi(a|s) (alpha log pi(a|s) - min_i Q_i(s, a)) ]             (12)
    temperature  L_alpha = -E[ log alpha (sum_a pi(a|s) log pi(a|s) + H) ],  H = 0.98 log n     (11)

Order as in the author's code: critic, actor, temperature, targets; the temperature sees the policy as it
was before its step. The actor sees the new critics.

Differences: the temperature's loss is in log alpha (the author's code); ``temperature_form=alpha`` is
equation 11 (d3rlpy). The paper halves the squared error, the author's code does not; d3rlpy takes Huber's,
which is ``td_error=huber``. The author clips gradients to norm 5, which is left out, and has widths of 64,
Xavier's range and 1e-4 in Adam's denominator. Soft targets are those of the author's CartPole example;
``preset=atari`` copies every 8,000 steps at one update every four steps. With two actions a policy of 0.98 of
the largest entropy is nearly random and alpha grows without bound, as users of the author's code found on
CartPole: ``preset=cartpole`` sets 0.7.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.discrete import ActionValues, CategoricalActor, value_of_action
from off2on.recipe.distributions import Categorical
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Nets, Scalar
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class DiscreteSACHyperparameters(Hyperparameters):
    """Rates of the author's example with vector observations."""

    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    temperature_lr: float = hp(3e-4, "learning rate of the log temperature (Adam)", above=0)
    critics: int = hp(2, "number of critics", least=1, built=True)
    initial_temperature: float = hp(1.0, "initial alpha", above=0, built=True)
    entropy_share: float = hp(
        0.98,
        "target entropy as a share of log n; 0.7 for two actions",
        above=0,
        most=1,
        search=("uniform", 0.3, 0.98),
    )
    temperature_form: str = hp(
        "log", "loss in log alpha (author's code) or in alpha (paper)", choices=("log", "alpha")
    )
    td_error: str = hp("squared", "the squared error, or Huber's with bound 1", choices=tuple(losses.TD))
    target_every: int = hp(1, "updates between two updates of the target networks", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "atari": {"batch_size": 64, "polyak": 1.0, "target_every": 2000},
        "cartpole": {"entropy_share": 0.7},
    }


class DiscreteSAC(OfflineToOnline):
    """Entropy-regularised actor-critic with exact expectations."""

    Hyperparameters = DiscreteSACHyperparameters
    actions = "discrete"
    objectives = ("critic", "actor", "temperature")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: DiscreteSACHyperparameters) -> Nets:
        """Build critics with targets, a categorical policy and the log temperature."""
        obs, actions = obs_space.shape[0], int(action_space.n)
        return Nets(
            critic=ActionValues(obs, actions, hp.hidden, hp.critics),
            actor=CategoricalActor(obs, actions, hp.hidden),
            temperature=Scalar(math.log(hp.initial_temperature)),
            targets=("critic",),
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: DiscreteSACHyperparameters) -> Batch:
        """Add ``policy``, the distributions pi(·|s), with gradient."""
        batch.policy = nets.actor(batch.obs)
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: DiscreteSACHyperparameters) -> Loss:
        """Compute the soft Bellman error of every critic against the expected minimum target."""
        with torch.no_grad():
            policy, alpha = nets.actor(batch.next_obs), nets.temperature().exp()
            future = nets.target.critic(batch.next_obs).amin(0)
            value = policy.expect(future - alpha * policy.log_probs)
            target = batch.reward + hp.discount * batch.mask * value
        q = value_of_action(nets.critic(batch.obs), batch.action)
        return losses.TD[hp.td_error](q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: DiscreteSACHyperparameters) -> Loss:
        """Compute the expectation over all actions of alpha log pi minus the value."""
        with torch.no_grad():
            alpha, q = nets.temperature().exp(), nets.critic(batch.obs).amin(0)
        return batch.policy.expect(alpha * batch.policy.log_probs - q).mean(), {}

    @classmethod
    def compute_temperature_loss(cls, nets: Nets, batch: Batch, hp: DiscreteSACHyperparameters) -> Loss:
        """Compute the loss that moves alpha towards the target entropy."""
        log_probs = batch.policy.log_probs.detach()
        log_prob = (log_probs.exp() * log_probs).sum(-1)
        target_entropy = hp.entropy_share * math.log(log_probs.shape[-1])
        return losses.learned_temperature(nets.temperature(), log_prob, target_entropy, hp.temperature_form)

    @classmethod
    def is_target_update_due(cls, hp: DiscreteSACHyperparameters, update: int, progress: float) -> bool:
        """Return True on every `target_every`-th update."""
        return update % hp.target_every == 0

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: DiscreteSACHyperparameters) -> Categorical:
        """Return the probabilities of all actions at [B, D]."""
        return nets.actor(obs)  # type: ignore[no-any-return]
