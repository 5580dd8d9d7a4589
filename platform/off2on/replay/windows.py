"""Windows of consecutive rows of an episode, and changes of rows that need whole episodes.

Where losses learn from windows of several steps, a stored row is such a window: rows can then be drawn,
weighted, streamed and shared by learners like rows of one step. The price is memory for a chunk's actions.
"""

from collections.abc import Mapping

import numpy as np

from datasets_io.shards.returns import returns_to_go
from off2on.recipe.histories import EXTRA
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


class Chunks(EpisodeChange):
    """Rows of ``length`` steps with all their actions; see `off2on.recipe.chunks`.

    Actions after the end of an episode are 0, in the column ``inside`` as well.

    Args:
        length: Number of steps h of a chunk, at least 2.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def widths(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Return the widths with ``action`` for h actions, and ``inside``."""
        return {**widths, "action": self.length * widths["action"], "inside": self.length}

    def change(self, columns: Mapping[str, Array], last: Array, discount: float) -> dict[str, Array]:
        """Return the columns with ``action`` [N, h A], ``inside`` [N, h], and those of `multi_step`."""
        end, start = episode_ends(last), np.arange(len(last))
        rows = [start + step for step in range(self.length)]
        inside = np.stack([row <= end for row in rows], 1).astype(np.float32)
        actions = np.stack([columns["action"][np.minimum(row, end)] for row in rows], 1)
        action = (inside[..., None] * actions).reshape(len(last), -1)
        return {
            **columns,
            **multi_step(columns, end, self.length, discount),
            "action": action,
            "inside": inside,
        }


class Histories(EpisodeChange):
    """Rows whose ``obs`` is the history of the last ``length`` steps; see `off2on.recipe.histories`.

    Args:
        length: Number of steps K of a history, at least 1.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def widths(self, widths: Mapping[str, int]) -> dict[str, int]:
        """Return the widths with ``obs`` for K steps of an observation, an action and two numbers."""
        return {**widths, "obs": self.length * (widths["obs"] + widths["action"] + EXTRA)}

    def change(self, columns: Mapping[str, Array], last: Array, discount: float) -> dict[str, Array]:
        """Return the columns with ``obs`` [N, K (D + A + 2)]; returns to go are not discounted."""
        count, rows = len(last), np.arange(len(last))
        is_last = rows == episode_ends(last)
        start = np.maximum.accumulate(np.where(np.append(True, is_last[:-1]), rows, 0))
        ret = returns_to_go(columns["reward"], is_last, 1.0)[:, None]
        number = (rows - start + 1)[:, None]
        steps = np.concatenate((columns["obs"], columns["action"], ret, number), 1, dtype=np.float32)
        history = np.zeros((count, self.length, steps.shape[1]), np.float32)
        for age in range(self.length):
            inside = rows - age >= start
            history[inside, self.length - 1 - age] = steps[rows[inside] - age]
        width = columns["obs"].shape[1]
        history[:, -1, width:-EXTRA] = 0  # the action that the policy decides about
        return {**columns, "obs": history.reshape(count, -1)}


def episode_ends(last: Array) -> Array:
    """Return the number of the last row of each row's episode: [N].

    Args:
        last: [N] true at the last row of an episode; the last row of all ends one in any case.
    """
    count = len(last)
    ends = np.flatnonzero(np.asarray(last, bool)[: count - 1])
    return np.append(ends, count - 1)[np.searchsorted(ends, np.arange(count))]


def multi_step(columns: Mapping[str, Array], end: Array, length: int, discount: float) -> dict[str, Array]:
    """Return ``reward``, ``next_obs`` and ``mask`` of windows, such that losses of one step learn from them.

        reward    sum_{j<k} gamma^j r_{t+j},   k = min(length, steps to the end of the episode)
        next_obs  s_{t+k}
        mask      gamma^{k-1} m_{t+k-1},       so that gamma * mask is gamma^k m

    Args:
        columns: The learner's columns [N, …] of whole episodes.
        end: Result of `episode_ends`.
        length: Largest number of steps of a window.
        discount: Discount factor gamma.
    """
    start = np.arange(len(end))
    total = np.zeros(len(end))
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
