"""Diffusion-QL: a diffusion model of the data's actions that also maximises Q.

Wang, Hunt & Zhou, "Diffusion Policies as an Expressive Policy Class for Offline Reinforcement Learning",
ICLR 2023, arXiv:2208.06193.

    critic  L_Q  = sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ],  a' from the target policy     (4)
    actor   L_pi = alpha E[ |e(s, x_t, t) - z|^2 ] - eta E[ Q_1(s, a_e) ] / E|Q_2(s, a_e)|                 (3)
            x_t    the data's action with the noise z of t steps, see `off2on.recipe.diffusion`
            a_e    the end of the policy's chain, with gradient through all of its steps
    act     one of 50 actions of the policy, drawn in proportion to exp(min_i Q'_i)

A coin decides in every update whether Q_1 is maximised and Q_2 is the scale, or the other way round. The
actor is updated with the new critics. With ``backup_samples=10`` (the authors' max_q_backup) each target
critic takes its largest value over 10 actions. The target policy moves only in every fifth update after
1,000, and the norm of each network's gradient is limited, as in the authors' code. alpha is 1 there.

Differences: the deterministic action is the best one of 50 with noise drawn once; the authors evaluate with
draws. Learning rates are constant: the authors' cosine, advanced once in 50,000 updates, falls by 0.1 %.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.action_choice import best_proposal, draw_proposal
from off2on.recipe.batch import Batch
from off2on.recipe.diffusion import Denoiser, denoise, noise_error
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Critic, Nets
from off2on.rllib.algorithm import OfflineToOnline

# eta, largest norm of a gradient.
LOCOMOTION = {
    "halfcheetah-medium": (1.0, 9.0), "hopper-medium": (1.0, 9.0), "walker2d-medium": (1.0, 1.0),
    "halfcheetah-medium-replay": (1.0, 2.0), "hopper-medium-replay": (1.0, 4.0),
    "walker2d-medium-replay": (1.0, 4.0), "halfcheetah-medium-expert": (1.0, 7.0),
    "hopper-medium-expert": (1.0, 5.0), "walker2d-medium-expert": (1.0, 5.0),
}  # fmt: skip
KITCHEN = {"kitchen-complete": (0.005, 9.0), "kitchen-partial": (0.005, 10.0), "kitchen-mixed": (0.005, 10.0)}
ADROIT = {"pen-human": (0.15, 7.0), "pen-cloned": (0.1, 8.0)}
ANTMAZE = {
    "antmaze-umaze-diverse": (2.0, 3.0), "antmaze-medium-diverse": (3.0, 1.0),
    "antmaze-large-play": (4.5, 10.0), "antmaze-large-diverse": (3.5, 7.0),
}  # fmt: skip
SPARSE = {"reward": "four_minus_two"}


def _presets(table: Mapping[str, tuple[float, float]], **more: object) -> dict[str, Mapping[str, object]]:
    """Return settings of the authors' main.py by data set, and further ones."""
    return {name: {"eta": eta, "gradient_norm": norm} | more for name, (eta, norm) in table.items()}


@dataclass(frozen=True)
class DiffusionQLHyperparameters(Hyperparameters):
    """Hyperparameters of the paper's appendix and the authors' code."""

    eta: float = hp(1.0, "weight of Q in the policy's loss", least=0, search=("log", 0.05, 5.0))
    alpha: float = hp(1.0, "weight of the data in the policy's loss", least=0)
    gradient_norm: float = hp(1.0, "largest norm of each network's gradient; 0: no limit", least=0)
    backup_samples: int = hp(1, "actions at s' in the targets, which take the largest value", least=1)
    diffusion_steps: int = hp(5, "T, steps from noise to an action", least=1, built=True)
    samples: int = hp(50, "actions of the policy to choose from when acting", least=1, built=True)
    ema_every: int = hp(5, "updates between two moves of the target policy", least=1)
    ema_start: int = hp(1000, "updates before the first move of the target policy", least=0)
    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0)
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = (
        _presets(LOCOMOTION | KITCHEN) | _presets(ADROIT, reward="standardise", actor_lr=3e-5)
        | _presets({"antmaze-umaze": (0.5, 2.0)}, **SPARSE) | _presets(ANTMAZE, **SPARSE, backup_samples=10)
        | _presets({"antmaze-medium-play": (2.0, 2.0)}, **SPARSE, backup_samples=10, actor_lr=1e-3)
    )  # fmt: skip


class DiffusionQL(OfflineToOnline):
    """A diffusion model of the data's actions that also maximises Q."""

    Hyperparameters = DiffusionQLHyperparameters
    objectives = ("critic", "actor")
    acting_networks = ("actor",)
    acting_targets = ("critic",)
    regularisation = ("alpha",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: DiffusionQLHyperparameters) -> Nets:
        """Build twin critics and the diffusion model, both with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        critic = Critic(obs, action, hp.hidden, activation="mish")
        actor = Denoiser(obs, action, hp.hidden, hp.diffusion_steps, hp.samples)
        return Nets(critic=critic, actor=actor, targets=("critic", "actor"))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: DiffusionQLHyperparameters) -> Batch:
        """Add z ``start`` [B, A], t - 1 ``number`` [B], ``noise`` [T, B, A], a coin and ``target`` [B]."""
        shape, device = batch.action.shape, batch.action.device
        with torch.no_grad():
            batch.start = torch.randn_like(batch.action)
            batch.number = torch.randint(hp.diffusion_steps, shape[:1], device=device)
            batch.coin = torch.rand(1, device=device)
            batch.noise = torch.randn(hp.diffusion_steps, *shape, device=device)
            noise = torch.randn(hp.diffusion_steps, hp.backup_samples, *shape, device=device)
            action = denoise(nets.target.actor, batch.next_obs, noise)
            future = cls.target_value(nets, batch, hp, action).amax(0)
            batch.target = batch.reward + hp.discount * batch.mask * future
        return batch

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: DiffusionQLHyperparameters, action: Tensor) -> Tensor:
        """Return the smaller one [1, B] of the target critics' largest values of actions [n, B, A] at s'."""
        return nets.target.critic(batch.next_obs, action).amax(1, True).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: DiffusionQLHyperparameters) -> Loss:
        """Compute the Bellman error against the targets' value of the target policy's actions."""
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, batch.target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: DiffusionQLHyperparameters) -> Loss:
        """Compute the error of the predicted noise minus the scaled Q of the policy's actions."""
        data = batch.obs, batch.action, batch.start, batch.number
        error = noise_error(nets.actor, nets.actor.kept, *data).mean()
        q = nets.critic(batch.obs, denoise(nets.actor, batch.obs, batch.noise))
        scaled = q.mean(1) / q.detach().abs().mean(1).flip(0)
        gain = torch.where(batch.coin < 0.5, scaled[:1], scaled[1:]).squeeze()
        return hp.alpha * error - hp.eta * gain, {"actor/error": error.detach()}

    @classmethod
    def max_gradient_norm(cls, objective: str, hp: DiffusionQLHyperparameters) -> float | None:
        """Return the limit of the hyperparameters."""
        return hp.gradient_norm or None

    @classmethod
    def target_rate(cls, name: str, hp: DiffusionQLHyperparameters, update: int, progress: float) -> float:
        """Return the rate of a target network; that of the policy waits, and moves less often."""
        is_due = name != "actor" or (update > hp.ema_start and (update - 1) % hp.ema_every == 0)
        return super().target_rate(name, hp, update, progress) if is_due else 0.0

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: DiffusionQLHyperparameters, explore: bool) -> Tensor:
        """Return one of several actions: drawn by the softmax of Q if exploring, otherwise the best one."""
        noise = nets.actor.draws.expand(-1, -1, obs.shape[0], -1)
        actions = denoise(nets.actor, obs, torch.randn_like(noise) if explore else noise)
        choose = draw_proposal if explore else best_proposal
        return choose(nets.target.critic(obs, actions).amin(0), actions)
