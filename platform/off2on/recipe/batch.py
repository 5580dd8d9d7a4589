"""Batch of transitions that losses are computed on."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor


class Batch(SimpleNamespace):
    """Columns of a batch by name: vectors [B, width], numbers [B].

    Attributes:
        progress: Progress of training: 0 … 1 over the offline updates, 1 … 2 over the online ones.
        weight: Weights [B] or [E, B] of the members' temporal-difference errors; None: all are equal.
    """

    progress: float = 0.0
    weight: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the batch has no column {name!r}; it has {sorted(vars(self))}")
