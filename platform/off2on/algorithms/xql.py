"""XQL: Gumbel regression of values on the data's actions, advantage-weighted cloning.

Garg, Hejna, Geist & Ermon, "Extreme Q-Learning: MaxEnt RL without Entropy", ICLR 2023, arXiv:2301.02328.

    value   L_V  = E[ e^(u - M) - u e^(-M) - e^(-M) ],  u = min((min_i Q'_i(s, a) - V(s)) / beta, c)
            M      max(largest u of the batch, -1), without gradient: it keeps the exponentials small
    critic  L_Q  = sum_i E[ huber_20(r + gamma V(s') - Q_i(s, a)) ],  huber_d(x) = x^2 / 2 up to |x| = d
    actor   L_pi = IQL's, -E[ min(exp(k (min_i Q'_i(s, a) - V(s))), 100) log pi(a|s) ]

V becomes beta log E[ exp(Q / beta) ] over the data's actions, the soft maximum: their mean for a large beta,
the largest value for a small one. The loss is steep where V is too low; the clip c limits it.
``uniform_actions`` adds to the value's loss actions that are drawn uniformly, against overestimation. Order
and policy are IQL's.

Differences: V(s') in the critics' target is that of the value just updated, as in the authors' code. Several
updates of the value per update of the critics and noise on its actions, which the authors use for a data set
each (antmaze-medium-diverse, halfcheetah-medium), are left out. In their code the value's dropout has no
effect. Observations are not normalised; the rewards' scale is IQL's. Layer
normalisation has epsilon 1e-5, the authors' 1e-6, and networks are not initialised orthogonally. Presets are
the authors' scripts'; beta and c of families are those that they use for all data sets of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.iql import IQL
from off2on.recipe.actors import GaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import REWARD, REWARDS, Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, Value

# beta, c, batch and uniform actions by data set.
LOCOMOTION = {
    "halfcheetah-medium": (1.0, 7.0, 1024, 0), "halfcheetah-medium-replay": (1.0, 5.0, 256, 0),
    "halfcheetah-medium-expert": (1.0, 5.0, 1024, 0), "hopper-medium": (5.0, 7.0, 1024, 0),
    "hopper-medium-replay": (2.0, 7.0, 256, 0), "hopper-medium-expert": (2.0, 7.0, 1024, 1),
    "walker2d-medium": (10.0, 7.0, 1024, 0), "walker2d-medium-replay": (5.0, 5.0, 1024, 0),
    "walker2d-medium-expert": (2.0, 5.0, 256, 0),
}  # fmt: skip
ANTMAZE = {
    "antmaze": (0.6, 7.0, 256, 0), "antmaze-umaze": (2.0, 7.0, 256, 0),
    "antmaze-umaze-diverse": (5.0, 7.0, 256, 1), "antmaze-medium-play": (0.8, 5.0, 256, 0),
    "antmaze-medium-diverse": (0.6, 7.0, 256, 0), "antmaze-large-play": (0.6, 5.0, 1024, 0),
    "antmaze-large-diverse": (0.55, 5.0, 1024, 0),
}  # fmt: skip
KITCHEN = {
    "kitchen": (5.0, 7.0, 256, 0), "kitchen-complete": (2.0, 7.0, 1024, 0),
    "kitchen-partial": (5.0, 7.0, 1024, 0), "kitchen-mixed": (8.0, 7.0, 1024, 0),
}  # fmt: skip


def _presets() -> dict[str, dict[str, object]]:
    """Return the presets by data set."""
    names = ("temperature", "loss_clip", "batch_size", "uniform_actions")
    maze: dict[str, object] = {"beta": 10.0, "reward": "minus_one", "actor_decay": False}
    kitchen: dict[str, object] = {"beta": 0.5, "dropout": 0.1, "reward": "raw"}
    return {
        data: dict(zip(names, values, strict=True)) | common
        for table, common in ((LOCOMOTION, {}), (ANTMAZE, maze), (KITCHEN, kitchen))
        for data, values in table.items()
    }


@dataclass(frozen=True)
class XQLHyperparameters(Hyperparameters):
    """Hyperparameters of the authors' scripts, with one beta and c for all locomotion data."""

    temperature: float = hp(
        2.0,
        "beta of the value's soft maximum: a small one is the largest value, a large one the mean",
        above=0,
        search=("log", 0.5, 10),
    )
    loss_clip: float = hp(7.0, "c, largest (Q - V) / beta in the value's loss; 5 to 7", above=0)
    uniform_actions: int = hp(
        0, "uniform actions of every state in the value's loss, beside the data's", least=0
    )
    huber: float = hp(20.0, "error of the critics beyond which it is linear", above=0)
    beta: float = hp(3.0, "k, inverse temperature of the policy", least=0, search=("log", 0.5, 10))
    weight_clip: float = hp(100.0, "largest weight of a transition", above=0)
    value_lr: float = hp(3e-4, "learning rate of the value (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0)
    reward: str = hp("return_scale", REWARD, choices=REWARDS)
    actor_decay: bool = hp(True, "decrease the policy's learning rate to 0 along a cosine, offline only")
    dropout: float = hp(0.0, "dropout of the policy's hidden units in training", least=0, below=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = _presets()


class XQL(IQL):
    """Gumbel regression of values on the data's actions, advantage-weighted cloning."""

    Hyperparameters = XQLHyperparameters

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build a value with layer normalisation, twin critics with targets, and a Gaussian policy."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            value=Value(obs, hp.hidden, layer_norm="before"),
            actor=GaussianActor(obs, action, hp.hidden),
            critic=Critic(obs, action, hp.hidden),
            targets=("critic",),
        )

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add IQL's ``target_q`` [B], and ``uniform_q`` [n, B] of n uniform actions."""
        batch = super().prepare(nets, batch, hp)
        with torch.no_grad():
            batch.uniform_q = batch.target_q.new_empty(0, len(batch.target_q))
            if hp.uniform_actions:
                uniform = batch.action.new_empty(hp.uniform_actions, *batch.action.shape).uniform_(-1, 1)
                batch.uniform_q = nets.target.critic(batch.obs, uniform).amin(0)
        return batch

    @classmethod
    def compute_value_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Gumbel regression of V on the targets' Q."""
        value = nets.value(batch.obs)
        q = torch.cat((batch.target_q.unsqueeze(0), batch.uniform_q))
        return gumbel((q - value) / hp.temperature, hp.loss_clip), {"value": value.detach().mean()}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the Huber error of Q against the reward and the next state's value."""
        with torch.no_grad():
            target = batch.reward + hp.discount * batch.mask * nets.value(batch.next_obs)
        q = nets.critic(batch.obs, batch.action)
        error = F.huber_loss(q, target.expand_as(q), reduction="none", delta=hp.huber)
        weighted = error if batch.weight is None else batch.weight * error
        return weighted.sum() / q.shape[-1], {"q": q.detach().mean()}


def gumbel(error: Tensor, largest: float) -> Tensor:
    """Compute E[e^u - u - 1] of errors, cut off at `largest`, times e^-M as the equations have it."""
    error = error.clamp(max=largest)
    scale = error.detach().max().clamp(min=-1)
    return ((error - scale).exp() - (error + 1) * (-scale).exp()).mean()
