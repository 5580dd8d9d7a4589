"""D4RL's registry: ids, files, reference returns, and the score that they normalise.

The references are D4RL's own: mean returns of a random and of an expert policy in the environments and with
the horizons of its v0 data, one pair a task, the same for every version. In Gymnasium's -v5 environments they
are a convention, not a measurement.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from datasets_io.episode import Array


@dataclass(frozen=True)
class Entry:
    """One data set of D4RL.

    Args:
        name: Its id, "hopper-medium-v2".
        file: Path of its HDF5 file below the server's folder.
        low: Return of a random policy; None where D4RL has no reference.
        high: Return of an expert.
        family: D4RL's own name of the environment, "gym_mujoco/hopper".
        gymnasium: Gymnasium id of its successor, or None. (Mazes and the kitchen observe dictionaries there,
            which D4RL's flat arrays are not.)
    """

    name: str
    file: str
    low: float | None
    high: float | None
    family: str
    gymnasium: str | None


@cache
def registry() -> Mapping[str, Entry]:
    """All 155 ids of D4RL."""
    with (files("datasets_io") / "d4rl_ids.csv").open() as lines:
        entries = [
            Entry(
                row["name"],
                row["file"],
                float(row["low"]) if row["low"] else None,
                float(row["high"]) if row["high"] else None,
                row["family"],
                row["gymnasium"] or None,
            )
            for row in csv.DictReader(lines)
        ]
    return MappingProxyType({entry.name: entry for entry in entries})


@cache
def _tasks() -> Mapping[str, Entry]:
    return MappingProxyType({_task(name): entry for name, entry in registry().items()})


def _task(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def find(name: str) -> Entry | None:
    """The entry of an id, with or without its version and `d4rl/`; None for a name that is not D4RL's."""
    name = name.removeprefix("d4rl/")
    return registry().get(name) or _tasks().get(_task(name))


def infer(name: str) -> str | None:
    """Gymnasium id for a name that begins as a D4RL id does: `halfcheetah_mine` is HalfCheetah-v5."""
    entry = find(name)
    if entry is not None:
        return entry.gymnasium
    first = re.split(r"[-_.]", name.lower())[0]
    ids = {entry.gymnasium for entry in registry().values() if entry.name.split("-")[0] == first}
    return ids.pop() if len(ids) == 1 else None


def reference(name: str) -> tuple[float, float] | None:
    """Returns of a random policy and of an expert on the task of a D4RL id, or None."""
    entry = find(name)
    if entry is None or entry.low is None or entry.high is None:
        return None
    return entry.low, entry.high


def normalised(name: str, returns: npt.ArrayLike) -> Array | None:
    """D4RL's score: 0 is the random policy, 100 the expert.

    Args:
        name: A D4RL id, with or without version.
        returns: Undiscounted returns of episodes, of any shape.

    Returns:
        Scores of the same shape, or None where there is no reference.
    """
    pair = reference(name)
    if pair is None:
        return None
    low, high = pair
    scores: Array = 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
    return scores


def mean_normalised(name: str, returns: npt.ArrayLike) -> float | None:
    """The mean of `normalised`."""
    scores = normalised(name, returns)
    return None if scores is None else float(scores.mean())
