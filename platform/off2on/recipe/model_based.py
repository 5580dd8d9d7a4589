"""What recipes with learned dynamics share: fitting them, and setting out from recorded states."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import HyperparameterError, UserError
from off2on.recipe.batch import Batch
from off2on.recipe.dynamics_model import Dynamics, DynamicsShape, dynamics_file, fit, read
from off2on.recipe.hooks import Recipe, RolloutSchedule
from off2on.recipe.hyperparameters import Settings, hp
from off2on.recipe.networks import Nets
from off2on.recipe.terminations import find_termination, never, termination_of

CHUNK = 2500
"""Rows rolled out at a time: more need memory for nothing."""


@dataclass(frozen=True)
class ModelHyperparameters(Settings):
    """MOPO's and its code's, which the later papers took over."""

    horizon: int = hp(5, "h, steps of a rollout from a recorded state; 1 for Walker2d", least=1)
    real_ratio: float = hp(0.05, "share of every batch that is recorded; 1 uses no model", least=0, most=1)
    dynamics: str | None = hp(None, "a run, or a file, whose fitted dynamics are taken; none fits new ones")
    termination: str | None = hp(
        None,
        "when imagined episodes end: a known environment (hopper), never, or module:function of the "
        "next observations; none goes by the data's environment",
    )
    rollout_every: int = hp(1000, "updates between two rounds of rollouts", least=1)
    rollout_starts: int = hp(50_000, "recorded states from which a round sets out", least=1)
    rounds_kept: int = hp(5, "rounds whose transitions are kept", least=1)
    dynamics_members: int = hp(7, "networks of the dynamics", least=1)
    dynamics_elites: int = hp(5, "of them, the best on held-out rows, which foretell", least=1)
    dynamics_hidden: tuple[int, ...] = hp((200, 200, 200, 200), "widths of their hidden layers", least=1)
    dynamics_decay: tuple[float, ...] = hp(
        (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4), "weight decay of each of their layers", least=0
    )
    dynamics_lr: float = hp(1e-3, "Adam's step size for the dynamics", above=0)
    dynamics_batch: int = hp(256, "rows of every member's batch", least=1)
    dynamics_epochs: int | None = hp(
        None, "most epochs of fitting; none stops when no member improves", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dynamics_elites > self.dynamics_members:
            raise HyperparameterError(
                f"dynamics_elites must be at most dynamics_members, {self.dynamics_members}: "
                f"got {self.dynamics_elites}."
            )
        layers = len(self.dynamics_hidden) + 1
        if len(self.dynamics_decay) != layers:
            raise HyperparameterError(
                f"dynamics_decay must have {layers} numbers: got {len(self.dynamics_decay)}.",
                "One for each hidden layer and one for the last.",
            )


class ModelBased(Recipe):
    """Adds ``nets.dynamics`` to the recipe that follows in the order of inheritance."""

    fitted_networks = ("dynamics",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """The other recipe's networks, and the dynamics."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("dynamics", Dynamics(_shape(obs_space, action_space, hp)))
        return nets

    @classmethod
    def resolve(cls, hp: Any, shards: Shards) -> Any:
        """Find the rule by which episodes end, and the fitted dynamics if they are given."""
        hp = super().resolve(hp, shards)
        if hp.real_ratio == 1:
            return hp
        if hp.dynamics is not None:
            path = dynamics_file(hp.dynamics)
            read(path, _shape(shards.observation_space, shards.action_space, hp))
            hp = dataclasses.replace(hp, dynamics=str(path.absolute()))
        if hp.termination is None:
            hp = dataclasses.replace(hp, termination=_rule(shards))
        if find_termination(hp.termination) is not never and hp.normalise_obs:
            raise HyperparameterError(
                f"{cls.__name__} cannot normalise observations where a rule ends episodes: {hp.termination}.",
                "Rules read the environment's own units; the dynamics standardise what they read anyway.",
                "normalise_obs=false",
            )
        return hp

    @classmethod
    def fit(cls, nets: Nets, rows: Batch, hp: Any, generator: torch.Generator) -> dict[str, float]:
        """Fit the dynamics to the recorded rows, or take the fitted ones."""
        if hp.real_ratio == 1:
            return {}
        inputs = torch.cat((rows.obs, rows.action), -1)
        targets = torch.cat((rows.next_obs - rows.obs, rows.reward.unsqueeze(-1)), -1)
        if hp.dynamics is not None:
            return _take(nets.dynamics, dynamics_file(hp.dynamics), inputs, targets)
        return fit(
            nets.dynamics,
            inputs,
            targets,
            lr=hp.dynamics_lr,
            decay=hp.dynamics_decay,
            batch_size=hp.dynamics_batch,
            epochs=hp.dynamics_epochs,
            generator=generator,
        )

    @classmethod
    def rollout_schedule(cls, hp: Any) -> RolloutSchedule | None:
        """Rounds as the hyperparameters say; none where batches have no room for them."""
        if hp.real_ratio == 1:
            return None
        kept = hp.rollout_starts * hp.horizon * hp.rounds_kept
        return RolloutSchedule(hp.rollout_every, hp.rollout_starts, kept, hp.real_ratio)

    @classmethod
    def generate_rollouts(cls, nets: Nets, starts: Batch, hp: Any) -> Batch:
        """Roll the policy out in the dynamics, until the horizon or the end."""
        over = find_termination(hp.termination)
        rows = []
        with torch.no_grad():
            for obs in starts.obs.split(CHUNK):
                for _ in range(hp.horizon):
                    action = cls.act(nets, obs, hp, explore=True)
                    next_obs, reward, std = nets.dynamics.step(obs, action)
                    ended = over(next_obs)
                    reward = cls.rollout_reward(reward, std, hp)
                    rows.append((obs, action, reward, next_obs, 1.0 - ended.float()))
                    obs = next_obs[~ended]
        columns = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return Batch(**dict(zip(("obs", "action", "reward", "next_obs", "mask"), columns, strict=True)))

    @classmethod
    def rollout_reward(cls, reward: Tensor, std: Tensor, hp: Any) -> Tensor:
        """What an imagined transition is said to pay.

        Args:
            reward: [B] as foretold.
            std: [E, B, D + 1] every member's sigma of the next observation and the reward.
            hp: The hyperparameters.
        """
        return reward


def _take(dynamics: Dynamics, path: Path, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Load fitted dynamics; they must know something of the rows, the rewards above all."""
    dynamics.load_state_dict(read(path, dynamics.shape))
    every = torch.linspace(0, len(inputs) - 1, min(len(inputs), 2000), device=inputs.device).long()
    inputs, targets = inputs[every], targets[every]
    with torch.no_grad():
        mean = dynamics(inputs)[0][dynamics.elites].mean(0)
    error, constant = (mean - targets).square().mean(0), targets.var(0, correction=0)
    if error[-1] > constant[-1]:
        raise UserError(
            f"the dynamics at {path} foretell the rewards of these data worse than a constant does.",
            "They were fitted to other data, or to rewards in other units (reward=, augment=).",
            "leave out dynamics= to fit new ones",
        )
    return {"dynamics/recorded_mse": float(error.mean()), "dynamics/constant_mse": float(constant.mean())}


def _shape(obs_space: Any, action_space: Any, hp: Any) -> DynamicsShape:
    return DynamicsShape(
        obs_space.shape[0],
        action_space.shape[0],
        hp.dynamics_hidden,
        hp.dynamics_members,
        hp.dynamics_elites,
    )


def _rule(shards: Shards) -> str:
    """The rule of the data's environment; where there is none, the data must not need one."""
    known = termination_of(shards.env_id, shards.observation_space.shape[0])
    if known is None and shards.manifest.terminated:
        raise UserError(
            f"in {shards.name} {shards.manifest.terminated:,} of {shards.episodes:,} episodes end by "
            f"themselves, and no rule is known by which those of {shards.env_id or 'its environment'} do.",
            "A rule is a function of next observations [B, D], in their own units, giving bool [B]; "
            "termination=never imagines that they go on.",
            "termination=my_lab.forklift:crashed",
        )
    return known or "never"
