"""Folders of runs as training writes them, without training."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets_io.storage.documents import dump_yaml


def make_run(
    folder: Path,
    *,
    algorithm: str = "iql",
    strategy: str | None = "balanced",
    data: str = "hopper-medium-v2",
    seed: int = 0,
    updates: int = 1_000_000,
    online: int = 250_000,
    evaluations: int = 20,
    depth: float = 10.0,
    gain: float = 25.0,
    reference: tuple[float, float] | None = (-20.27, 3234.3),
    q_scale: float = 1.0,
    offline: bool = True,
    status: str = "finished",
    **metadata: Any,
) -> Path:
    """A run folder as training writes it: learns up to about 66 of 100, loses `depth`, gains `gain`."""
    rng = np.random.default_rng(seed + len(algorithm))
    unit = 32.0
    rows: list[dict[str, object]] = []

    def row(side: str, done: int, steps: int, score: float, share: float) -> None:
        rows.append(
            {
                "side": side, "updates": done, "env_steps": steps,
                "score": score * unit, "score_std": 90 + rng.random(), "episodes": 20,
                "normalised": score if reference else "", "q": q_scale * (150 + score + rng.normal()),
                "ret": 190 + rng.normal(), "offline_share": share, "updates_per_s": 412 + seed,
                "steps_per_s": 1900 if steps > 1 else "", "wall_s": done / 400, "critic/loss": 1.8,
            }
        )  # fmt: skip

    for done in np.linspace(updates / evaluations, updates, evaluations).astype(int) if offline else []:
        row("offline", int(done), 0, 66 * (1 - math.exp(-6 * done / updates)) + rng.normal(), 1)
    if online:
        before = float(str(rows[-1]["score"])) / unit if rows else 66.0
        row("handover", updates, 0, before, 1)
        early = {step for step in (1, 1_000, 2_000, 5_000, 10_000, 20_000) if step < online}
        for step in sorted(early | set(np.linspace(online * 0.12, online, evaluations).astype(int))):
            x = step / online
            dip = depth * (x / 0.03) * math.exp(1 - x / 0.03)
            score = before - dip + gain * (1 - math.exp(-6 * x)) + 0.6 * rng.normal()
            row("online", updates + int(step), int(step), score, max(0.1, 0.5 - x))
    folder.mkdir(parents=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    told: dict[str, Any] = {
        "command": f"off2on train {algorithm} {data} --online {online} --strategy {strategy} beta=6.0",
        "started": "2026-11-22T09:21:07", "finished": "2026-11-22T12:33:07", "wall_s": 11_520.0,
        "status": status, "algorithm": algorithm, "family": "in-sample", "paper": "arXiv:2110.06169",
        "strategy": strategy, "seed": seed, "updates": updates, "online": online, "env": "Hopper-v4",
        "device": "cpu", "threads": 1, "commit": "3f2a91c",
        "data": {
            "name": data, "path": f"data/{data}", "content_hash": "sha256:8d1f0c9a77e0", "rows": 1_000_000,
            "episodes": 2186, "return_mean": 58.5 * unit, "return_std": 300.0, "return_min": 10.0,
            "return_max": 3200.0, "normalised_mean": 58.5,
            "reference": list(reference) if reference else None,
            "return_to_go_mean": 190.0, "return_to_go_max": 264.0,
        },
        "plan": {"online": {"value": online, "origin": "command line"}},
        "hyperparameters": {
            "beta": {"value": 6.0, "default": 3.0, "origin": "command line"},
            "expectile": {"value": 0.7, "default": 0.7, "origin": "default"},
        },
        "versions": {"off2on": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "gymnasium": "1.2.2"},
        **metadata,
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(told))
    return folder


def write_guard(folder: Path, served: float, refused: float) -> None:
    """Write guard.yaml: a policy with this return serves, one with the other was refused after it.

    A decision later than the last evaluation is there, too, as a resumed run has it.
    """
    test = {"collected": [], "lower": 0.0, "upper": 0.0, "regret": 0.0, "serving": "000001000-000001000"}
    outcomes = ((1_000, served, "accept"), (2_000, refused, "wait"), (10**9, refused, "accept"))
    tests = [test | {"env_steps": n, "returns": [r, r], "decision": what} for n, r, what in outcomes]
    kept = {"options": {}, "handover": [0.0, 0.0], "home": "handover", "trials": tests}
    (folder / "guard.yaml").write_text(dump_yaml(kept))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [*{o}, *{o}]\n" for o, n in zip("abcdefgh", "bcdefghi", strict=True)
)
"""YAML whose aliases stand for many values."""
