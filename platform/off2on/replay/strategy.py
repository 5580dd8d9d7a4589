"""Base class of fine-tuning strategies, which draw the rows of batches in the online phase."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Settings
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.transforms import Array


@dataclass(frozen=True)
class Options(Settings):
    """Options of a strategy that has none."""


class Strategy:
    """Draws the positions of the rows of the next batches. Every method may be overridden.

    Args:
        rows: The offline rows and the ring buffer of online ones.
        options: Options of the class `Options`.
    """

    Options: ClassVar[type[Settings]] = Options
    block: ClassVar[int] = 50
    """Largest number of updates whose rows are drawn at once."""
    needs_regularisation: ClassVar[bool] = False
    """True if the strategy has no effect on an algorithm without regularisation towards the data."""
    online_settings: ClassVar[Mapping[str, object]] = {}
    """Defaults of `online.settings.OnlineSettings` that differ in the paper of the strategy."""

    def __init__(self, rows: ReplayBuffer, options: Any) -> None:
        self.rows, self.options = rows, options
        self.regularisation_scale: float | None = None
        """Factor of the algorithm's regularisation weight for the next updates; None: no change."""

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return the positions [updates, size] of the rows of the next batches.

        All rows are equally likely. Offline rows with weights, 1 on average, are drawn in proportion to
        these; an online row has weight 1. Where only a window on the offline data is held, the window is
        drawn as often as all of the offline data would be.
        """
        rows = self.rows
        if rows.total == rows.offline and rows.cumulative_weights is None:
            return draw_uniform(0, rows.offline + rows.online, (updates, size), generator)
        offline = draw_offline(rows, (updates, size), generator)
        if rows.online == 0:
            return offline
        online = draw_uniform(rows.offline, rows.online, (updates, size), generator)
        share = rows.offline_weight / (rows.offline_weight + rows.online)
        chance = torch.rand((updates, size), generator=generator, device=generator.device)
        return torch.where(chance < share, offline, online)

    def on_collected(self, columns: Mapping[str, Array]) -> None:
        """Handle a rollout, columns [n, …] in raw units, before this learner's part of it is added."""

    def on_added(self, position: Tensor) -> None:
        """Handle online rows that were added to the buffer at these positions [n]."""

    def on_replaced(self, position: Tensor) -> None:
        """Handle offline rows that were replaced at these positions [n] of the window."""

    def on_used(self, batch: Batch, position: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Handle a batch from these positions [B] that an update has used; return metrics to log."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: tensors and plain values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""


def draw_offline(rows: ReplayBuffer, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw positions of offline rows, in proportion to their weights if they have any."""
    if rows.cumulative_weights is None:
        return draw_uniform(0, rows.offline, shape, generator)
    point = torch.rand(
        shape, generator=generator, device=generator.device, dtype=rows.cumulative_weights.dtype
    )
    return torch.searchsorted(rows.cumulative_weights, point * rows.offline_weight, right=True).clamp_(
        max=rows.offline - 1
    )


def draw_uniform(start: int, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw positions in start … start + count - 1, all equally likely."""
    return start + torch.randint(count, shape, generator=generator, device=generator.device)
