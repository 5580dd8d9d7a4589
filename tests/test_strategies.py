"""Which rows make the batches: what every strategy keeps."""

from typing import Any

import numpy as np
import pytest
import torch
from held_rows import generator, go_on, held, saved, went_online
from hypothesis import given
from hypothesis import strategies as st

from off2on.replay.strategy import Strategy, draw_uniform
from off2on.strategies import CATALOGUE, find_strategy

KINDS = [find_strategy(name) for name in CATALOGUE]
sizes = st.integers(1, 40)


@pytest.mark.parametrize("kind", KINDS)
@given(
    offline=sizes,
    added=st.lists(sizes, max_size=3),
    capacity=sizes,
    updates=st.integers(1, 12),
    size=sizes,
    seed=sizes,
)
def test_positions_are_those_of_rows_that_are_there(
    kind: type[Strategy], offline: int, added: list[int], capacity: int, updates: int, size: int, seed: int
):
    rows = held(offline, tuple(added), capacity)
    strategy = went_online(kind, rows)
    position = strategy.draw(updates, size, generator(seed))
    assert position.shape == (updates, size)
    assert position.dtype == torch.long
    assert position.min() >= 0
    assert position.max() < offline + rows.online
    assert torch.equal(position, strategy.draw(updates, size, generator(seed)))
    for _ in rows.batches_at(position):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_strategy_goes_on_like_the_first(kind: type[Strategy]):
    rows = held(50, (20, 20), capacity=30)
    strategy = went_online(kind, rows)
    go_on(strategy, 5, seed=1)
    again = kind(rows, kind.Options())
    again.load(saved(strategy.state()))
    assert torch.equal(go_on(strategy, 5, seed=2), go_on(again, 5, seed=2))
    assert flat(strategy.state()) == flat(again.state())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_may_have_model_rollouts_alone(kind: type[Strategy]):
    strategy = went_online(kind, held(50, (20,)))
    (position,) = strategy.draw(1, 0, generator())
    (batch,) = strategy.rows.batches_at(position.unsqueeze(0))
    assert strategy.on_used(batch, position, generator()) == {}


def flat(state: Any) -> Any:
    """A nested state as plain values, comparable."""
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [flat(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def test_uniform_covers_its_range_evenly():
    counts = np.bincount(draw_uniform(5, 10, (100, 1000), generator()).flatten() - 5, minlength=10)
    assert len(counts) == 10
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
