"""Compute the terms of the driving reward, and five of the seven metrics of Waymax."""

from dataclasses import dataclass

import numpy as np

from datasets_io.driving.dynamics import Bicycle, limits
from datasets_io.driving.situation import Car, Situation
from datasets_io.episode import Array

TERMS = ("progress", "collision", "offroad")
_INFEASIBLE_MARGIN = 1e-3


@dataclass(frozen=True)
class Weights:
    """Weights of the reward terms.

    reward = progress · metres along the route - collision · [overlap] - offroad · [off the road], per step.
    The last two are the default of Waymax; without the first, standing still would be optimal.
    """

    progress: float = 0.1
    collision: float = 1.0
    offroad: float = 1.0


def terms(before: Array, after: Situation) -> dict[str, Array]:
    """Compute the unweighted reward terms of each step.

    Args:
        before: [B] position along the route before the steps, in m.
        after: Situation after the steps.

    Returns:
        [B] float32 each: `reward_progress` in metres (negative backwards), `reward_collision` and
        `reward_offroad` -1 where the box overlaps with another box, or has a corner off the road, else 0.
    """
    earned = (after.along - before, 0.0 - after.overlap, 0.0 - (after.edge > 0))
    return {f"reward_{name}": values.astype(np.float32) for name, values in zip(TERMS, earned, strict=True)}


def combine(parts: dict[str, Array], weights: Weights) -> Array:
    """Compute the reward [B] float32, the weighted sum of `terms`."""
    weighted = [np.float32(getattr(weights, name)) * parts[f"reward_{name}"] for name in TERMS]
    total: Array = weighted[0] + weighted[1] + weighted[2]
    return total


def metrics(car: Car, before: Array, after: Situation, dt: float) -> dict[str, Array]:
    """Compute five of the seven metrics of Waymax, [B] float64 each; not wrong-way and off-route.

    `overlap` and `offroad`: 1 or 0; `offroad` ignores heights. `kinematic_infeasibility`: 1 where the bicycle
    model cannot make the step (|a| > 6 m/s² or |κ| > 0.3 1/m, as in the paper of Waymax; its code has 10.4
    m/s²). `log_divergence`: distance in m between the simulated and the recorded position. `progress_ratio`:
    share of the recorded route; at most 1, as the route ends with the recording.

    Args:
        car: The car.
        before: [B, 5] states before the steps.
        after: Situation after the steps.
        dt: Seconds per step.
    """
    bicycle = Bicycle()
    needed = np.abs(bicycle.inverse(before, after.states, dt)) > limits(bicycle) + _INFEASIBLE_MARGIN
    length = car.route.length
    share = after.along / length if length else np.ones(len(before))
    return {
        "overlap": after.overlap.astype(np.float64),
        "offroad": (after.edge > 0).astype(np.float64),
        "kinematic_infeasibility": np.asarray(needed.any(-1), np.float64),
        "log_divergence": log_divergence(car, after),
        "progress_ratio": share,
    }


def log_divergence(car: Car, now: Situation) -> Array:
    """Compute the distances [B] in m from the recorded positions of the car."""
    away = now.states[:, :2] - car.world.scene.xy[car.index, now.steps]
    distance: Array = np.hypot(away[:, 0], away[:, 1])
    return distance
