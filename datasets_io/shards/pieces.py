"""The parts of a data set that can be read separately."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets_io.shards.manifest import Manifest
from datasets_io.storage import Place


class Piece(NamedTuple):
    """Part of a shard that can be read separately: a row group of whole episodes, or a whole file.

    Args:
        file: One of `Shards.files`.
        group: Number of the row group; None: the whole file.
        rows: Range of the rows within the data set.
        episodes: Range of the episodes within the data set.
    """

    file: Place
    group: int | None
    rows: slice
    episodes: slice

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self.rows.stop - self.rows.start)


def list_pieces(manifest: Manifest, files: Sequence[Place]) -> list[Piece]:
    """Return all pieces of the shards, in order; a shard without listed row groups is one piece.

    Args:
        manifest: Manifest of the data set.
        files: Shards of the data set.
    """
    found = [
        (file, group if "groups" in listed else None, rows)
        for file, listed in zip(files, manifest.files, strict=True)
        for group, rows in enumerate(listed.get("groups", [listed["rows"]]))
    ]
    bounds = np.cumsum([0, *(rows for _, _, rows in found)])
    ends = np.searchsorted(np.cumsum(manifest.lengths), bounds, side="right").tolist()
    rows = bounds.tolist()
    return [
        Piece(file, group, slice(*rows[number : number + 2]), slice(*ends[number : number + 2]))
        for number, (file, group, _) in enumerate(found)
    ]
