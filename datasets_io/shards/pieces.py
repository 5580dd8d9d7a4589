"""Which parts of a data set can be read by themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets_io.shards.manifest import Manifest
from datasets_io.storage import Place


class Piece(NamedTuple):
    """Part of a shard that can be read by itself: whole episodes, in a row group of their own.

    Args:
        file: One of `Shards.files`.
        group: Number of the row group in it; None: all of the file.
        rows: Which of all rows.
        episodes: Which of all episodes.
    """

    file: Place
    group: int | None
    rows: slice
    episodes: slice

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.rows.stop - self.rows.start)


def list_pieces(manifest: Manifest, files: Sequence[Place]) -> list[Piece]:
    """All pieces of some shards, in order; of a shard whose row groups are not listed, the whole.

    Args:
        manifest: Of the data set.
        files: Its shards.
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
