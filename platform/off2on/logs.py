"""New logs in the place of a world: recorded transitions, handed over as if they were happening."""

import numpy as np

from datasets_io import Shards
from off2on.transforms import Array

COLUMNS = ("obs", "new_obs", "actions", "rewards", "terminateds", "truncateds")


class Logs:
    """Gives out a data set's transitions in their order.

    Args:
        shards: The data set.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._ends = np.cumsum(shards.manifest.rows_per_file)
        self._held: tuple[int, dict[str, Array]] = (-1, {})

    def take(self, first: int, count: int) -> dict[str, Array]:
        """Transitions first … first + count - 1, or fewer: never from two files at once.

        Returns:
            The columns of a `runner.Rollout` [n, …], in the world's units, as of one environment.
        """
        number = int(np.searchsorted(self._ends, first, side="right"))
        if self._held[0] != number:
            self._held = number, self.shards.read(self.shards.files[number], COLUMNS)
        held, start = self._held[1], first - (int(self._ends[number - 1]) if number else 0)
        taken = {name: column[start : start + count] for name, column in held.items()}
        return taken | {"env": np.zeros(len(taken["rewards"]), np.int64)}
