"""The ring that online rows lie in, behind the offline ones, and how rows become batches."""

import numpy as np
import pytest
import torch
from held_rows import CPU, LAYOUT, blocks, held, saved
from hypothesis import given
from hypothesis import strategies as st

from off2on.replay.buffer import Layout, ReplayBuffer

sizes = st.integers(1, 40)


@given(capacity=st.integers(1, 30), counts=st.lists(st.integers(1, 40), max_size=8))
def test_the_ring_holds_the_newest_rows_and_overwrites_the_oldest(capacity: int, counts: list[int]):
    rows = ReplayBuffer(LAYOUT, 3, 3, capacity, CPU)
    offline, *online = blocks(3, *counts)
    rows.data[:3] = offline
    arrived: list[float] = []
    for block in online:
        position = rows.add(block)
        arrived += block[:, 3].tolist()
        written = block[-capacity:, 3]
        assert torch.equal(rows.data[position, 3], written)
        assert position.min() >= 3
        assert position.max() < 3 + capacity
    assert rows.online == min(sum(counts), capacity)
    assert sorted(rows.data[3 : 3 + rows.online, 3].tolist()) == arrived[-capacity:]
    position, batch = rows.rows_in_order()
    assert batch.reward[3:].tolist() == arrived[-capacity:]
    assert torch.equal(rows.data[position, 3], batch.reward)
    assert torch.equal(rows.data[:3], offline)


@given(capacity=st.integers(1, 30), before=st.lists(sizes, max_size=4), after=st.lists(sizes, max_size=4))
def test_a_restored_ring_goes_on_like_the_first(capacity: int, before: list[int], after: list[int]):
    rows, again = ReplayBuffer(LAYOUT, 3, 3, capacity, CPU), ReplayBuffer(LAYOUT, 3, 3, capacity, CPU)
    offline, *online = blocks(3, *before, *after)
    rows.data[:3] = again.data[:3] = offline
    for block in online[: len(before)]:
        rows.add(block)
    again.load(saved(rows.state()))
    for block in online[len(before) :]:
        assert torch.equal(rows.add(block), again.add(block))
    assert rows.added == again.added
    stop = 3 + rows.online
    assert torch.equal(rows.data[:stop], again.data[:stop])


def test_columns_survive_packing_and_splitting():
    layout = Layout({"obs": 3, "reward": 0, "action": 1})
    columns = {
        "obs": np.random.default_rng(0).normal(size=(7, 3)),
        "reward": np.arange(7),
        "action": np.ones((7, 1)),
    }
    batch = layout.split(layout.pack(columns))
    assert batch.obs.shape == (7, 3)
    assert batch.reward.shape == (7,)
    assert batch.action.shape == (7, 1)
    np.testing.assert_array_equal(batch.obs, columns["obs"].astype(np.float32))
    np.testing.assert_array_equal(batch.reward, columns["reward"])
    with pytest.raises(AttributeError, match=r"no column 'next_obs'.*\['action', 'obs', 'reward'\]"):
        batch.next_obs  # noqa: B018


def test_a_gather_gives_one_batch_per_row_of_positions():
    rows = held(10)
    first, second = rows.batches_at(torch.tensor([[1, 2, 2], [9, 0, 3]]))
    assert first.reward.tolist() == [1, 2, 2]
    assert second.reward.tolist() == [9, 0, 3]
