"""BRED: an ensemble of CQL agents offline, merged online into one policy with all their critics.

Lee, Seo, Lee, Abbeel & Shin, "Offline-to-Online Reinforcement Learning via Balanced Replay and
Pessimistic Q-Ensemble", CoRL 2021, arXiv:2107.00591.

Offline, E agents are trained as in CQL, each with its own two critics, actions and temperature. The acting
policy has the mean and the variance of a draw from all of them,

    pi(s) = tanh N(mean_e mu_e(s), mean_e(sigma_e^2 + mu_e^2) - (mean_e mu_e)^2)

and online all of them are trained through it, by SAC, with P_e = min(Q_e1, Q_e2), a~ ~ pi(s), a' ~ pi(s'):

    temperature         L_alpha = sum_e CQL's                          offline
    merged_temperature  L_mean  = -E[ log alpha (log pi(a~|s) + H) ]   online
    actor               L_pi    = sum_e CQL's;  online  E[ alpha log pi(a~|s) - mean_e P_e(s, a~) ]
    critic              L_Q     = sum_e CQL's;  online
                        sum_ei E[ (r + gamma (P'_e(s', a') - alpha log pi(a'|s')) - Q_ei(s, a))^2 ]

The other half of the method is ``--strategy balanced``; five to ten times as many updates after the first
thousand steps are ``online.burst=5``. Order as in CQL.

Differences: agents share batches (and a multiplier, if any); the authors train them one by one, and compute
all losses before the first step. Their handover copies critics to targets and renews all optimisers.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.errors import HyperparameterError
from off2on.recipe import losses
from off2on.recipe.actors import EnsembleActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CRITIC_HEAD, VALUE_HEADS
from off2on.recipe.distributions import TanhNormal
from off2on.recipe.ensembles import minimum_values, to_critics
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, Scalar


@dataclass(frozen=True)
class BREDHyperparameters(CQLHyperparameters):
    """Hyperparameters of section 5 and the authors' script."""

    critic_head: str = hp("plain", CRITIC_HEAD, choices=VALUE_HEADS)
    agents: int = hp(5, "E, number of agents, each with a policy and critics", least=1, built=True)
    actor_lr: float = hp(3e-4, "learning rate of the policies (Adam)", above=0, search=("log", 1e-5, 3e-4))
    temperature_lr: float = hp(3e-4, "learning rate of the agents' log temperatures (Adam)", above=0)
    merged_temperature_lr: float = hp(3e-4, "learning rate of the merged log temperature (Adam)", above=0)
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1)
    presets: ClassVar[dict[str, dict[str, object]]] = {}


class BRED(CQL):
    """An ensemble of CQL agents, merged online."""

    Hyperparameters = BREDHyperparameters
    objectives = ("temperature", "merged_temperature", "actor", "multiplier", "critic")
    target_value: ClassVar[Any] = None  # every agent has its own targets: `soft_target`

    @classmethod
    def resolve(cls, hp: Any, shards: Shards) -> Any:
        """Refuse `subset`: every agent's target is the minimum of its own critics."""
        if hp.subset is not None:
            raise HyperparameterError(
                "bred has no random critics in the target (subset).",
                "The target of every agent is the minimum of its own critics.",
                "subset=none",
            )
        return super().resolve(hp, shards)

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for temperatures and multiplier offline, for the merged temperature online."""
        here = {"temperature": progress < 1, "multiplier": progress < 1, "merged_temperature": progress >= 1}
        return here.get(objective.name, True) and super().is_due(objective, hp, update, progress)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build batched policies, critics [critics E], temperatures [E] and the merged temperature."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.temperature = Scalar(nets.temperature().item(), hp.agents)
        nets.add_module("merged_temperature", Scalar(0.0))
        return nets

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> Any:
        """Build the policies."""
        return EnsembleActor(obs, action, members=hp.agents, **hp.actor_layers)

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build the critics: every agent's first one, then every agent's second."""
        return super().new_critic(obs, action, replace(hp, critics=hp.critics * hp.agents))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add the samples of CQL with a dimension E offline, the merged policy's sample online."""
        if batch.progress >= 1:
            batch.own_action, batch.own_log_prob = nets.actor(batch.obs).merged().sample()
            return batch
        batch = super().prepare(nets, batch, hp)
        if hp.conservative_weight:
            batch.proposals = tuple(to_critics(each, hp.critics) for each in batch.proposals)
        return batch

    @classmethod
    def compute_merged_temperature_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss that moves the merged policy's alpha towards the target entropy."""
        return super().compute_temperature_loss(Nets(temperature=nets.merged_temperature), batch, hp)

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the losses of all agents offline, that of the merged policy on the mean value online."""
        if batch.progress < hp.cloning_share:
            return super().compute_actor_loss(nets, batch, hp)
        q = minimum_values(nets.critic, batch.obs, batch.own_action, hp.agents)
        if batch.progress >= 1:
            return (nets.merged_temperature().exp() * batch.own_log_prob - q.mean(0)).mean(), {}
        return (nets.temperature().exp().unsqueeze(-1) * batch.own_log_prob - q).mean(-1).sum(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute CQL's loss of every agent offline, the soft Bellman error online."""
        if batch.progress < 1:
            return super().compute_critic_loss(nets, batch, hp)
        with torch.no_grad():
            target = cls.soft_target(nets, batch, hp, *nets.actor(batch.next_obs).merged().sample())
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def soft_target(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, log_prob: Tensor) -> Tensor:
        """Compute every critic's target by its agent's critics: [critics E, B], or several as [n, …]."""
        future = minimum_values(nets.target.critic, batch.next_obs, action, hp.agents)
        if batch.progress >= 1:
            future = future - nets.merged_temperature().exp() * log_prob
        elif hp.entropy_backup:
            future = future - nets.temperature().exp().unsqueeze(-1) * log_prob
        return torch.cat([batch.reward + hp.discount * batch.mask * future] * hp.critics, -2)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> TanhNormal:
        """Return the squashed Gaussian of the merged policy."""
        return nets.actor(obs).merged()  # type: ignore[no-any-return]
