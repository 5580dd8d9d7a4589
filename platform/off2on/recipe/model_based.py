"""Base class of model-based algorithms: fitting dynamics, and rollouts from recorded states."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import HyperparameterError, UserError
from off2on.recipe.batch import Batch
from off2on.recipe.dynamics_model import Dynamics, DynamicsShape, dynamics_file, fit_dynamics, read_dynamics
from off2on.recipe.hooks import Recipe, RolloutSchedule
from off2on.recipe.hyperparameters import Settings, hp
from off2on.recipe.networks import Nets
from off2on.recipe.terminations import find_termination, never, termination_of

CHUNK = 2500
"""Number of rollouts computed at a time: more need memory and are not faster."""


@dataclass(frozen=True)
class ModelHyperparameters(Settings):
    """Hyperparameters of the dynamics and the rollouts; the defaults are those of MOPO and its code."""

    horizon: int = hp(5, "h, length of a rollout from a recorded state, in steps; 1 for Walker2d", least=1)
    real_ratio: float = hp(
        0.05, "share of recorded transitions in every batch; 1 uses no model", least=0, most=1
    )
    dynamics: str | None = hp(
        None, "run or file to take fitted dynamics from; none: fit new ones", built=True
    )
    termination: str | None = hp(
        None,
        "termination function of model rollouts: a known environment (hopper), never, or module:function of "
        "the next observations; none: that of the data set's environment",
    )
    rollout_every: int = hp(1000, "updates between two rounds of rollouts", least=1)
    rollout_starts: int = hp(50_000, "recorded states from which the rollouts of a round start", least=1)
    rounds_kept: int = hp(5, "number of latest rounds of rollouts that are kept", least=1)
    dynamics_members: int = hp(7, "number of networks in the dynamics ensemble", least=1, built=True)
    dynamics_elites: int = hp(
        5,
        "number of them used for predictions, the best on held-out rows",
        least=1,
        built=True,
        limit="dynamics_members",
    )
    dynamics_hidden: tuple[int, ...] = hp(
        (200, 200, 200, 200), "widths of the hidden layers of the dynamics", least=1, built=True
    )
    dynamics_decay: tuple[float, ...] = hp(
        (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4),
        "weight decay of each layer of the dynamics",
        least=0,
        built=True,
    )
    dynamics_lr: float = hp(1e-3, "learning rate of the dynamics (Adam)", above=0, built=True)
    dynamics_batch: int = hp(256, "rows per update of a dynamics network", least=1, built=True)
    dynamics_epochs: int | None = hp(
        None, "largest number of epochs of fitting; none: until no member improves", least=1, built=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = len(self.dynamics_hidden) + 1
        if len(self.dynamics_decay) != layers:
            raise HyperparameterError(
                f"dynamics_decay must have {layers} numbers: got {len(self.dynamics_decay)}.",
                "Expected one for each hidden layer and one for the last layer.",
            )


class ModelBased(Recipe):
    """Add ``nets.dynamics`` and model rollouts to the next algorithm in the order of inheritance."""

    fitted_networks = ("dynamics",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the networks of the other algorithm, and the dynamics."""
        nets = super().build_nets(obs_space, action_space, hp)
        nets.add_module("dynamics", Dynamics(_shape(obs_space, action_space, hp)))
        return nets

    @classmethod
    def resolve(cls, hp: Any, shards: Shards) -> Any:
        """Find the termination function, and check the fitted dynamics if they are given."""
        hp = super().resolve(hp, shards)
        if hp.real_ratio == 1:
            return hp
        if hp.dynamics is not None:
            path = dynamics_file(hp.dynamics)
            read_dynamics(path, _shape(shards.observation_space, shards.action_space, hp))
            hp = dataclasses.replace(hp, dynamics=str(path.absolute()))
        if hp.termination is None:
            hp = dataclasses.replace(hp, termination=_termination(shards))
        if find_termination(hp.termination) is not never and hp.normalise_obs:
            raise HyperparameterError(
                f"{cls.__name__} cannot normalise observations with termination={hp.termination}.",
                "Termination functions expect raw observations; the dynamics standardise their inputs.",
                "normalise_obs=false",
            )
        return hp

    @classmethod
    def fit(cls, nets: Nets, rows: Batch, hp: Any, generator: torch.Generator) -> dict[str, float]:
        """Fit the dynamics to the recorded transitions, or load fitted ones."""
        if hp.real_ratio == 1:
            return {}
        inputs = torch.cat((rows.obs, rows.action), -1)
        targets = torch.cat((rows.next_obs - rows.obs, rows.reward.unsqueeze(-1)), -1)
        if hp.dynamics is not None:
            return _take(nets.dynamics, dynamics_file(hp.dynamics), inputs, targets)
        return fit_dynamics(
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
        """Return the schedule of the hyperparameters; None if all transitions of a batch are recorded."""
        if hp.real_ratio == 1:
            return None
        kept = hp.rollout_starts * hp.horizon * hp.rounds_kept
        return RolloutSchedule(hp.rollout_every, hp.rollout_starts, kept, hp.real_ratio)

    @classmethod
    def generate_rollouts(cls, nets: Nets, starts: Batch, hp: Any) -> Batch:
        """Roll out the policy in the dynamics, until the horizon or termination."""
        over = find_termination(hp.termination)
        rows = []
        with torch.no_grad():
            for obs in starts.obs.split(CHUNK):
                for _ in range(hp.horizon):
                    action = cls.own_action(nets, obs, hp)
                    next_obs, reward, std = nets.dynamics.step(obs, action)
                    ended = over(next_obs)
                    reward = cls.rollout_reward(reward, std, hp)
                    rows.append((obs, action, reward, next_obs, 1.0 - ended.float()))
                    obs = next_obs[~ended]
        columns = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return Batch(**dict(zip(("obs", "action", "reward", "next_obs", "mask"), columns, strict=True)))

    @classmethod
    def rollout_reward(cls, reward: Tensor, std: Tensor, hp: Any) -> Tensor:
        """Return the reward [B] of synthetic transitions.

        Args:
            reward: Predicted reward [B].
            std: Sigma [E, B, D + 1] of every member, of the next observation and the reward.
            hp: Hyperparameters.
        """
        return reward


def _take(dynamics: Dynamics, path: Path, inputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Load fitted dynamics, and check that they predict the rewards of the rows better than a constant."""
    dynamics.load_state_dict(read_dynamics(path, dynamics.shape))
    every = torch.linspace(0, len(inputs) - 1, min(len(inputs), 2000), device=inputs.device).long()
    inputs, targets = inputs[every], targets[every]
    with torch.no_grad():
        mean = dynamics(inputs)[0][dynamics.elites].mean(0)
    error, constant = (mean - targets).square().mean(0), targets.var(0, correction=0)
    tolerance = 1e-3 * targets[:, -1].square().mean()  # the rewards of the data may be a constant
    if error[-1] > constant[-1] + tolerance:
        raise UserError(
            f"the dynamics at {path} predict the rewards of this data set worse than a constant.",
            "They were fitted to other data, or to rewards in other units (reward=, augment=).",
            "dynamics=none",
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


def _termination(shards: Shards) -> str:
    """Return the termination function of the data set's environment, or ``never``.

    Raises:
        UserError: Episodes terminate, and no termination function is known for the environment.
    """
    known = termination_of(shards.env_id, shards.observation_space.shape[0])
    if known is None and shards.manifest.terminated:
        raise UserError(
            f"{shards.name}: {shards.manifest.terminated:,} of {shards.episodes:,} episodes terminate, and "
            f"no termination function is known for {shards.env_id or 'its environment'}.",
            "Expected a function that maps raw next observations [B, D] to bool [B]; "
            "with termination=never, model rollouts do not terminate.",
            "termination=my_lab.forklift:crashed",
        )
    return known or "never"
