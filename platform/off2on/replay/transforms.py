"""The transforms between the world's units and the learner's, the same offline and online.

They are computed once from the data, travel in the checkpoint, and are applied in two places: to
rows when they enter the learner (offline and online alike), and by the policy when it acts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from datasets_io import Shards
from off2on.recipe.hyperparameters import Hyperparameters

Array = np.ndarray[Any, Any]
Row = tuple[float, ...]

SPARSE = {"minus_one": (1.0, -1.0), "ten_minus_five": (10.0, -5.0), "ten_plus_five": (10.0, 5.0)}
"""Scale and shift of the rewards 0 and 1 of AntMaze, and -1 and 0 of binary Adroit."""


@dataclass(frozen=True)
class Transforms:
    """Affine maps of observations, actions and rewards.

    Attributes:
        obs_mean: [D] subtracted from observations.
        obs_std: [D] observations are divided by it.
        action_low: [A] the environment's smallest action, -1 for the learner.
        action_high: [A] the environment's largest action, +1 for the learner.
        reward_scale: Rewards are multiplied by it …
        reward_shift: … and this is added.
        discrete: Whether actions are whole numbers, which stay as they are.
    """

    obs_mean: Row
    obs_std: Row
    action_low: Row
    action_high: Row
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    discrete: bool = False

    @classmethod
    def of(cls, shards: Shards, hp: Hyperparameters) -> Self:
        """The transforms that the hyperparameters ask for, from the data's own statistics."""
        manifest, space = shards.manifest, shards.action_space
        width = len(manifest.statistics["obs"]["mean"])
        mean, std = np.zeros(width), np.ones(width)
        if hp.normalise_obs:
            mean = np.asarray(manifest.statistics["obs"]["mean"])
            std = np.asarray(manifest.statistics["obs"]["std"]) + 1e-3
        scale, shift = _reward(shards, hp.reward)
        if hasattr(space, "n"):
            return cls(_row(mean), _row(std), (), (), scale, shift, discrete=True)
        return cls(_row(mean), _row(std), _row(space.low.ravel()), _row(space.high.ravel()), scale, shift)

    def rows(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns in the world's units as the learner's columns, float32.

        ``obs``, ``new_obs`` [N, D] → ``obs``, ``next_obs``; ``actions``, ``new_actions`` [N, A] →
        ``action``, ``next_action``, clipped to [-1, 1] as the environment clips them, or [N] as they
        are if discrete; ``rewards`` [N] →
        ``reward``; ``terminateds`` [N] → ``mask`` = 1 - terminated. Columns not given are not made.
        """
        made: dict[str, Array] = {}
        for stored, name in (("obs", "obs"), ("new_obs", "next_obs")):
            if stored in columns:
                made[name] = (columns[stored] - _array(self.obs_mean)) / _array(self.obs_std)
        for stored, name in (("actions", "action"), ("new_actions", "next_action")):
            if stored in columns and self.discrete:
                made[name] = columns[stored]
            elif stored in columns:
                low, high = _array(self.action_low), _array(self.action_high)
                made[name] = np.clip(2 * (columns[stored] - low) / (high - low) - 1, -1, 1)
        if "rewards" in columns:
            made["reward"] = columns["rewards"] * self.reward_scale + self.reward_shift
        if "terminateds" in columns:
            made["mask"] = 1.0 - columns["terminateds"]
        return {name: np.asarray(column, np.float32) for name, column in made.items()}


def _reward(shards: Shards, name: str) -> tuple[float, float]:
    """Scale and shift of the named reward transform."""
    if name in ("return_range", "return_scale"):
        size = float(np.ptp(shards.returns) if name == "return_range" else np.abs(shards.returns).max())
        return (1000.0 / size if size > 0 else 1.0), 0.0
    if name in SPARSE:
        return SPARSE[name]
    if name == "standardise":
        mean, std = (
            float(np.ravel(shards.manifest.statistics["rewards"][key])[0]) for key in ("mean", "std")
        )
        return 1.0 / (std + 1e-3), -mean / (std + 1e-3)
    return 1.0, 0.0


def _row(values: Any) -> Row:
    return tuple(float(value) for value in values)


def _array(values: Row) -> Array:
    return np.asarray(values, np.float32)
