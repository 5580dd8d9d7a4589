"""The metadata of a run, kept in run.yaml: its options, settings, data, versions and machine."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io import Shards
from datasets_io.imports import installed_version
from datasets_io.scores import key_of, mean_normalised, reference, to_json
from datasets_io.shards.returns import returns_to_go
from off2on.algorithms import CATALOGUE
from off2on.replay.transforms import Transforms
from off2on.training.guard import GuardOptions
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.resume import plain

PACKAGES = ("off2on", "ray", "torch", "gymnasium", "mujoco", "numpy", "pyarrow", "pandas", "h5py")
"""Packages whose versions are recorded."""


def run_metadata(plan: Plan, resolved: ResolvedPlan) -> dict[str, Any]:
    """Return the metadata of a run that begins."""
    shards, settings = resolved.shards, resolved.settings
    entry, hp = CATALOGUE.get(plan.algorithm), settings.hp
    defaults, origins = plain(settings.recipe.Hyperparameters()), plan.hyperparameter_origins(settings)
    scored = key_of(shards.manifest, resolved.env, resolved.env_options)
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
        "env": resolved.env,
        "env_options": resolved.env_options,
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
        "online_side": _online_settings(plan, resolved),
        **provenance(),
    }


def _online_settings(plan: Plan, resolved: ResolvedPlan) -> dict[str, dict[str, Any]]:
    """Return value, default and origin of what is set for the online phase and the guard, by name."""
    rows = plan.describe_online_settings(resolved.settings)
    if resolved.guard is not None:
        usual = plain(GuardOptions())
        rows += [
            (f"guard.{name}", value, usual[name], plan.origins.get(f"guard.{name}", "default"))
            for name, value in plain(resolved.guard).items()
        ]
    return {
        name: {"value": value, "default": default, "origin": origin} for name, value, default, origin in rows
    }


def _returns_to_go(shards: Shards, transforms: Transforms, discount: float) -> dict[str, float]:
    """Return mean and maximum of the discounted return to go of the transformed rewards: a scale for Q."""
    total, largest = 0.0, -np.inf
    for piece in shards.pieces:
        columns = shards.read(piece, ["rewards", "last"])
        reward = transforms.apply({"rewards": columns["rewards"]})["reward"]
        returns = returns_to_go(reward, columns["last"], discount)
        total, largest = total + float(returns.sum()), max(largest, float(returns.max()))
    return {"return_to_go_mean": total / shards.rows, "return_to_go_max": largest}


def versions() -> dict[str, str | None]:
    """Return the version of Python and of each package, None where it is not installed."""
    return {"python": platform.python_version()} | {name: installed_version(name) for name in PACKAGES}


def provenance() -> dict[str, Any]:
    """Return versions, machine and commit."""
    return {"versions": versions(), "machine": platform.platform(), "commit": _commit()}


def _commit() -> str | None:
    """Return the git commit of this package, with "-dirty" if files differ from it; None without one."""
    file = Path(__file__)
    try:
        # A package installed below another repository, such as in its .venv, is not of that one's commits.
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=12") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    """Return what a git command prints in a folder; raise subprocess.SubprocessError if it fails."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
