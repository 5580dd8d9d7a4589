"""Windows of consecutive rows of an episode, and changes of rows that need whole episodes."""

from collections.abc import Mapping

import numpy as np

from off2on.replay.transforms import Array


class EpisodeChange:
    """Replaces or adds columns of rows, computed from whole episodes before the rows are stored.

    Where a learner has such a change, online rows enter its buffer when their episode is over.
    """

    def widths(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Return the widths of the columns after the change, from those before; 0 for a scalar column."""
        return dict(widths)

    def change(self, columns: Mapping[str, Array], last: Array, discount: float) -> dict[str, Array]:
        """Return the changed columns.

        Args:
            columns: The learner's columns [N, …] of whole episodes in the order of time, float32.
            last: [N] true at the last row of an episode.
            discount: Discount factor gamma.
        """
        raise NotImplementedError


def episode_ends(last: Array) -> Array:
    """Return the number of the last row of each row's episode: [N].

    Args:
        last: [N] true at the last row of an episode; the last row of all ends one in any case.
    """
    count = len(last)
    ends = np.flatnonzero(np.asarray(last, bool)[: count - 1])
    return np.append(ends, count - 1)[np.searchsorted(ends, np.arange(count))]


def multi_step(columns: Mapping[str, Array], last: Array, length: int, discount: float) -> dict[str, Array]:
    """Return ``reward``, ``next_obs`` and ``mask`` of windows, such that losses of one step learn from them.

        reward    sum_{j<k} gamma^j r_{t+j},   k = min(length, steps to the end of the episode)
        next_obs  s_{t+k}
        mask      gamma^{k-1} m_{t+k-1},       so that gamma * mask is gamma^k m

    Args:
        columns: The learner's columns [N, …] of whole episodes.
        last: [N] true at the last row of an episode.
        length: Largest number of steps of a window.
        discount: Discount factor gamma.
    """
    end, start = episode_ends(last), np.arange(len(last))
    total = np.zeros(len(last))
    for step in range(length):
        row = start + step
        total += np.where(row <= end, discount**step * columns["reward"][np.minimum(row, end)], 0.0)
    at_end = np.minimum(start + length - 1, end)
    mask = columns["mask"][at_end] * np.power(float(discount), at_end - start)
    return {
        "reward": total.astype(np.float32),
        "next_obs": columns["next_obs"][at_end],
        "mask": mask.astype(np.float32),
    }
