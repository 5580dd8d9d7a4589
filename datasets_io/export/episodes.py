"""Read the rows of shards as episodes with an observation after the last action."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets_io.episode import Array
from datasets_io.errors import BadValues
from datasets_io.shards.reading import Shards

COLUMNS = ("actions", "rewards", "terminateds", "truncateds")


class ExportedEpisode(NamedTuple):
    """An episode of T steps.

    Attributes:
        obs: Observations [T+1, D].
        columns: The columns `COLUMNS` and the further ones that were asked for, [T, …] each.
    """

    obs: Array
    columns: Mapping[str, Array]


def read_episodes(shards: Shards, piece: Any, extras: Sequence[str] = ()) -> Iterator[ExportedEpisode]:
    """Yield the episodes of one piece.

    Args:
        shards: The data set.
        piece: One of its `pieces`.
        extras: Further columns.

    Raises:
        BadValues: The next observation of a row is not the observation of the following row.
    """
    columns = shards.read(piece, ["obs", "new_obs", "last", *COLUMNS, *extras])
    ends = np.flatnonzero(columns["last"]) + 1
    inside = ~columns["last"][:-1]
    if (columns["new_obs"][:-1][inside] != columns["obs"][1:][inside]).any():
        raise BadValues(
            f"rows of {shards.name} do not follow each other.",
            "The format keeps one observation a step: the next one must be that of the following row.",
        )
    for first, stop in zip([0, *ends[:-1]], ends, strict=True):
        rows = slice(first, stop)
        obs = np.concatenate([columns["obs"][rows], columns["new_obs"][stop - 1 : stop]])
        yield ExportedEpisode(obs, {name: columns[name][rows] for name in (*COLUMNS, *extras)})
