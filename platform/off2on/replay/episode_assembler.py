"""Assemble online transitions into whole episodes, which the return to go and changes of episodes need."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from off2on.replay.transforms import Array

Columns = dict[str, Array]


class EpisodeAssembler:
    """Holds the transitions of each environment until their episode ends."""

    def __init__(self) -> None:
        self.held: dict[int, list[Columns]] = {}

    def add(self, columns: Mapping[str, Array]) -> Iterator[Columns]:
        """Add a rollout, and yield the episodes that are now complete, in order.

        If the next observation of an environment does not continue its episode (its process died, or the run
        was resumed), the episode counts as truncated and is complete.

        Args:
            columns: The columns of a `Rollout`.
        """
        for env in map(int, np.unique(columns["env"])):
            own = columns["env"] == env
            rows = {name: column[own] for name, column in columns.items() if name != "env"}
            before = self.held.get(env)
            if before and not np.array_equal(before[-1]["new_obs"][-1], rows["obs"][0]):
                yield self._whole(self.held.pop(env))
            ended = rows["terminateds"] | rows["truncateds"]
            for piece in np.split(np.arange(len(ended)), np.flatnonzero(ended) + 1):
                if len(piece):
                    self.held.setdefault(env, []).append(
                        {name: column[piece] for name, column in rows.items()}
                    )
                    if ended[piece[-1]]:
                        yield self._whole(self.held.pop(env))

    def _whole(self, pieces: list[Columns]) -> Columns:
        """Concatenate the pieces of an episode; add the columns that shards compute from whole episodes."""
        whole = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        actions = whole["actions"]
        whole["new_actions"] = np.concatenate([actions[1:], np.zeros_like(actions[:1])])
        whole["last"] = np.arange(len(actions)) == len(actions) - 1
        return whole

    def state(self) -> dict[int, dict[str, torch.Tensor]]:
        """Return the transitions held, by environment."""
        return {
            env: {
                name: torch.from_numpy(np.concatenate([piece[name] for piece in pieces]))
                for name in pieces[0]
            }
            for env, pieces in self.held.items()
        }

    def load(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        """Restore the result of `state`."""
        self.held = {
            env: [{name: part.numpy() for name, part in rows.items()}] for env, rows in state.items()
        }
