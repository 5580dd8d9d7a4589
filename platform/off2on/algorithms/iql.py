"""IQL: learn values from the data's own actions, then copy the better ones.

Kostrikov, Nair & Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022,
arXiv:2110.06169.

    value   L_V  = E[ |tau - 1(u < 0)| u^2 ],  u = min_i Q'_i(s, a) - V(s)              (5)
    critic  L_Q  = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]                            (6)
    actor   L_pi = -E[ min(exp(beta (min_i Q'_i(s, a) - V(s))), 100) log pi(a|s) ]       (7)

Order as in the authors' code: the value, then the actor and the critics with the new value, then
the targets. The policy is N(tanh f(s), sigma) with one sigma for all states; its step size falls
to 0 along a cosine offline and does not decay online.

Differences: beta is not free of scale, so the paper divides locomotion rewards by (largest -
smallest return) / 1000. Where all returns are alike that is next to nothing; here they are
divided by largest |return| / 1000, which is much the same on D4RL (``reward=return_range`` is the
paper's). Observations are normalised, as CORL does and the authors do not; the presets, which are
the authors', do not either. The authors initialise orthogonally.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import Normal
from off2on.recipe.hooks import Loss, Objective, cosine
from off2on.recipe.hyperparameters import NORMALISE, REWARD, REWARDS, Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, Value
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class IQLHyperparameters(Hyperparameters):
    """Section 5.1 (locomotion) and the authors' configuration."""

    expectile: float = hp(
        0.7,
        "tau in the value loss: 0.5 is the mean, near 1 the best of the data",
        above=0,
        below=1,
        search=("uniform", 0.5, 0.95),
    )
    beta: float = hp(3.0, "inverse temperature; 0 is behaviour cloning", least=0, search=("log", 0.5, 10))
    weight_clip: float = hp(100.0, "largest weight a transition may get", above=0)
    value_lr: float = hp(3e-4, "Adam's step size for the value", above=0)
    critic_lr: float = hp(3e-4, "Adam's step size for the critics", above=0)
    normalise_obs: bool = hp(True, NORMALISE)
    reward: str = hp("return_scale", REWARD, choices=REWARDS)
    actor_decay: bool = hp(True, "let the actor's step size fall to 0 along a cosine, offline only")
    dropout: float = hp(0.0, "share of the policy's hidden units left out as it learns", least=0, below=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"expectile": 0.9, "beta": 10.0, "reward": "minus_one", "normalise_obs": False},
        "adroit": {"beta": 0.5, "dropout": 0.1, "reward": "raw", "normalise_obs": False},
    }


class IQL(OfflineToOnline):
    """Values from the data's own actions, then copy the better ones."""

    Hyperparameters = IQLHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("value", "actor", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: IQLHyperparameters) -> Nets:
        """A value, twin critics with targets, and a Gaussian policy."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            value=Value(obs, hp.hidden),
            actor=GaussianActor(obs, action, hp.hidden),
            critic=Critic(obs, action, hp.hidden),
            targets=("critic",),
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Batch:
        """Add ``target_q`` [B], min_i Q'_i(s, a), which the value and the actor share."""
        with torch.no_grad():
            batch.target_q = nets.target.critic(batch.obs, batch.action).amin(0)
        return batch

    @classmethod
    def compute_value_loss(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Loss:
        """Expectile regression of V on the targets' Q."""
        value = nets.value(batch.obs)
        return losses.expectile(batch.target_q - value, hp.expectile), {"value": value.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Loss:
        """Advantage-weighted cloning, with the value just updated."""
        with torch.no_grad():
            advantage = batch.target_q - nets.value(batch.obs)
        log_prob = nets.actor(batch.obs, hp.dropout).log_prob(batch.action)
        loss = losses.advantage_weighted(log_prob, advantage, hp.beta, hp.weight_clip)
        return loss, {"actor/log_prob": log_prob.detach().mean(), "advantage": advantage.mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Loss:
        """Regression of Q on the reward and the next state's value."""
        with torch.no_grad():
            target = batch.reward + hp.discount * batch.mask * nets.value(batch.next_obs)
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def lr(cls, objective: str, hp: IQLHyperparameters, progress: float) -> float:
        """The actor's falls to 0 offline."""
        decay = cosine(progress) if objective == "actor" and hp.actor_decay and progress < 1 else 1.0
        return decay * super().lr(objective, hp, progress)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: IQLHyperparameters) -> Normal:
        """The Gaussian of its actions."""
        return nets.actor(obs)  # type: ignore[no-any-return]
