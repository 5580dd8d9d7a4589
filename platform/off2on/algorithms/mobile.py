"""MOBILE: SAC on model rollouts, with a penalty where the model's members disagree about the next value.

Sun, Zhang, Jia, Lin, Ye & Yu, "Model-Bellman Inconsistency for Model-based Offline Reinforcement Learning",
ICML 2023.

    critic  L_Q = sum_i E[ (y - Q_i(s, a))^2 ],  y = max(r - c U(s, a) + gamma min_j Q'_j(s', a'), floor)
            U   on synthetic rows: std over the elites e of mean_k min_j Q'_j(s_ek, a_ek),
                s_ek ~ N(mu_e, sigma_e)(s, a),  a_ek ~ pi(s_ek),  k = 1 … n;  on recorded rows 0
    then SAC's other losses; dynamics, rollouts and their terminations are MOPO's, without its penalty

The Bellman target is computed with each member of the dynamics; where they disagree the model is not to be
believed. It has no entropy term. The policy's learning rate falls to 0 along a cosine offline.

Differences: the order is SAC's, temperature, actor, critic; the authors update the critic first. Their
temperature is at most 1. Their targets are at least 0 (``value_floor=0``), which only fits data whose returns
are: here the presets have it. On Adroit fitting of the dynamics waits for ten epochs without improvement in
their code (pen-human: twenty), here for five. Presets are their configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.sac import SACHyperparameters
from off2on.algorithms.sac_n import BackupSAC
from off2on.errors import HyperparameterError
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CRITIC_HEAD, VALUE_HEADS
from off2on.recipe.hooks import Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.model_based import ModelBased, ModelHyperparameters
from off2on.recipe.networks import Nets
from off2on.recipe.schedules import actor_decay

# c by data set; what else is not the default.
LOCOMOTION = {
    "halfcheetah-random": 0.5, "halfcheetah-medium": 0.5, "halfcheetah-medium-replay": 0.1,
    "halfcheetah-medium-expert": 1.0, "hopper-random": 5.0, "hopper-medium": 1.5, "hopper-medium-replay": 0.1,
    "hopper-medium-expert": 1.5, "walker2d-random": 2.0, "walker2d-medium": 0.5,
    "walker2d-medium-replay": 0.5, "walker2d-medium-expert": 1.5,
}  # fmt: skip
FIXED: dict[str, object] = {"learn_temperature": False, "initial_temperature": 0.2}
ADROIT: dict[str, object] = {
    "horizon": 1, "critics": 10, "hidden": (256,) * 3, "actor_lr": 3e-5, "temperature_lr": 3e-5,
    "actor_decay": False, "reward": "standardise", "dynamics_lr": 3e-4, "dynamics_hidden": (400,) * 4,
    "value_floor": 0.0,
}  # fmt: skip
FURTHER: dict[str, Mapping[str, object]] = {
    "halfcheetah-medium-expert": {"real_ratio": 0.5}, "hopper-medium": FIXED, "hopper-medium-replay": FIXED,
    "walker2d-medium": {"dynamics_epochs": 30}, "walker2d-medium-replay": {"horizon": 1},
    "walker2d-medium-expert": {"horizon": 1},
}  # fmt: skip


@dataclass(frozen=True)
class MOBILEHyperparameters(ModelHyperparameters, SACHyperparameters):
    """Hyperparameters of the authors' configurations for locomotion."""

    penalty: float = hp(
        1.0, "c, weight of the members' disagreement; 0: no penalty", least=0, search=("log", 0.1, 5)
    )
    penalty_samples: int = hp(10, "n, next states drawn from every member", least=1)
    value_floor: float | None = hp(
        None, "lower bound of the critics' targets; 0 where no return is negative; none: no bound"
    )
    backup_actions: int = hp(1, "number of actions at s' that the target maximises over", least=1)
    learn_temperature: bool = hp(True, "learn the temperature; false: it stays initial_temperature")
    actor_decay: bool = hp(True, "decrease the policy's learning rate to 0 along a cosine, offline only")
    entropy_backup: bool = hp(False, "subtract alpha log pi from the critics' target")
    actor_lr: float = hp(1e-4, "learning rate of the policy (Adam)", above=0, search=("log", 3e-5, 1e-3))
    critic_head: str = hp("plain", CRITIC_HEAD, choices=VALUE_HEADS)
    temperature_lr: float = hp(1e-4, "learning rate of the log temperature (Adam)", above=0)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **{
            name: {"penalty": c, "value_floor": 0.0, **FURTHER.get(name, {})}
            for name, c in LOCOMOTION.items()
        },
        "pen-human": ADROIT | {"penalty": 1.0, "real_ratio": 0.8},
        "pen-cloned": ADROIT | {"penalty": 0.5, "real_ratio": 0.5, "backup_actions": 10},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dynamics_elites == 1 and self.penalty > 0 and self.real_ratio < 1:
            raise HyperparameterError(
                "the penalty needs at least two dynamics_elites: got 1.",
                "It is the deviation between their next values.",
                "penalty=0",
            )


class MOBILE(ModelBased, BackupSAC):
    """SAC on model rollouts, with a penalty where the model's members disagree about the next value."""

    Hyperparameters = MOBILEHyperparameters
    schedules = ("actor_decay",)

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return False for a temperature that is not learned."""
        unused = objective.name == "temperature" and not hp.learn_temperature
        return not unused and super().is_due(objective, hp, update, progress)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        """Return the learning rate, which decreases to 0 offline for the actor."""
        return actor_decay(objective, hp, progress) * super().lr(objective, hp, progress)

    @classmethod
    def soft_target(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, log_prob: Tensor) -> Tensor:
        """Return SAC's target [B], or that of the best of several actions, minus the penalty."""
        target = super().soft_target(nets, batch, hp, action, log_prob)
        if hp.penalty and batch.real < len(batch.obs):
            target = target - hp.penalty * cls.disagreement(nets, batch, hp)
        return target if hp.value_floor is None else target.clamp(min=hp.value_floor)

    @classmethod
    def disagreement(cls, nets: Nets, batch: Batch, hp: Any) -> Tensor:
        """Return the deviation [B] between the elites' values of the next state, 0 on recorded rows."""
        obs, action = batch.obs[batch.real :], batch.action[batch.real :]
        mean, std = (every[nets.dynamics.elites, :, :-1] for every in nets.dynamics.predict(obs, action))
        drawn = mean + std * torch.randn(hp.penalty_samples, *mean.shape, device=obs.device)
        flat = drawn.flatten(0, -2)
        q = nets.target.critic(flat, nets.actor(flat).sample()[0]).amin(0)
        spread = q.view(drawn.shape[:-1]).mean(0).std(0)
        return torch.cat((spread.new_zeros(batch.real), spread))
