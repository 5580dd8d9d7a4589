"""AWR: alternate regression of values on returns, and of the policy on actions weighted by advantage.

Peng, Kumar, Zhang & Levine, "Advantage-Weighted Regression: Simple and Scalable Off-Policy
Reinforcement Learning", 2019, arXiv:1910.00177.

    value   L_V  = E[ ((1 - gamma) (G(s) - V(s)))^2 ] / 2
            G(s_t) = r_t + gamma ((1 - lambda) V(s_t+1) + lambda G(s_t+1)), 0 after a terminal state,
            r_t + gamma V(s_t+1) where the held part of an episode ends
    actor   L_pi = -E[ min(exp(A / beta), 20) log pi(a|s) ] + c E[ sum max(|mu(s)| - 1, 0)^2 ] / 2
            A = (G(s) - V(s) - mean) / (std + 1e-5), pi(s) = N(mu(s), sigma) with sigma fixed

A cycle: G of all rows, 200 steps of the value; G and A of all rows with the new value, 1,000 steps of
the policy, both by stochastic gradients with momentum 0.9. G and A are constant in between: no targets.

Differences: as in the authors' code, where the paper's text has beta = 0.05 and an advantage that is not
normalised (``normalise_advantage=False``), the advantage is normalised over all rows held; V is a network
divided by 1 - gamma, so that one learning rate fits every discount; c / 2 is 5. Batches are drawn with
replacement. The authors' layers have Xavier's range and biases of 0. A row added since the last G is used
once it has one. Observations are normalised with the moments of the data. Default sigma and learning rate are
Ant's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.recipe import losses
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import Normal
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import NORMALISE, Hyperparameters, hp
from off2on.recipe.networks import MLP, Nets, Value
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class AWRHyperparameters(Hyperparameters):
    """Hyperparameters of the authors' configuration."""

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "hopper": {"sigma": 0.4, "actor_lr": 1e-4},
        "halfcheetah": {"sigma": 0.4},
        "walker2d": {"sigma": 0.4, "actor_lr": 2.5e-5},
    }

    beta: float = hp(
        1.0, "temperature: small selects the best actions, large is cloning", above=0, search=("log", 0.1, 10)
    )
    normalise_advantage: bool = hp(True, "normalise advantages to mean 0, std 1; without it use beta=0.05")
    weight_clip: float = hp(20.0, "largest weight of a transition", above=0)
    trace: float = hp(0.95, "lambda of the returns: 0 uses V only, 1 the rewards only", least=0, most=1)
    value_updates: int = hp(200, "updates of the value in a cycle", least=1)
    actor_updates: int = hp(1000, "updates of the policy in a cycle", least=1)
    value_lr: float = hp(0.01, "learning rate of the value (SGD)", above=0, search=("log", 1e-3, 0.03))
    actor_lr: float = hp(5e-5, "learning rate of the policy (SGD)", above=0, search=("log", 1e-5, 1e-3))
    momentum: float = hp(0.9, "momentum of both optimisers", least=0, below=1, built=True)
    sigma: float = hp(0.2, "constant standard deviation of the policy", above=0)
    bound_penalty: float = hp(10.0, "c, weight of the penalty on means outside the action box", least=0)
    discount: float = hp(0.99, "gamma, the discount per environment step", least=0, below=1)
    hidden: tuple[int, ...] = hp((128, 64), "widths of the hidden layers", least=1)
    normalise_obs: bool = hp(True, NORMALISE)


class AWR(OfflineToOnline):
    """Regression of values on returns, and of the policy on actions weighted by advantage."""

    Hyperparameters = AWRHyperparameters
    columns = ("obs", "action", "reward", "next_obs", "mask", "last")
    relabelled_columns = ("lambda_return", "advantage", "labelled")
    objectives = ("value", "actor")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: AWRHyperparameters) -> Nets:
        """Build a value in units of 1 / (1 - gamma), and the mean of a policy that starts near 0."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        actor = MLP((obs, *hp.hidden, action))
        torch.nn.init.uniform_(actor[-1].weight, -0.01, 0.01)  # type: ignore[arg-type]
        torch.nn.init.zeros_(actor[-1].bias)  # type: ignore[arg-type]
        return Nets(value=Value(obs, hp.hidden), actor=actor)

    @classmethod
    def compute_value_loss(cls, nets: Nets, batch: Batch, hp: AWRHyperparameters) -> Loss:
        """Compute the squared error of the value to the returns, in the network's units."""
        known, unit = (batch.labelled > 0).float(), 1 / (1 - hp.discount)
        value = nets.value(batch.obs)
        error = batch.lambda_return / unit - value
        return 0.5 * (known * error.square()).mean(), {"value": unit * value.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: AWRHyperparameters) -> Loss:
        """Compute the advantage-weighted cloning loss, with a penalty on means outside the box."""
        known, policy = (batch.labelled > 0).float(), cls.distribution(nets, batch.obs, hp)
        log_prob = known * policy.log_prob(batch.action)
        loss = losses.advantage_weighted(log_prob, batch.advantage, 1 / hp.beta, hp.weight_clip)
        outside = F.relu(policy.mean.abs() - 1).square().sum(-1).mean()
        return loss + 0.5 * hp.bound_penalty * outside, {"actor/outside": outside.detach()}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: AWRHyperparameters) -> Normal:
        """Return the distribution of actions at [B, D]."""
        mean = nets.actor(obs)
        return Normal(mean, mean.new_full(mean.shape[-1:], hp.sigma))

    @classmethod
    def is_due(cls, objective: Objective, hp: AWRHyperparameters, update: int, progress: float) -> bool:
        """Return True for the value in the first part of a cycle, for the policy in the second."""
        first = (update - 1) % (hp.value_updates + hp.actor_updates) < hp.value_updates
        return first == (objective.name == "value")

    @classmethod
    def is_relabel_due(cls, hp: AWRHyperparameters, update: int) -> bool:
        """Return True before the first update of the value and of the policy in a cycle."""
        return (update - 1) % (hp.value_updates + hp.actor_updates) in (0, hp.value_updates)

    @classmethod
    def relabel(cls, nets: Nets, rows: Batch, hp: AWRHyperparameters, update: int) -> dict[str, Tensor]:
        """Compute the returns for the value, and the advantages for the policy."""
        unit = 1 / (1 - hp.discount)
        # In pieces, as the hidden layers of all rows at once need more memory.
        at = unit * torch.cat([nets.value(piece) for piece in rows.obs.split(1 << 16)])
        after, ends = at.roll(-1), rows.last > 0  # the next state is that of the next row, except at an end
        after[ends] = unit * nets.value(rows.next_obs[ends])
        total = losses.lambda_returns(rows.reward, hp.discount * rows.mask, rows.last, after, hp.trace)
        labels = {"lambda_return": total, "labelled": torch.ones_like(total)}
        advantage = total - at
        if hp.normalise_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-5)
        return labels | {"advantage": advantage}

    @classmethod
    def optimizer(cls, objective: str, hp: AWRHyperparameters, vector: Tensor) -> torch.optim.Optimizer:
        """Return gradient descent with momentum."""
        return torch.optim.SGD([vector], lr=cls.lr(objective, hp, 0.0), momentum=hp.momentum)
