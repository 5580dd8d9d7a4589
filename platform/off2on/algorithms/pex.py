"""PEX: IQL; online its policy is frozen and a second one is trained, the critics choose between them.

Zhang, Xu & Yu, "Policy Expansion for Bridging Offline-to-Online Reinforcement Learning", ICLR 2023,
arXiv:2302.00935.

    expansion  L_pi = -E[ min(exp(beta (min_i Q'_i(s, a~) - V(s))), 100) log pi(a~|s) ]
               a~ is one of {beta(s), a ~ pi(s)}, drawn in proportion to exp(k min_i Q_i(s, .))

Offline this is IQL with the same random numbers. Online its value and critics are trained further, its
policy is not: the action is a choice between its mean and a sample of the expansion, a policy of the same
kind that starts from random weights. In the paper half of every batch is offline, and the first 5,000 steps
are collected without updates: ``--strategy symmetric online.warm_up=5000``. The strategy `policy_expansion`
gives other algorithms the same choice, with a second policy that continues from the handover.

Differences: a~ is the composite policy's own choice, as in the authors' code; the paper trains pi on
the batch's actions, as IQL does (``online_actions=data``). Samples are clipped to the action box before
they are evaluated. Order: value, critics, expansion, targets, where the code updates the targets before the
policy. Without exploration nothing is drawn, where the code is greedy nine times in ten: the expansion's
mean is taken where its value is higher, once it has been trained, so that offline the evaluation is IQL's.
The authors' example for locomotion has ``expectile=0.9``; their policy has Xavier's range, and online the
optimisers of value and critics start anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.iql import IQL, IQLHyperparameters
from off2on.recipe import losses
from off2on.recipe.action_choice import prefer_new
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class PEXHyperparameters(IQLHyperparameters):
    """Hyperparameters of IQL and of the choice; ``locomotion`` has the defaults of the authors' scripts."""

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "locomotion": {"beta": 10.0, "reward": "raw", "normalise_obs": False},
        **IQLHyperparameters.presets,
    }

    inverse_temperature: float = hp(
        10.0, "k of the choice between policies; 0: equally likely", least=0, search=("log", 1, 100)
    )
    online_actions: str = hp(
        "composite",
        "actions the expansion is trained on: those of both policies (code), or of the batch (paper)",
        choices=("composite", "data"),
    )
    expansion_lr: float = hp(
        3e-4, "learning rate of the expansion (Adam)", above=0, search=("log", 3e-5, 1e-3)
    )


class PEX(IQL):
    """IQL with a second policy for the online phase."""

    Hyperparameters = PEXHyperparameters
    objectives = ("value", "actor", "critic", "expansion")
    acting_networks = ("actor", "expansion", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks of IQL, and after them, so that these start the same, a second policy."""
        nets = super().build_nets(obs_space, action_space, hp)
        sizes = obs_space.shape[0], action_space.shape[0], hp.hidden
        nets.expansion = GaussianActor(*sizes, activation=hp.activation)
        return nets

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return True for the policy offline, for the expansion online, for the values in both."""
        wrong = "expansion" if progress < 1 else "actor"
        return objective.name != wrong and super().is_due(objective, hp, update, progress)

    @classmethod
    def compute_expansion_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute IQL's policy loss on the actions of both policies."""
        with torch.no_grad():
            action, q = batch.action, batch.target_q
            if hp.online_actions == "composite":
                action = cls.own_action(nets, batch.obs, hp)
                q = nets.target.critic(batch.obs, action).amin(0)
            advantage = q - nets.value(batch.obs)
        log_prob = nets.expansion(batch.obs, hp.dropout).log_prob(action)
        loss = losses.advantage_weighted(log_prob, advantage, hp.beta, hp.weight_clip)
        return loss, {"expansion/log_prob": log_prob.detach().mean(), "expansion/advantage": advantage.mean()}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the frozen policy's action or the expansion's, chosen by the critics."""
        policy = nets.expansion(obs)
        old, new = nets.actor(obs).mean, policy.sample().clamp(-1, 1) if explore else policy.mean
        chosen = prefer_new(nets.critic, obs, old, new, hp.inverse_temperature, explore)
        if not explore:  # log sigma is 0 until the first update
            chosen = chosen & (nets.expansion.log_std != 0).any()
        return torch.where(chosen.unsqueeze(-1), new, old)
