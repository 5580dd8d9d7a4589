"""Data larger than memory: a window that slides, read by a real Ray Data."""

from typing import Any

import pytest
import torch

from datasets_io import Shards
from off2on.algorithms.iql import IQL
from off2on.offline import OfflineRows
from off2on.transforms import Transforms

pytestmark = pytest.mark.usefixtures("ray_session")


def windowed(shards: Shards, rows: int, **options: Any) -> OfflineRows:
    given = {"share": (0, 1), "capacity": 0, "seed": 0} | options
    transforms, width = Transforms.of(shards, IQL.Hyperparameters()), 4 * (5 + 3 + 1 + 5 + 1)
    device = torch.device("cpu")
    return OfflineRows(
        shards, IQL.columns, transforms, discount=0.99, budget=width * rows, device=device, **given
    )


def distinct(rows: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in rows.tolist()}


def test_a_window_slides_over_every_row_once_an_epoch(wide: Shards):
    whole = windowed(wide, 10**6)
    assert not whole.streams
    assert len(whole.slide(50)) == 0
    source = windowed(wide, 60)
    assert source.streams
    assert (source.rows.offline, source.rows.total) == (60, wide.rows)
    for epoch in range(2):
        seen = [source.rows.data.clone()] if epoch == 0 else []
        while source.streamed < (epoch + 1) * wide.rows:
            left = (epoch + 1) * wide.rows - source.streamed
            position = source.slide(min(left, 37))
            seen.append(source.rows.data[position].clone())
        streamed = torch.cat(seen)
        assert len(streamed) == wide.rows
        assert distinct(streamed) == distinct(whole.rows.data)
        if epoch == 0:
            first = streamed
    assert not torch.equal(first, streamed)  # another order
    assert not torch.equal(first, whole.rows.data)


def test_a_window_holds_the_newest_rows_and_is_found_again(wide: Shards):
    source = windowed(wide, 50)
    for used in (20, 50, 999, 1, 30):
        assert len(source.slide(used)) == min(used, 50)
    again = windowed(wide, 50)
    again.load(source.state())
    assert again.streamed == source.streamed
    assert torch.equal(again.rows.data, source.rows.data)
    assert torch.equal(again.slide(33), source.slide(33))
    assert torch.equal(again.rows.data, source.rows.data)


def test_a_window_slides_for_as_long_as_a_run_takes(wide: Shards):
    source = windowed(wide, 300)
    for _ in range(3000):
        source.slide(1)
    assert source.streamed == 3300


def test_learners_stream_their_own_share(wide: Shards):
    shares = []
    for rank in range(2):
        source = windowed(wide, 100, share=(rank, 2))
        seen = [source.rows.data.clone()]
        while source.streamed < source.rows.total:
            position = source.slide(min(100, source.rows.total - source.streamed))
            seen.append(source.rows.data[position].clone())
        shares.append(distinct(torch.cat(seen)))
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == distinct(windowed(wide, 10**6).rows.data)
