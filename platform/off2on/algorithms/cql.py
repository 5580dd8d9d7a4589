"""CQL: SAC with a penalty on the values of actions that are not in the data.

Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020,
arXiv:2006.04779, CQL(H) of equation 4 with the importance-sampled log-sum-exp of appendix F.

    actor       L_pi = SAC's; in the first updates, if configured, with log pi(a|s) of the data instead of Q
    multiplier  L_m  = -m w mean_i E[ G_i - tau ],  bounded by 10^6; without tau, m = 1 and tau = 0
    critic      L_Q  = SAC's + m w sum_i E[ G_i - tau ],  G_i = LSE_i(s) - Q_i(s, a)
                LSE_i(s) = log( sum_n exp(Q_i(s, u_n)  - log 0.5^A)         u_n uniform in [-1, 1]^A
                              + sum_n exp(Q_i(s, a_n)  - log pi(a_n|s))     a_n ~ pi(s)
                              + sum_n exp(Q_i(s, a'_n) - log pi(a'_n|s')) ) a'_n ~ pi(s')

The target has no entropy term (the authors' deterministic backup). As in CORL, all policy samples of an
update are drawn before the policy steps, and no gradient reaches the policy through them.

Differences: tau is inside the bracket (CORL, d3rlpy); the authors' is w times this one. The critics take the
multiplier just updated (d3rlpy); it starts at 1, CORL's and Cal-QL's at e. Of ``backup_actions`` the target
is max_n min_j Q'_j (CORL, d3rlpy), the authors' min_j max_n. Presets are CORL's, whose cloning takes log pi
of fresh actions; ``preset=wsrl`` has WSRL's ensemble, normalisation and random pair (arXiv:2412.07762).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.sac import SAC, SACHyperparameters
from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import Prediction, values_of
from off2on.recipe.distributions import draw_proposals
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets, Scalar


@dataclass(frozen=True)
class CQLHyperparameters(SACHyperparameters):
    """Hyperparameters of appendix F, and of the authors for D4RL version 2 (as CORL has them)."""

    conservative_weight: float = hp(5.0, "w of the conservative term", least=0, search=("log", 0.5, 20))
    samples: int = hp(10, "actions drawn from each of the three proposal distributions", least=1)
    threshold: float | None = hp(None, "tau, target gap of a learned multiplier; none: no multiplier")
    multiplier_lr: float = hp(3e-4, "learning rate of the log multiplier (Adam)", above=0)
    gap_floor: float | None = hp(None, "lower bound of a transition's gap; none: no bound")
    backup_actions: int = hp(1, "number of actions at s' that the target maximises over", least=1)
    subset: int | None = hp(None, "random critics in the minimum; none: all", least=1, limit="critics")
    cloning_share: float = hp(0.0, "share of initial offline updates with cloning", least=0, most=1)
    actor_lr: float = hp(1e-4, "learning rate of the policy (Adam)", above=0, search=("log", 1e-5, 3e-4))
    temperature_lr: float = hp(1e-4, "learning rate of the log temperature (Adam)", above=0)
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)
    entropy_backup: bool = hp(False, "subtract alpha log pi from the critics' target")

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "locomotion": {"conservative_weight": 10.0, "actor_lr": 3e-5, "temperature_lr": 3e-5}
        | {"normalise_obs": True},
        "antmaze": {"threshold": 0.8, "gap_floor": -200.0, "backup_actions": 10}
        | {"hidden": (256,) * 5, "actor_hidden": (256,) * 3, "reward": "ten_minus_five"},
        "adroit": {"conservative_weight": 1.0, "normalise_obs": True},
        "wsrl": {"critics": 10, "subset": 2, "layer_norm": True, "actor_layer_norm": True},
    }


class CQL(SAC):
    """SAC with a penalty on the values of actions that are not in the data."""

    Hyperparameters = CQLHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("temperature", "actor", "multiplier", "critic")
    regularisation: ClassVar[tuple[str, ...]] = ("conservative_weight",)
    schedules: ClassVar[tuple[str, ...]] = ("cloning_share",)

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return False for the multiplier if there is no threshold."""
        unused = objective.name == "multiplier" and (hp.threshold is None or hp.conservative_weight == 0)
        return not unused and super().is_due(objective, hp, update, progress)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks of SAC, and the log multiplier."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("multiplier", Scalar(0.0))
        return nets

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add SAC's sample, ``next_sample`` ([B, A], [B]; or [n, …]), ``proposals`` ([3n, B, A], [3n, B])."""
        if hp.conservative_weight == 0:
            return super().prepare(nets, batch, hp)
        size, policy = len(batch.obs), nets.actor(torch.cat((batch.obs, batch.next_obs)))
        here, there = policy.rows(0, size), policy.rows(size, 2 * size)
        batch.own_action, batch.own_log_prob = here.sample()
        with torch.no_grad():
            batch.next_sample = there.sample(hp.backup_actions if hp.backup_actions > 1 else None)
            batch.proposals = draw_proposals(here, there, hp.samples)
        return batch

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute SAC's loss, or the cloning loss in the first updates if configured."""
        if batch.progress >= hp.cloning_share:
            return super().compute_actor_loss(nets, batch, hp)
        entropy_cost = nets.temperature().exp().unsqueeze(-1) * batch.own_log_prob
        log_prob = nets.actor(batch.obs).log_prob(batch.action)
        return (entropy_cost - log_prob).mean(-1).sum(), {"actor/log_prob": log_prob.detach().mean()}

    @classmethod
    def compute_multiplier_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the loss by which the multiplier grows while the gap is larger than tau."""
        return -cls.conservatism(nets, batch, hp)[2].mean(), {"multiplier": nets.multiplier().detach().exp()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Bellman error plus the conservative term."""
        conservative, count = hp.conservative_weight > 0, hp.backup_actions if hp.backup_actions > 1 else None
        with torch.no_grad():
            drawn = batch.next_sample if conservative else nets.actor(batch.next_obs).sample(count)
            target = cls.soft_target(nets, batch, hp, *drawn)
            target = target.amax(0) if count else target
        if not conservative:
            q = nets.critic.predict(batch.obs, batch.action)
            return losses.td(q, target, batch.weight), {"q": q.detach().mean()}
        q, gap, cost = cls.conservatism(nets, batch, hp)
        loss = losses.td(q, target, batch.weight) + cost.sum()
        return loss, {"q": q.detach().mean(), "critic/gap": gap.detach().mean()}

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the minimum over the target critics, or over a random subset of them."""
        values: Tensor = cls.target_values(nets, batch, hp, action)
        return values.amin(0) if hp.subset is None else losses.random_minimum(values, hp.subset)

    @classmethod
    def conservatism(cls, nets: Nets, batch: Batch, hp: Any) -> tuple[Tensor | Prediction, Tensor, Tensor]:
        """Return Q_i of the data's actions [E, B], the gaps G_i [E, B], and m w (E[G_i] - tau) [E]."""
        actions, log_probs = batch.proposals
        recorded = batch.action.expand_as(actions[..., :1, :, :])
        every = nets.critic.predict(batch.obs, torch.cat((recorded, actions), -3))
        q, others = every[:, 0], values_of(every[:, 1:])
        gap = torch.logsumexp(cls.proposal_values(others, batch, hp) - log_probs, 1) - values_of(q)
        counted = (gap if hp.gap_floor is None else gap.clamp(min=hp.gap_floor)).mean(1)
        weight = nets.multiplier().exp().clamp(max=1e6) * hp.conservative_weight
        return q, gap, weight * (counted - (hp.threshold or 0.0))

    @classmethod
    def proposal_values(cls, q: Tensor, batch: Batch, hp: Any) -> Tensor:
        """Return the values [E, 3n, B] of the proposals: uniform, from pi(s), from pi(s')."""
        return q
