"""Read new recorded transitions in order, in place of an environment."""

from bisect import bisect

import numpy as np

from datasets_io import Shards
from datasets_io.column_names import TRANSITION
from off2on.replay.transforms import Array


class LogStream:
    """Reads a data set's transitions in order, with one piece in memory at a time.

    Args:
        shards: The data set.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards, self.pieces = shards, shards.pieces
        self._number = -1
        self._held: dict[str, Array] = {}

    def read(self, first: int, count: int) -> dict[str, Array]:
        """Return the transitions first … first + count - 1, or fewer: only those of one piece.

        Returns:
            The columns of a `Rollout` [n, …] of one environment, in raw units.
        """
        number = bisect(self.pieces, first, key=lambda piece: piece.rows.stop)
        if number != self._number:
            self._number, self._held = number, self.shards.read(self.pieces[number], TRANSITION)
        start = first - self.pieces[number].rows.start
        taken = {name: column[start : start + count] for name, column in self._held.items()}
        return taken | {"env": np.zeros(len(taken["rewards"]), np.int64)}
