"""The range of values of a critic head, from the rewards of the data."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from datasets_io import Shards
from off2on.errors import HyperparameterError
from off2on.recipe.critic_heads import RANGED_HEADS
from off2on.replay.transforms import Transforms


def with_value_range(hp: Any, shards: Shards) -> Any:
    """Return hyperparameters in which `v_min` and `v_max` are numbers, if their critic head needs them.

    The default holds the discounted returns of all sequences of transformed rewards between the data's
    smallest and largest one: from r_min / (1 - gamma), or from r_min if that is smaller (an episode of one
    step), to the same of r_max.

    Raises:
        HyperparameterError: The range is empty or infinite.
    """
    if getattr(hp, "critic_head", None) not in RANGED_HEADS:
        return hp
    low, high = hp.v_min, hp.v_max
    if low is None or high is None:
        ends = _reward_range(shards, hp)
        steps = 1 / (1 - hp.discount) if hp.discount < 1 else math.inf
        low = min(ends[0], ends[0] * steps) if low is None else low
        high = max(ends[1], ends[1] * steps) if high is None else high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise HyperparameterError(
            f"critic_head={hp.critic_head} needs a range of values: v_min is {low:g}, v_max is {high:g}.",
            "Where they are not given, they are the data's smallest and largest reward / (1 - gamma).",
            "v_min=NUMBER v_max=NUMBER",
        )
    return replace(hp, v_min=low, v_max=high)


def _reward_range(shards: Shards, hp: Any) -> tuple[float, float]:
    """Return the smallest and largest reward of the data, transformed."""
    transforms, statistics = Transforms.of(shards, hp), shards.manifest.statistics["rewards"]
    low, high = (
        float(np.ravel(statistics[name])[0]) * transforms.reward_scale + transforms.reward_shift
        for name in ("min", "max")
    )
    return low, high
