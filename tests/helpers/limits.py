"""Two algorithms on the same networks, batch and random numbers: the same losses, bit for bit."""

from typing import Any

import torch
from torch import Tensor

from off2on.recipe.batch import Batch

SAME = {"hidden": (32, 32), "actor_lr": 3e-4, "temperature_lr": 3e-4}


def with_weights_of(case: Any, other: Any) -> Any:
    """The same weights and batch, whatever it took to draw them."""
    given, names = other.nets.state_dict(), case.nets.state_dict()
    case.nets.load_state_dict({name: given[name] for name in names})
    case.batch = Batch(**vars(other.batch))
    return case


def losses_and_next_number(case: Any, progress: float = 0.0) -> tuple[Tensor, Tensor]:
    """All losses of one update in SAC's order, and the random number that would come next."""
    case.batch.progress = progress
    case.nets.temperature.value.data.fill_(-0.7)
    batch = case.prepared(7)
    names = ("temperature", "actor", "critic")
    return torch.stack([case.loss(name, batch, 8).detach() for name in names]), torch.rand(1)


def assert_same(one: Any, other: Any, progress: float = 0.0) -> None:
    seen = [losses_and_next_number(case, progress) for case in (one, other)]
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])
