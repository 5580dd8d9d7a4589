"""CQL: SAC whose critics are pushed down where the data is silent.

Kumar et al., "Conservative Q-Learning for Offline Reinforcement Learning", NeurIPS 2020,
arXiv:2006.04779, CQL(H) of equation 4 with the importance-sampled log-sum-exp of appendix F.

    critic  L_Q = SAC's + w sum_i E[ LSE_i(s) - Q_i(s, a) ]
            LSE_i(s) = log( sum_n exp(Q_i(s, u_n)  - log 0.5^A)         u_n uniform in [-1, 1]^A
                          + sum_n exp(Q_i(s, a_n)  - log pi(a_n|s))     a_n ~ pi(s)
                          + sum_n exp(Q_i(s, a'_n) - log pi(a'_n|s')) ) a'_n ~ pi(s')

The target has no entropy term (the authors' deterministic backup). As in CORL, all policy samples
of an update are drawn before the policy steps, and no gradient reaches the policy through them.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from off2on import losses
from off2on.algorithms.sac import SAC, SACHyperparameters
from off2on.batches import Batch
from off2on.hyperparameters import hp
from off2on.nets import Nets
from off2on.recipe import Loss


@dataclass(frozen=True)
class CQLHyperparameters(SACHyperparameters):
    """Appendix F, and the authors' configuration for D4RL version 2 (as CORL has it)."""

    conservative_weight: float = hp(
        5.0,
        "w of the conservative term: 0 is SAC; 10 for medium locomotion data",
        least=0,
        search=("log", 0.5, 20),
    )
    samples: int = hp(10, "actions drawn from each of the three proposals", least=1)
    actor_lr: float = hp(1e-4, "Adam's step size for the policy", above=0, search=("log", 1e-5, 3e-4))
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)
    entropy_backup: bool = hp(False, "subtract alpha log pi from the critics' target")


class CQL(SAC):
    """SAC, pushed down where the data is silent."""

    Hyperparameters = CQLHyperparameters

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """SAC's sample, and the proposals, by one pass of the policy over s and s'.

        Adds ``next_sample`` ([B, A], [B]) and ``proposals`` ([3n, B, A], [3n, B]): actions with
        the log densities they were drawn with, without gradient.
        """
        if hp.conservative_weight == 0:
            return super().prepare(nets, batch, hp)
        size, width = batch.action.shape
        policy = nets.actor(torch.cat((batch.obs, batch.next_obs)))
        here, there = policy.rows(0, size), policy.rows(size, 2 * size)
        batch.own_action, batch.own_log_prob = here.sample()
        with torch.no_grad():
            batch.next_sample = there.sample()
            uniform = torch.empty(hp.samples, size, width, device=batch.action.device).uniform_(-1, 1)
            density = uniform.new_full((hp.samples, size), width * math.log(0.5))
            drawn = (uniform, density), here.sample(hp.samples), there.sample(hp.samples)
            batch.proposals = tuple(torch.cat(parts) for parts in zip(*drawn, strict=True))
        return batch

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """The Bellman error, plus what is pushed down minus what is held up."""
        if hp.conservative_weight == 0:
            return super().compute_critic_loss(nets, batch, hp)
        with torch.no_grad():
            target = cls.soft_target(nets, batch, hp, *batch.next_sample)
        actions, log_probs = batch.proposals
        every = nets.critic(batch.obs, torch.cat((batch.action.unsqueeze(0), actions)))
        q, others = every[:, 0], every[:, 1:]
        gap = (torch.logsumexp(cls.proposal_values(others, batch, hp) - log_probs, 1) - q).mean(1)
        loss = losses.td(q, target) + hp.conservative_weight * gap.sum()
        return loss, {"q": q.detach().mean(), "critic/gap": gap.detach().mean()}

    @classmethod
    def proposal_values(cls, q: Tensor, batch: Batch, hp: Any) -> Tensor:
        """The critics' values [E, 3n, B] of the proposals: uniform, from pi(s), from pi(s')."""
        return q
