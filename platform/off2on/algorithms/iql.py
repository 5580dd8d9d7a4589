"""IQL: expectile regression of values on the data's actions, advantage-weighted cloning.

Kostrikov, Nair & Levine, "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022,
arXiv:2110.06169.

    value   L_V  = E[ |tau - 1(u < 0)| u^2 ],  u = min_i Q'_i(s, a) - V(s)              (5)
    critic  L_Q  = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]                            (6)
    actor   L_pi = -E[ min(exp(beta (min_i Q'_i(s, a) - V(s))), 100) log pi(a|s) ]       (7)

Order as in the authors' code: the value, then the actor and the critics with the new value, then
the targets. The policy is N(tanh f(s), sigma) with one sigma for all states; its learning rate falls
to 0 along a cosine offline and does not decay online.

Differences: beta depends on the scale of rewards, so the paper divides locomotion rewards by (largest -
smallest return) / 1000. Where all returns are similar this is nearly 0; here they are divided by
largest |return| / 1000, which is about the same on D4RL (``reward=return_range`` is the paper's).
Observations are normalised, as in CORL and not in the authors' code and presets. The authors initialise
orthogonally. OGBench's presets have its widths, GELU and layer normalisation; sigma is learned here and 1
there, and the policy's mean is within the box; advantages are of the targets and the new value here, of the
critics and the old value there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.distributions import Normal
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import NORMALISE, REWARD, REWARDS, Hyperparameters, hp
from off2on.recipe.networks import ACTIVATION, ACTIVATIONS, NORM_PLACE, NORMS, Critic, Nets, Value
from off2on.recipe.schedules import actor_decay
from off2on.rllib.algorithm import OfflineToOnline

# beta by data set of OGBench (Park et al., arXiv:2502.02538); with another discount; manipulation.
WIDE = {"expectile": 0.9, "reward": "raw", "normalise_obs": False, "actor_decay": False, "layer_norm": True}
WIDE |= {"activation": "gelu", "hidden": (512,) * 4}
MAZES = {"antmaze-large-navigate": {}, "antmaze-giant-navigate": {"discount": 0.995}}
MAZES |= {"humanoidmaze": {"discount": 0.995}}
MANIPULATION = {"cube-single": 1.0, "cube-double": 0.3, "scene": 10.0, "puzzle-3x3": 10.0, "puzzle-4x4": 3.0}


@dataclass(frozen=True)
class IQLHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of section 5.1 (locomotion) and the authors' configuration."""

    expectile: float = hp(
        0.7,
        "tau in the value loss: 0.5 is the mean, near 1 the maximum over the data's actions",
        above=0,
        below=1,
        search=("uniform", 0.5, 0.95),
    )
    beta: float = hp(3.0, "inverse temperature; 0 is behaviour cloning", least=0, search=("log", 0.5, 10))
    weight_clip: float = hp(100.0, "largest weight of a transition", above=0)
    value_lr: float = hp(3e-4, "learning rate of the value (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0)
    normalise_obs: bool = hp(True, NORMALISE)
    reward: str = hp("return_scale", REWARD, choices=REWARDS)
    actor_decay: bool = hp(True, "decrease the policy's learning rate to 0 along a cosine, offline only")
    dropout: float = hp(0.0, "dropout of the policy's hidden units in training", least=0, below=1)
    layer_norm: bool = hp(False, "layer normalisation of the value and the critics", built=True)
    norm_place: str = hp("after", NORM_PLACE, choices=NORMS, only=("layer_norm", True), built=True)
    activation: str = hp("relu", ACTIVATION, choices=tuple(ACTIVATIONS), built=True)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"expectile": 0.9, "beta": 10.0, "reward": "minus_one", "normalise_obs": False},
        "adroit": {"beta": 0.5, "dropout": 0.1, "reward": "raw", "normalise_obs": False},
        **{name: {**WIDE, "beta": 10.0, **more} for name, more in MAZES.items()},
        **{name: {**WIDE, "beta": beta, "hidden": (256,) * 4} for name, beta in MANIPULATION.items()},
    }


class IQL(OfflineToOnline):
    """Expectile regression of values on the data's actions, advantage-weighted cloning."""

    Hyperparameters: ClassVar[type[Hyperparameters]] = IQLHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("value", "actor", "critic")
    schedules: ClassVar[tuple[str, ...]] = ("actor_decay",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: IQLHyperparameters) -> Nets:
        """Build a value, twin critics with targets, and a Gaussian policy."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        norm: Any = hp.norm_place if hp.layer_norm else None
        return Nets(
            value=Value(obs, hp.hidden, hp.activation, norm),
            actor=GaussianActor(obs, action, hp.hidden, activation=hp.activation),
            critic=Critic(obs, action, hp.hidden, 2, norm, hp.activation, head_of(hp)),
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
        """Compute the expectile regression of V on the targets' Q."""
        value = nets.value(batch.obs)
        return losses.expectile(batch.target_q - value, hp.expectile), {"value": value.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Loss:
        """Compute the advantage-weighted cloning loss, with the updated value."""
        with torch.no_grad():
            advantage = batch.target_q - nets.value(batch.obs)
        log_prob = nets.actor(batch.obs, hp.dropout).log_prob(batch.action)
        loss = losses.advantage_weighted(log_prob, advantage, hp.beta, hp.weight_clip)
        return loss, {"actor/log_prob": log_prob.detach().mean(), "advantage": advantage.mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: IQLHyperparameters) -> Loss:
        """Compute the regression of Q on the reward and the next state's value."""
        with torch.no_grad():
            target = batch.reward + hp.discount * batch.mask * nets.value(batch.next_obs)
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def lr(cls, objective: str, hp: IQLHyperparameters, progress: float) -> float:
        """Return the learning rate, which decreases to 0 offline for the actor."""
        return actor_decay(objective, hp, progress) * super().lr(objective, hp, progress)

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: IQLHyperparameters) -> Normal:
        """Return the Gaussian distribution of actions at [B, D]."""
        return nets.actor(obs)  # type: ignore[no-any-return]
