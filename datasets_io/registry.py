"""List D4RL's data sets: ids, files, reference returns, horizons, and their counterparts in Minari."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

MINARI = "minari/"
"""Prefix of ids of Minari data sets."""
D4RL = "d4rl/"
"""Prefix of ids of D4RL data sets, and of names of D4RL environments."""
OGBENCH = "off2on/ogbench-"
"""Prefix of ids of environments of single tasks of OGBench."""


@dataclass(frozen=True)
class D4RLEntry:
    """One data set of D4RL.

    Args:
        name: Id, "hopper-medium-v2".
        file: Path of the HDF5 file below the folder of the server.
        low: Return of a random policy; None if D4RL has no reference.
        high: Return of an expert.
        horizon: Time limit of the D4RL environment in steps.
        family: Name of the environment in D4RL, "gym_mujoco/hopper".
        gymnasium: Gymnasium id of its successor, or None. (Mazes and the kitchen observe dictionaries there,
            which D4RL's flat arrays are not.)
    """

    name: str
    file: str
    low: float | None
    high: float | None
    horizon: int
    family: str
    gymnasium: str | None


@cache
def registry() -> Mapping[str, D4RLEntry]:
    """Return all 155 data sets of D4RL by id."""
    with (files("datasets_io") / "d4rl_ids.csv").open() as lines:
        entries = [
            D4RLEntry(
                row["name"],
                row["file"],
                float(row["low"]) if row["low"] else None,
                float(row["high"]) if row["high"] else None,
                int(row["horizon"]),
                row["family"],
                row["gymnasium"] or None,
            )
            for row in csv.DictReader(lines)
        ]
    return MappingProxyType({entry.name: entry for entry in entries})


@cache
def _tasks() -> Mapping[str, D4RLEntry]:
    return MappingProxyType({task(name): entry for name, entry in registry().items()})


def task(name: str) -> str:
    """Return an id without its version."""
    return re.sub(r"-v\d+$", "", name)


def find(name: str) -> D4RLEntry | None:
    """Return the entry of an id, with or without version and `d4rl/`; None for other names."""
    name = name.removeprefix("d4rl/")
    return registry().get(name) or _tasks().get(task(name))


def infer(name: str) -> str | None:
    """Infer a Gymnasium id from the start of a name: `halfcheetah_mine` gives HalfCheetah-v5."""
    entry = find(name)
    if entry is not None:
        return entry.gymnasium
    first = re.split(r"[-_.]", name.lower())[0]
    ids = {entry.gymnasium for entry in registry().values() if entry.name.split("-")[0] == first}
    return ids.pop() if len(ids) == 1 else None


class MinariCounterpart(NamedTuple):
    """A data set of Minari that corresponds to one of D4RL.

    Attributes:
        d4rl: Id in D4RL.
        minari: Id in Minari.
        environment: Gymnasium id of the environment of the recording.
        same: True if the data are the same, with the actions of D4RL; False for another recording.
        how: Description of the recording.
    """

    d4rl: str
    minari: str
    environment: str
    same: bool
    how: str


@cache
def minari_counterparts() -> tuple[MinariCounterpart, ...]:
    """Return all counterparts; D4RL's locomotion data (Hopper, …) have none."""
    with (files("datasets_io") / "d4rl_minari.csv").open() as lines:
        return tuple(
            MinariCounterpart(
                row["d4rl"], row["minari"], row["environment"], row["same"] == "yes", row["how"]
            )
            for row in csv.DictReader(lines)
        )


def minari_counterpart(data: str) -> MinariCounterpart | None:
    """Return the pair with a data set, by its id with or without `d4rl/` or `minari/`; None without one."""
    name = data.removeprefix(D4RL).removeprefix(MINARI)
    return next((pair for pair in minari_counterparts() if name in (pair.d4rl, pair.minari)), None)
