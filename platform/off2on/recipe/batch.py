"""A batch of transitions, as the losses see it."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor


class Batch(SimpleNamespace):
    """A batch's columns by name: vectors [B, width], numbers [B].

    Attributes:
        progress: Where training is: 0 … 1 over the offline updates, 1 … 2 over the online ones.
        weight: [B] or [E, B] of the members' temporal-difference errors; None weighs all alike.
    """

    progress: float = 0.0
    weight: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the batch has no column {name!r}; it has {sorted(vars(self))}")
