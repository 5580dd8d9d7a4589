"""E2O: CQL with many critics; online pairwise minimum targets and optimistic exploration.

Zhao, Hao, Ma, Liu, Zheng & Meng, "ENOTO: Improving Offline-to-Online Reinforcement Learning with
Q-Ensembles", IJCAI 2024, arXiv:2306.06871; its first version is called E2O.

Offline the losses are CQL's, with N critics. Online they are SAC's, with another target:

    critic  L_Q = sum_i E[ w (r + gamma (P(s', a') - alpha log pi(a'|s')) - Q_i(s, a))^2 ]
            P   = mean of min(Q'_j, Q'_k) over all pairs j < k   (WeightedMinPair)
                = sum_k (N - k) Q'_(k) / (N (N - 1) / 2),        Q'_(1) <= … <= Q'_(N)
            w   = sigmoid(-T std_j Q'_j(s', a'')) + 1/2,  which is 1 at T = 0

    exploring   of n actions drawn from pi(s), the one with the largest mean_i Q_i + lambda std_i Q_i
                (SUNRISE: Lee et al., arXiv:2007.04938)

The policy maximises the minimum of the N values in both phases. The paper trains online on online
transitions only, with one update per step after the first 1,000: ``--strategy online_only
online.warm_up=1000``. The strategy `ensemble` gives other algorithms the same targets and exploration.

Differences: the weight w comes from the authors' code and is off by default; theirs (T = 10) is one
number per batch, from the spread of batch means. Their script does not explore; the paper does.
The std divides by N, as SUNRISE's does. Order as in SAC; the authors update the policy last. The
library they build on averages the conservative term over the critics and its target is the policy's
mean action, where CQL here sums and samples: ``preset=authors`` has the equivalent of their weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.recipe import losses
from off2on.recipe.action_choice import most_optimistic
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CRITIC_HEAD, VALUE_HEADS
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class E2OHyperparameters(CQLHyperparameters):
    """Hyperparameters of the paper and the authors' scripts."""

    critic_head: str = hp("plain", CRITIC_HEAD, choices=VALUE_HEADS)
    critics: int = hp(10, "N, number of critics", least=2)
    online_target: str = hp(
        "weighted_pair",
        "online combination of the target critics: the minimum, the minimum of a random pair, the mean of "
        "that over all pairs, the mean, a random convex combination",
        choices=("min", "random_pair", "weighted_pair", "mean", "rem"),
    )
    exploration_samples: int = hp(10, "number of actions to choose from in exploration; 1 is SAC", least=1)
    exploration_bonus: float = hp(10.0, "lambda, weight of the critics' std in that choice", least=0)
    weighted_backup: float = hp(
        0.0, "T, decrease of a transition's weight with the std of the target critics; 0 is off", least=0
    )
    actor_lr: float = hp(3e-5, "learning rate of the policy (Adam)", above=0, search=("log", 1e-5, 3e-4))

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"authors": {"conservative_weight": 0.5}}


class E2O(CQL):
    """CQL with many critics; online pairwise minimum targets and optimistic exploration."""

    Hyperparameters = E2OHyperparameters
    acting_networks = ("actor", "critic")

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return CQL's schedule offline, SAC's online."""
        return super().is_due(objective, hp if progress < 1 else as_sac(hp), update, progress)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add CQL's samples offline; online SAC's sample and the weight of every transition."""
        if batch.progress < 1:
            return super().prepare(nets, batch, hp)
        batch = super().prepare(nets, batch, as_sac(hp))
        if hp.weighted_backup:
            with torch.no_grad():
                action, _ = nets.actor(batch.next_obs).sample()
                spread = nets.target.critic(batch.next_obs, action).std(0, correction=0)
                weight = torch.sigmoid(-hp.weighted_backup * spread) + 0.5
            batch.weight = weight if batch.weight is None else weight * batch.weight
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute CQL's loss offline, SAC's online."""
        return super().compute_critic_loss(nets, batch, hp if batch.progress < 1 else as_sac(hp))

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the minimum of all targets [B] offline, the combination `online_target` online."""
        if batch.progress < 1 or hp.online_target == "min":
            return super().target_value(nets, batch, hp, action)
        if hp.online_target == "random_pair":
            pair = torch.randperm(hp.critics, device=action.device)[:2]
            return nets.target.critic.subset(batch.next_obs, action, pair).amin(0)  # type: ignore[no-any-return]
        q: Tensor = nets.target.critic(batch.next_obs, action)
        if hp.online_target == "rem":
            share = torch.rand(hp.critics, device=q.device)
            return share / share.sum() @ q
        return losses.weighted_pair(q) if hp.online_target == "weighted_pair" else q.mean(0)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return SAC's action; if exploring, the most optimistic of several samples."""
        if not explore or hp.exploration_samples == 1:
            return super().act(nets, obs, hp, explore)
        actions, _ = nets.actor(obs).sample(hp.exploration_samples)
        return most_optimistic(nets.critic, obs, actions, hp.exploration_bonus)


@cache
def as_sac(hp: Any) -> Any:
    """Return the hyperparameters with which CQL is SAC."""
    return replace(hp, conservative_weight=0.0, entropy_backup=True, backup_actions=1)
