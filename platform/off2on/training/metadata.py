"""What a run says of itself from the start: its plan, its data, and where it is made (run.yaml)."""

from typing import Any

import numpy as np

from datasets_io import Shards
from datasets_io.returns import returns_to_go
from datasets_io.scores import key_of, mean_normalised, reference, to_json
from off2on.algorithms import CATALOGUE
from off2on.replay.transforms import Transforms
from off2on.training.guard import GuardOptions
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.resume import plain
from off2on.training.versions import provenance


def about(plan: Plan, checked: ResolvedPlan) -> dict[str, Any]:
    """All of it."""
    shards, hp = checked.shards, checked.hp
    entry = CATALOGUE.get(plan.algorithm)
    defaults, origins = plain(checked.recipe.Hyperparameters()), plan.set_by(checked)
    scored = key_of(shards.manifest, checked.env, checked.env_options)
    pair = reference(scored)
    return {
        "command": plan.command,
        "algorithm": plan.algorithm,
        "family": entry.family if entry else None,
        "paper": entry.paper if entry else None,
        "data": {
            "name": shards.name,
            "path": str(shards.path),
            "pinned": shards.pinned,
            "content_hash": shards.manifest.content_hash,
            "rows": shards.rows,
            "episodes": shards.episodes,
            "return_mean": float(shards.returns.mean()),
            "return_std": float(shards.returns.std()),
            "return_min": float(shards.returns.min()),
            "return_max": float(shards.returns.max()),
            "normalised_mean": mean_normalised(key_of(shards.manifest), shards.returns),
            "reference": None if pair is None else list(pair),
            **_returns_to_go(shards, Transforms.of(shards, hp), hp.discount),
        },
        "env": checked.env,
        "env_options": checked.env_options,
        "score": to_json(scored),
        "seed": plan.seed,
        "strategy": plan.strategy if plan.online else None,
        "updates": plan.updates,
        "online": plan.online,
        "plan": {name: {"value": value, "origin": origin} for name, value, origin in plan.describe()},
        "hyperparameters": {
            name: {"value": value, "default": defaults[name], "origin": origins[name]}
            for name, value in plain(hp).items()
        },
        "online_side": online_side(plan, checked),
        **provenance(),
    }


def online_side(plan: Plan, checked: ResolvedPlan) -> dict[str, dict[str, Any]]:
    """Value, default and origin of what may be otherwise online, and of the guard's settings, by name.

    The default of a hyperparameter is its value offline.
    """
    kept = {
        name: {"value": value, "default": default, "origin": origin}
        for name, value, default, origin in plan.describe_online_settings(checked)
    }
    guard, usual = plain(checked.guard) if checked.guard else {}, plain(GuardOptions())
    return kept | {
        f"guard.{name}": {
            "value": value,
            "default": usual[name],
            "origin": plan.origins.get(f"guard.{name}", "default"),
        }
        for name, value in guard.items()
    }


def _returns_to_go(shards: Shards, transforms: Transforms, discount: float) -> dict[str, float]:
    """What Q should be near: mean and largest discounted return to go of the transformed rewards."""
    total, largest = 0.0, -np.inf
    for piece in shards.pieces:
        columns = shards.read(piece, ["rewards", "last"])
        reward = transforms.rows({"rewards": columns["rewards"]})["reward"]
        returns = returns_to_go(reward, columns["last"], discount)
        total, largest = total + float(returns.sum()), max(largest, float(returns.max()))
    return {"return_to_go_mean": total / shards.rows, "return_to_go_max": largest}
