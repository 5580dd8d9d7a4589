"""Transform raw units (as in the data set) to transformed units (as in losses), offline and online.

The transforms are computed once from the data and stored in checkpoints. They are applied to transitions when
these are added to the buffer, offline and online, and by the policy when it acts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from datasets_io import Shards
from datasets_io.column_names import SHARD_COLUMNS
from off2on.recipe.hyperparameters import Hyperparameters

Array = np.ndarray[Any, Any]
Row = tuple[float, ...]

SPARSE_REWARDS = {
    "minus_one": (1.0, -1.0), "four_minus_two": (4.0, -2.0), "ten_minus_five": (10.0, -5.0),
    "ten_plus_five": (10.0, 5.0), "times_ten": (10.0, 0.0),
}  # fmt: skip
"""Scale and shift by the name of the reward transform, for the rewards 0 and 1 of AntMaze and -1 and 0 of
binary Adroit."""


@dataclass(frozen=True)
class Transforms:
    """Affine maps of observations, actions and rewards.

    Attributes:
        obs_mean: [D] mean that is subtracted from observations.
        obs_std: [D] standard deviation that they are then divided by.
        action_low: [A] the environment's smallest action, transformed to -1.
        action_high: [A] the environment's largest action, transformed to +1.
        reward_scale: Factor of rewards.
        reward_shift: Constant added to rewards after scaling.
        discrete: True if actions are integers, which are not transformed.
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
        """Return the transforms of the hyperparameters, with the statistics of the data."""
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

    def apply(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Transform columns in raw units to the learner's columns, float32.

        Names are those of `datasets_io.column_names`. ``actions`` and ``new_actions`` [N, A] are clipped to
        [-1, 1], as the environment clips them; discrete actions [N] are not changed. ``mask`` is
        1 - ``terminateds``. The result has only the columns that can be computed from the given ones.
        """
        computed: dict[str, Array] = {}
        for name in ("obs", "next_obs"):
            if (stored := SHARD_COLUMNS[name]) in columns:
                computed[name] = (columns[stored] - _array(self.obs_mean)) / _array(self.obs_std)
        for name in ("action", "next_action"):
            if (stored := SHARD_COLUMNS[name]) in columns and self.discrete:
                computed[name] = columns[stored]
            elif stored in columns:
                low, high = _array(self.action_low), _array(self.action_high)
                computed[name] = np.clip(2 * (columns[stored] - low) / (high - low) - 1, -1, 1)
        if "rewards" in columns:
            computed["reward"] = columns["rewards"] * self.reward_scale + self.reward_shift
        if "terminateds" in columns:
            computed["mask"] = 1.0 - columns["terminateds"]
        return {name: np.asarray(column, np.float32) for name, column in computed.items()}


def _reward(shards: Shards, name: str) -> tuple[float, float]:
    """Return scale and shift of a named reward transform."""
    if name in ("return_range", "return_scale"):
        size = float(np.ptp(shards.returns) if name == "return_range" else np.abs(shards.returns).max())
        return (1000.0 / size if size > 0 else 1.0), 0.0
    if name in SPARSE_REWARDS:
        return SPARSE_REWARDS[name]
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
