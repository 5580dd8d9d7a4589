"""Rows of a replay buffer that hold their number, and strategies that have drawn from them."""

import io
from typing import Any

import torch

from off2on.replay.buffer import Layout, ReplayBuffer
from off2on.replay.strategy import Strategy

LAYOUT = Layout({"obs": 2, "action": 1, "reward": 0})
CPU = torch.device("cpu")


def blocks(*counts: int) -> list[torch.Tensor]:
    """Return blocks of rows with their number, from 0 on, as reward."""
    numbers = torch.arange(float(sum(counts)))
    rows = torch.stack((torch.sin(numbers), torch.cos(numbers), torch.sin(3 * numbers), numbers), 1)
    return list(rows.split(list(counts)))


def held(offline: int, added: tuple[int, ...] = (), capacity: int = 1000) -> ReplayBuffer:
    """Return a buffer of so many offline rows, to which blocks of so many online ones were added."""
    rows = ReplayBuffer(LAYOUT, offline, offline, capacity, CPU)
    first, *others = blocks(offline, *added)
    rows.data[:offline] = first
    for block in others:
        rows.add(block)
    return rows


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of random numbers."""
    return torch.Generator().manual_seed(seed)


def went_online(kind: type[Strategy], rows: ReplayBuffer) -> Strategy:
    """Return a strategy that has seen the online rows come in."""
    strategy = kind(rows, kind.Options())
    strategy.on_added(rows.offline + torch.arange(rows.online))
    return strategy


def go_on(strategy: Strategy, updates: int, seed: int) -> torch.Tensor:
    """Draw and use a few batches; return the positions drawn, int64 [updates, 16]."""
    source, drawn = generator(seed), []
    for _ in range(updates):
        (position,) = strategy.draw(1, 16, source)
        (batch,) = strategy.rows.batches_at(position.unsqueeze(0))
        strategy.on_used(batch, position, source)
        drawn.append(position)
    return torch.stack(drawn)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as a checkpoint's file gives it back, which holds no pickled objects."""
    content = io.BytesIO()
    torch.save(state, content)
    content.seek(0)
    loaded: dict[str, Any] = torch.load(content, weights_only=True)
    return loaded
