"""PEX: IQL offline; online its policy is frozen, and a second one learns beside it.

Zhang, Xu & Yu, "Policy Expansion for Bridging Offline-to-Online Reinforcement Learning", ICLR 2023,
arXiv:2302.00935.

    expansion  L_pi = -E[ min(exp(beta (min_i Q'_i(s, a~) - V(s))), 100) log pi(a~|s) ]
               a~ is one of {beta(s), a ~ pi(s)}, drawn in proportion to exp(k min_i Q_i(s, .))

Offline this is IQL, down to its random numbers. Online its value and critics learn on, the policy does
not: what acts is a choice between its mean and a sample of the expansion, a policy of the same kind
that starts from random weights. The paper draws batches half and half (strategy ``symmetric``), after
5,000 steps of collecting alone.

Differences: a~ is the composite policy's own choice, as in the authors' code; the paper trains pi on
the batch's actions, as IQL does (``online_actions=data``). Samples are clipped to the action box before
they are judged. Order: value, critics, expansion, targets, where the code moves the targets before the
policy. When not exploring nothing is drawn, where the code is greedy nine times in ten: the expansion's
mean is taken where the critics prefer it, and only once it has been trained, so that offline the
evaluation is IQL's too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.iql import IQL, IQLHyperparameters
from off2on.recipe import losses
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class PEXHyperparameters(IQLHyperparameters):
    """IQL's, and the choice between policies; ``locomotion`` is what the authors' scripts run."""

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "locomotion": {"beta": 10.0, "reward": "raw", "normalise_obs": False},
        **IQLHyperparameters.presets,
    }

    inverse_temperature: float = hp(
        10.0, "k of the choice between the policies: 0 tosses a coin", least=0, search=("log", 1, 100)
    )
    online_actions: str = hp(
        "composite",
        "what the expansion learns from: its choices with the frozen policy (code), or the batch (paper)",
        choices=("composite", "data"),
    )
    expansion_lr: float = hp(3e-4, "Adam's step size for the expansion", above=0, search=("log", 3e-5, 1e-3))


class PEX(IQL):
    """IQL whose policy is kept, and given a companion, when it goes online."""

    Hyperparameters = PEXHyperparameters
    objectives = ("value", "actor", "critic", "expansion")
    acting_networks = ("actor", "expansion", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """IQL's, and after them, so that they begin alike, a second policy."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.expansion = GaussianActor(obs_space.shape[0], action_space.shape[0], hp.hidden)
        return nets

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """The policy offline, the expansion online, the values always."""
        wrong = "expansion" if progress < 1 else "actor"
        return objective.name != wrong and super().is_due(objective, hp, update, progress)

    @classmethod
    def compute_expansion_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """IQL's policy loss, on the composite policy's own actions."""
        with torch.no_grad():
            action, q = batch.action, batch.target_q
            if hp.online_actions == "composite":
                action = cls.act(nets, batch.obs, hp, explore=True)
                q = nets.target.critic(batch.obs, action).amin(0)
            advantage = q - nets.value(batch.obs)
        log_prob = nets.expansion(batch.obs, hp.dropout).log_prob(action)
        loss = losses.advantage_weighted(log_prob, advantage, hp.beta, hp.weight_clip)
        return loss, {"expansion/log_prob": log_prob.detach().mean(), "expansion/advantage": advantage.mean()}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """The frozen policy's action or the expansion's, by the critics."""
        policy = nets.expansion(obs)
        old, new = nets.actor(obs).mean, policy.sample().clamp(-1, 1) if explore else policy.mean
        before, after = nets.critic(obs, torch.stack((old, new))).amin(0)
        if explore:  # the second of two logits wins with the sigmoid of their difference
            chosen = torch.rand_like(after) < (hp.inverse_temperature * (after - before)).sigmoid()
        else:  # log sigma is 0 until the first update
            chosen = (after > before) & (nets.expansion.log_std != 0).any()
        return torch.where(chosen.unsqueeze(-1), new, old)
