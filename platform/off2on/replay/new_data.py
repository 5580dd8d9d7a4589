"""Read new recorded transitions in order; they replace the environment in the online phase."""

from bisect import bisect

import numpy as np

from datasets_io import Shards
from datasets_io.column_names import TRANSITION
from off2on.replay.transforms import Array


class NewDataReader:
    """Reads the transitions of a data set in order, with one piece in memory at a time.

    Args:
        shards: The data set.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards, self.pieces = shards, shards.pieces
        self._number = -1
        self._held: dict[str, Array] = {}

    def read(self, first: int, count: int) -> dict[str, Array]:
        """Return at most `count` transitions from number `first` on; fewer at the end of a piece.

        Returns:
            The columns [n, …] of a `Rollout` of one environment, in raw units.
        """
        number = bisect(self.pieces, first, key=lambda piece: piece.rows.stop)
        if number != self._number:
            self._number, self._held = number, self.shards.read(self.pieces[number], TRANSITION)
        start = first - self.pieces[number].rows.start
        found = {name: column[start : start + count] for name, column in self._held.items()}
        return found | {"env": np.zeros(len(found["rewards"]), np.int64)}
