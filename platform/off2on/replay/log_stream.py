"""New logs in the place of a world: recorded transitions, handed over as if they were happening."""

from bisect import bisect

import numpy as np

from datasets_io import Shards
from datasets_io.column_names import TRANSITION
from off2on.replay.transforms import Array


class LogStream:
    """Gives out a data set's transitions in their order, holding one piece of it at a time.

    Args:
        shards: The data set.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards, self.pieces = shards, shards.pieces
        self._number = -1
        self._held: dict[str, Array] = {}

    def take(self, first: int, count: int) -> dict[str, Array]:
        """Transitions first … first + count - 1, or fewer: never from two pieces at once.

        Returns:
            The columns of a `runner.Rollout` [n, …], in the world's units, as of one environment.
        """
        number = bisect(self.pieces, first, key=lambda piece: piece.rows.stop)
        if number != self._number:
            self._number, self._held = number, self.shards.read(self.pieces[number], TRANSITION)
        start = first - self.pieces[number].rows.start
        taken = {name: column[start : start + count] for name, column in self._held.items()}
        return taken | {"env": np.zeros(len(taken["rewards"]), np.int64)}
