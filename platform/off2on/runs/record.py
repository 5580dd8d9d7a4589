"""Records of runs, read from run.yaml and metrics.csv of their folders.

    find_runs(["runs/hopper-medium-v2/*"])  ->  folders
    load_run(folder)                        ->  RunRecord

Only the folder is needed: it can be read on another machine without the code that trained it.
"""

import csv
import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets_io import storage
from datasets_io.scores import Key, from_json
from datasets_io.storage.buckets import Location
from off2on.errors import UnknownName, UserError
from off2on.runs.bucket_mirror import runs_in
from off2on.runs.curve import Curve
from off2on.runs.statistics import FloatArray


class NoEvaluationError(UserError):
    """The run has no evaluation yet."""


@dataclass(frozen=True)
class RunRecord:
    """The record of a run.

    Attributes:
        folder: Its folder.
        algorithm, data: Their names.
        strategy: The fine-tuning strategy; None without an online phase, or before it.
        seed: Seed of the run.
        status: running, finished, interrupted or failed.
        data_return: Mean return of the data.
        reference: Returns that count as 0 and 100, if they are known for the data in the environment.
        curve: Scores before and after the handover.
        sides: offline, handover or online for each row of `metrics`.
        metrics: The numeric columns of metrics.csv [rows], NaN where a cell is empty.
        metadata: Content of run.yaml.
        handover: Content of handover.yaml: ``changes`` and ``checks``; empty without the file.
    """

    folder: Path
    algorithm: str
    strategy: str | None
    data: str
    seed: int
    status: str
    data_return: float | None
    reference: tuple[float, float] | None
    curve: Curve
    sides: list[str]
    metrics: Mapping[str, FloatArray]
    metadata: Mapping[str, Any]
    handover: Mapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Algorithm and strategy."""
        return f"{self.algorithm} × {self.strategy}" if self.strategy else self.algorithm

    @property
    def key(self) -> Key:
        """The key of its scores."""
        stored = self.metadata.get("score")
        return from_json(stored) if stored else Key(self.data, self.metadata.get("env"))

    @property
    def hyperparameters(self) -> Mapping[str, Mapping[str, Any]]:
        """Value, default and origin of each hyperparameter, and of the online settings."""
        online = self.metadata.get("online_side") if self.strategy else None
        return {**(self.metadata.get("hyperparameters") or {}), **(online or {})}

    def trace(self, name: str, *sides: str) -> tuple[FloatArray, FloatArray]:
        """Return the updates or, online, environment steps with a value of a column, and the values."""
        values = self.metrics.get(name, np.full(len(self.sides), np.nan))
        known = np.isin(self.sides, sides) & np.isfinite(values)
        return self.metrics["updates" if sides == ("offline",) else "env_steps"][known], values[known]


def load_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        NoEvaluationError: There is no evaluation yet.
        UserError: It is not a run, or its files are not valid.
    """
    metadata = read_metadata(folder)
    sides, metrics = _metrics(folder / "metrics.csv")
    scored = np.isfinite(metrics["score"])
    offline, online = ((np.isin(sides, on) & scored) for on in (["offline"], ["handover", "online"]))
    if not scored.any():
        raise NoEvaluationError(
            f"{folder} has no evaluation yet", f"The run is {metadata.get('status', 'running')}."
        )
    data = metadata["data"]
    reference = data.get("reference")
    return RunRecord(
        folder=folder,
        algorithm=str(metadata["algorithm"]),
        strategy=str(metadata.get("strategy") or "online") if online.any() else None,
        data=str(data["name"]),
        seed=int(metadata["seed"]),
        status=str(metadata.get("status", "running")),
        data_return=data.get("return_mean"),
        reference=(float(reference[0]), float(reference[1])) if reference else None,
        curve=Curve(
            metrics["updates"][offline],
            metrics["score"][offline],
            metrics["env_steps"][online],
            metrics["score"][online],
            planned=int(metadata.get("online") or 0),
            warm_up=int((metadata.get("online_side") or {}).get("online.warm_up", {"value": 0})["value"]),
        ),
        sides=sides,
        metrics=metrics,
        metadata=metadata,
        handover=_handover(folder / "handover.yaml"),
    )


def _handover(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def find_runs(patterns: Iterable[str], root: Path = Path("runs")) -> list[Path]:
    """Return the run folders of folders, globs, folders of runs, or names with only one match below `root`.

    Folders in a bucket are fetched, see `bucket_mirror`.

    Raises:
        UnknownName: Nothing matches.
        UserError: A name matches several runs.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if isinstance(place := storage.locate(pattern), Location) and (kept := runs_in(place)):
            found |= dict.fromkeys(kept)
            continue
        path = os.path.expanduser(pattern)
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        places = [Path(match) for match in matches]
        runs = [run for place in places for run in runs_below(place)]
        found |= dict.fromkeys(runs or [_named(pattern, root)])
    return list(found)


def find_run(name: str) -> tuple[Path, dict[str, Any]]:
    """Find the run of a folder, a glob, or a name with only one match below ./runs.

    Returns:
        Its folder, and the content of its run.yaml.

    Raises:
        UnknownName: There is no such run.
        UserError: There are several, or it is not a run.
    """
    found = find_runs([name])
    if len(found) > 1:
        raise _several(name, found)
    return found[0], read_metadata(found[0])


def runs_below(place: Path) -> list[Path]:
    """Return the folder itself if it is a run, otherwise every run inside it."""
    inside = (path.parent for path in place.rglob("run.yaml"))
    return [place] if (place / "run.yaml").is_file() else sorted(inside)


def _named(name: str, root: Path) -> Path:
    known = runs_below(root)
    parts = Path(name).parts
    matches = [run for run in known if run.parts[-len(parts) :] == parts]
    matches = matches or [run for run in known if name in str(run)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise _several(name, matches, f"off2on report {matches[0]}")
    looked = f"Looked for a run.yaml in {name} and below {root} ({len(known)} runs)."
    raise UnknownName(
        f"no run is called '{name}'",
        looked,
        f"off2on report {known[0]}" if known else "",
        given=name,
        known=[*(run.name for run in known), *map(str, known)],
    )


def _several(name: str, matches: list[Path], attempt: str = "") -> UserError:
    return UserError(f"{len(matches)} runs match '{name}'", "\n".join(map(str, matches[:10])), attempt)


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read run.yaml of a run.

    Raises:
        UserError: There is none, or it does not describe a run.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run: it has no run.yaml", f"Looked for {path}.")
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read", str(error)) from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("data"), dict):
        raise UserError(
            f"{path} does not describe a run", "Expected a mapping with algorithm, data and seed."
        )
    missing = [key for key in ("algorithm", "seed") if key not in metadata]
    missing += ["data.name"] if "name" not in metadata["data"] else []
    if missing:
        raise UserError(f"{path} does not describe a run", f"It lacks {', '.join(missing)}.")
    return metadata


def _metrics(path: Path) -> tuple[list[str], dict[str, FloatArray]]:
    if not path.is_file():
        raise NoEvaluationError(f"{path.parent} has no evaluation yet", f"Looked for {path}.")
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    missing = [name for name in ("side", "updates", "env_steps", "score") if name not in header]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", f"It has {', '.join(header) or 'no columns'}.")
    whole = [row for row in rows if len(row) == len(header)]  # without a line that is still being written
    columns = {name: [row[i] for row in whole] for i, name in enumerate(header)}
    sides = columns.pop("side")
    try:
        numbers = {name: np.array([float(c or "nan") for c in cells]) for name, cells in columns.items()}
    except ValueError as error:
        raise UserError(f"{path} holds a cell that is not a number", str(error)) from error
    return sides, numbers
