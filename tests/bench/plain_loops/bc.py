"""Behaviour cloning of a deterministic policy; both codes differ in their sampling alone."""

from collections.abc import Callable

from torch import nn
from torch.nn import functional as F  # noqa: N812

from plain_loops.parts import Rows, adam, minimise, mlp


def update(rows: Rows) -> Callable[[], None]:
    actor = mlp(rows.obs, 256, 256, rows.action, last=nn.Tanh())
    optimizer = adam(actor)

    def once() -> None:
        obs, action, *_ = rows.sample()
        loss = F.mse_loss(actor(obs), action)
        loss.item()
        minimise(loss, optimizer)

    return once
