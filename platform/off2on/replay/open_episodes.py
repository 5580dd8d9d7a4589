"""Online transitions whose episode is not over yet: what a return to go has to wait for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from off2on.replay.transforms import Array

Columns = dict[str, Array]


class EpisodeAssembler:
    """Holds transitions by environment until their episode ends, and gives out whole episodes."""

    def __init__(self) -> None:
        self.held: dict[int, list[Columns]] = {}

    def add(self, columns: Mapping[str, Array]) -> Iterator[Columns]:
        """Take a rollout; the episodes that are now complete, in order.

        An environment that does not go on where it was (its process died, or the run was resumed) has
        left its episode: that one is cut off there, as by a time limit.

        Args:
            columns: RLlib's columns [n, …] and ``env`` [n], the environment's number, in order of time.
        """
        for env in map(int, np.unique(columns["env"])):
            mine = columns["env"] == env
            rows = {name: column[mine] for name, column in columns.items() if name != "env"}
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
        """The pieces of an episode, with the columns that shards derive from a whole one."""
        whole = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        actions = whole["actions"]
        whole["new_actions"] = np.concatenate([actions[1:], np.zeros_like(actions[:1])])
        whole["last"] = np.arange(len(actions)) == len(actions) - 1
        return whole

    def state(self) -> dict[int, dict[str, torch.Tensor]]:
        """The transitions held, by environment."""
        return {
            env: {
                name: torch.from_numpy(np.concatenate([piece[name] for piece in pieces]))
                for name in pieces[0]
            }
            for env, pieces in self.held.items()
        }

    def load(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        """Take back what `state` gave."""
        self.held = {
            env: [{name: part.numpy() for name, part in rows.items()}] for env, rows in state.items()
        }
