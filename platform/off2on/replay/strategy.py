"""What every strategy answers: which rows make the next batches."""

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
    """A strategy without options."""


class Strategy:
    """Draws the positions of the rows of the next batches.

    Args:
        rows: The offline rows and the ring of online ones.
        options: The strategy's own settings.
    """

    Options: ClassVar[type[Settings]] = Options
    block: ClassVar[int] = 50
    """How many updates' rows are drawn at once."""
    needs_regularisation: ClassVar[bool] = False
    """Whether it has nothing to do for a recipe without a pull towards the data."""
    online_settings: ClassVar[Mapping[str, object]] = {}
    """What its paper does besides, where nothing is said: factors of a `online_settings.OnlineSettings`."""

    def __init__(self, rows: ReplayBuffer, options: Any) -> None:
        self.rows, self.options = rows, options
        self.regularisation_scale: float | None = None
        """Share of the recipe's pull towards the data to keep from now on; None leaves it as it is."""

    def draw(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """Return the positions [updates, size] of the rows of the next batches; all rows are equally likely.

        Offline rows with weights, 1 on average, are drawn in proportion to them; an online row weighs 1.
        A window on larger offline data counts as all of it.
        """
        rows = self.rows
        if rows.total == rows.offline and rows.edges is None:
            return uniform(0, rows.offline + rows.online, (updates, size), generator)
        offline = offline_rows(rows, (updates, size), generator)
        if rows.online == 0:
            return offline
        online = uniform(rows.offline, rows.online, (updates, size), generator)
        share = rows.mass / (rows.mass + rows.online)
        chance = torch.rand((updates, size), generator=generator, device=generator.device)
        return torch.where(chance < share, offline, online)

    def observed(self, columns: Mapping[str, Array]) -> None:
        """Transitions were collected: RLlib's columns and ``env`` [n, …], in the world's units."""

    def entered(self, position: Tensor) -> None:
        """Online rows were written at these positions [n]."""

    def replaced(self, position: Tensor) -> None:
        """Other offline rows were written at these positions [n] of the window."""

    def used(self, batch: Batch, position: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """An update used this batch, drawn from these positions [B]; metrics to log."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep: tensors and plain values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


def offline_rows(rows: ReplayBuffer, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Positions of offline rows, by their weights if they have any."""
    if rows.edges is None:
        return uniform(0, rows.offline, shape, generator)
    point = torch.rand(shape, generator=generator, device=generator.device, dtype=rows.edges.dtype)
    return torch.searchsorted(rows.edges, point * rows.mass, right=True).clamp_(max=rows.offline - 1)


def uniform(start: int, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Positions start … start + count - 1, all equally likely."""
    return start + torch.randint(count, shape, generator=generator, device=generator.device)
