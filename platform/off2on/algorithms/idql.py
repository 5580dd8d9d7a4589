"""IDQL: IQL's values, and the best of N actions of a diffusion model of the data.

Hansen-Estruch, Kostrikov, Janner, Kuba & Levine, "IDQL: Implicit Q-Learning as an Actor-Critic Method with
Diffusion Policies", arXiv:2304.10573.

    actor   L_pi = E[ |e(s, x_t, t) - z|^2 ],  x_t the data's action with the noise z of t steps        (14)
    value   L_V  = E[ |tau - 1(u < 0)| u^2 ],  u = min_i Q'_i(s, a) - V(s)                               (3)
    critic  L_Q  = sum_i E[ (r + gamma V(s') - Q_i(s, a))^2 ]                                            (4)
    act     argmax over N actions of e' of min_i Q'_i(s, a)                                 (algorithm 2)

The policy reads no values: it imitates the data, and the critics choose among its actions. e' follows e with
a rate of its own, and has layers with residuals, normalisation and dropout. The critics use the new value.
The learning rate of e falls to 0 along a cosine offline and does not decay online.

Differences: squares are sums over critics, the authors' a mean. All layers of e have Glorot's weights, the
authors' inner ones LeCun's; layer normalisation has epsilon 1e-5, theirs 1e-6. They take batches of 512. The
deterministic action chooses among N noises drawn once; the authors evaluate with new ones. Online the
authors' first variant keeps e as it is; here it also imitates the new data. They collect 5,000 steps first,
and half of every online batch is offline (``--strategy symmetric online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.iql import IQL
from off2on.recipe.action_choice import best_proposal
from off2on.recipe.batch import Batch
from off2on.recipe.diffusion import ResidualDenoiser, denoise, noise_error
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets, Value


@dataclass(frozen=True)
class IDQLHyperparameters(Hyperparameters):
    """Hyperparameters of the paper's appendix and the authors' scripts."""

    expectile: float = hp(
        0.7,
        "tau in the value loss: 0.5 is the mean, near 1 the maximum over the data's actions",
        above=0,
        below=1,
        search=("uniform", 0.5, 0.95),
    )
    samples: int = hp(
        64, "N, actions of the policy to choose from", least=1, search=("choice", 32, 64, 128), built=True
    )
    diffusion_steps: int = hp(5, "T, steps from noise to an action", least=1, built=True)
    blocks: int = hp(3, "residual blocks of the policy", least=1, built=True)
    width: int = hp(
        256, "width of the policy's blocks, whose hidden layers are four times as wide", least=1, built=True
    )
    dropout: float = hp(0.1, "dropout at the start of each block in training", least=0, below=1)
    weight_decay: float = hp(1e-4, "weight decay of the policy (AdamW)", least=0, built=True)
    ema_rate: float = hp(0.001, "share of its distance that the acting policy moves", least=0, most=1)
    actor_decay: bool = hp(True, "decrease the policy's learning rate to 0 along a cosine, offline only")
    value_lr: float = hp(3e-4, "learning rate of the value (Adam)", above=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah": {"reward": "return_range"},
        "hopper": {"reward": "return_range"},
        "walker2d": {"reward": "return_range"},
        "antmaze": {"expectile": 0.9, "reward": "minus_one"},
    }


class IDQL(IQL):
    """IQL's values, and the best of N actions of a diffusion model of the data."""

    Hyperparameters = IDQLHyperparameters
    objectives = ("actor", "value", "critic")
    acting_networks = ()
    acting_targets = ("actor", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the diffusion model and twin critics, both with targets, and a value."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        actor = ResidualDenoiser(obs, action, hp.width, hp.blocks, hp.diffusion_steps, hp.samples)
        value, critic = Value(obs, hp.hidden), Critic(obs, action, hp.hidden)
        return Nets(actor=actor, value=value, critic=critic, targets=("actor", "critic"))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add IQL's ``target_q`` [B], z ``start`` [B, A] and t - 1 ``number`` [B]."""
        batch = super().prepare(nets, batch, hp)
        batch.start = torch.randn_like(batch.action)
        batch.number = torch.randint(hp.diffusion_steps, batch.obs.shape[:1], device=batch.obs.device)
        return batch

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the error of the predicted noise, summed over the dimensions of the action."""
        predict = partial(nets.actor, dropout=hp.dropout)
        error = noise_error(predict, nets.actor.kept, batch.obs, batch.action, batch.start, batch.number)
        return error.sum(-1).mean(), {}

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        """Return Adam, with decoupled weight decay for the policy."""
        if objective != "actor":
            return super().optimizer(objective, hp, vector)
        lr = cls.lr(objective, hp, 0.0)
        return torch.optim.AdamW([vector], lr=lr, weight_decay=hp.weight_decay, fused=True)

    @classmethod
    def target_rate(cls, name: str, hp: Any, update: int, progress: float) -> float:
        """Return the rate of the acting policy, or of the target critics."""
        return hp.ema_rate if name == "actor" else super().target_rate(name, hp, update, progress)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the best of N actions, from new noise if exploring and from the same noise otherwise."""
        noise = nets.target.actor.draws.expand(-1, -1, obs.shape[0], -1)
        noise = torch.randn_like(noise) if explore else noise
        proposals = denoise(nets.target.actor, obs, noise, clip_start=False)
        return best_proposal(nets.target.critic(obs, proposals).amin(0), proposals)
