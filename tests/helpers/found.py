"""Made folders of searches, and what is on their pages."""

import csv
import math
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from off2on.reports.search.record import KNOWN

SEARCH: dict[str, Any] = {
    "algorithm": "iql",
    "data": ["toy-pendulum"],
    "updates": {"value": 300, "origin": "smoke.yaml:3"},
    "maximise": {"value": "final_score", "origin": "default"},
    "seeds": 3,
    "search": {
        "expectile": {"between": [0.5, 0.95]},
        "beta": {"log_between": [0.5, 10]},
        "actor_lr": {"one_of": [1e-4, 3e-4, 1e-3]},
        "reward": {"one_of": ["raw", "return_scale"]},
    },
}


DEFAULTS = {"expectile": 0.7, "beta": 3.0, "actor_lr": 3e-4, "reward": "raw"}


def make_search(
    folder: Path, rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any] = SEARCH
) -> Path:
    """search.yaml and trials.csv; `rows` say what differs from a finished trial with three seeds."""
    folder.mkdir(parents=True)
    (folder / "search.yaml").write_text(yaml.safe_dump(dict(metadata)))
    usual = {"status": "finished", "seeds": 3, "updates": 900, "env_steps": 0, "episodes": 30, "seconds": 60}
    names = [name for row in rows for name in row if name not in KNOWN]
    with (folder / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*KNOWN, *dict.fromkeys(names)])
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({"trial": f"{number:04d}", **usual, **row})
    return folder


def make_seeds(
    search: Path, trial: str, returns: Sequence[Sequence[float]], data: str = "toy-pendulum", **values: Any
) -> None:
    """The run folders of a trial, one for each row of returns at the last evaluation."""
    for seed, each in enumerate(returns):
        folder = search / "trials" / trial / data / f"iql-s{seed}"
        folder.mkdir(parents=True)
        told = {
            "algorithm": "iql", "seed": seed, "status": "finished", "updates": 300, "online": 0,
            "data": {"name": data, "return_mean": -780.0}, "plan": {},
            "hyperparameters": {
                name: {"value": values.get(name, value), "default": value, "origin": "given"}
                for name, value in DEFAULTS.items()
            },
        }  # fmt: skip
        (folder / "run.yaml").write_text(yaml.safe_dump(told))
        early, last = "offline,150,0", "offline,300,0"
        (folder / "metrics.csv").write_text(
            f"side,updates,env_steps,score\n{early},-1000\n{last},{np.mean(each)}\n"
        )
        lines = [f"{early},0,1,-1000,200", *(f"{last},{n},{n},{value},200" for n, value in enumerate(each))]
        head = "side,updates,env_steps,episode,seed,return,length"
        (folder / "episodes.csv").write_text("\n".join([head, *lines, ""]))


def made(folder: Path, trials: int = 24, stopped: int = 6) -> Path:
    """A search in which beta matters most, expectile has its optimum inside, and the rest does nothing."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    seeds = []
    for number in range(trials):
        values: dict[str, Any] = dict(DEFAULTS) if number == 1 else {
            "expectile": round(float(rng.uniform(0.5, 0.95)), 3),
            "beta": round(float(10 ** rng.uniform(math.log10(0.5), 1)), 3),
            "actor_lr": float(rng.choice([1e-4, 3e-4, 1e-3])),
            "reward": str(rng.choice(["raw", "return_scale"])),
        }  # fmt: skip
        true = -700 + 250 * math.log10(values["beta"]) - 900 * (values["expectile"] - 0.75) ** 2
        returns = true + rng.normal(0, 8, 3)[:, None] + rng.normal(0, 120, (3, 10))
        scores = returns.mean(1)
        row: dict[str, Any] = {"score": scores.mean(), "low": scores.min(), "high": scores.max(), **values}
        if number >= trials - stopped:
            row |= {"status": "stopped", "updates": 300, "score": -300.0}  # would win, if it could
        rows.append(row)
        seeds.append((returns, values))
    rows.append({"status": "failed", "score": "", "updates": 10, "episodes": 0, **DEFAULTS})
    make_search(folder, rows)
    for number, (returns, values) in enumerate(seeds):
        make_seeds(folder, f"{number:04d}", returns.tolist(), **values)
    return folder


class Page(HTMLParser):
    """What is on a page: its words, its tags, and where it leads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words, self.tags, self.leads = "", set[str](), list[str]()
        self.feed(path.read_text())
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.leads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data + " "
