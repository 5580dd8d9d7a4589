"""Check that rows are drawn, held and streamed by their weight."""

from typing import Any

import numpy as np
import pytest
import torch
from held_rows import CPU, LAYOUT, generator
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.replay.augmentation.compose import episode_weights
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.strategy import Options, draw_offline
from off2on.replay.transforms import Transforms
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy
from off2on.strategies.append import Append
from off2on.strategies.balanced import Balanced, BalancedOptions
from off2on.strategies.symmetric import Symmetric, SymmetricOptions

# Rows by weight.


def held(weights: Any, online: int = 0) -> ReplayBuffer:
    """Offline rows of these weights and as many online ones; each holds its number."""
    rows = ReplayBuffer(LAYOUT, len(weights), len(weights), 100, CPU)
    rows.data.copy_(torch.arange(float(len(rows.data))).unsqueeze(1).expand_as(rows.data))
    rows.set_weights(torch.tensor(weights, dtype=torch.float64))
    if online:
        rows.add(torch.ones(online, 4))
    return rows


WEIGHTS = [0.1, 0.1, 2.8, 0.5, 1.5]  # 1 on average


def frequencies(drawn: torch.Tensor, minlength: int) -> Any:
    return np.bincount(drawn.flatten(), minlength=minlength) / drawn.numel()


def test_offline_rows_are_drawn_by_weight():
    drawn = draw_offline(held(WEIGHTS), (1000, 100), generator())
    np.testing.assert_allclose(frequencies(drawn, 5), np.array(WEIGHTS) / 5, atol=5e-3)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50), st.integers(0, 1000))
def test_drawn_positions_are_those_of_rows(weights: list[float], seed: int):
    drawn = draw_offline(held(weights), (200,), generator(seed))
    assert drawn.min() >= 0
    assert drawn.max() < len(weights)


def test_append_weighs_an_online_row_like_an_offline_one_of_weight_one():
    strategy = Append(held(WEIGHTS, online=3), Options())
    found = frequencies(strategy.draw(1000, 100, generator()), 8)
    np.testing.assert_allclose(found, np.array([*WEIGHTS, 1, 1, 1]) / 8, atol=5e-3)
    alone = frequencies(Append(held(WEIGHTS), Options()).draw(1000, 100, generator()), 5)
    np.testing.assert_allclose(alone, np.array(WEIGHTS) / 5, atol=5e-3)


def test_symmetric_keeps_its_share_and_draws_the_offline_part_by_weight():
    strategy = Symmetric(held(WEIGHTS, online=2), SymmetricOptions(offline_share=0.25))
    found = frequencies(strategy.draw(1000, 100, generator()), 7)
    np.testing.assert_allclose(found, np.array([*(0.05 * np.array(WEIGHTS)), 0.375, 0.375]), atol=5e-3)


def test_balanced_begins_with_the_weights():
    strategy = Balanced(held(WEIGHTS, online=2), BalancedOptions())
    assert strategy.tree.priority[:5].tolist() == pytest.approx(WEIGHTS)
    assert float(strategy.largest) == pytest.approx(5 / 1000)  # M is the sum of the weights
    found = frequencies(strategy.draw(1000, 100, generator()), 7)
    np.testing.assert_allclose(found, np.array([*WEIGHTS, 0, 0]) / 5, atol=5e-3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_weights_a_strategy_draws_what_it_drew(name: str):
    rows = ReplayBuffer(LAYOUT, 50, 50, 100, CPU)
    rows.data.uniform_()
    kind = find_strategy(name)
    drawn = kind(rows, kind.Options()).draw(10, 64, generator())
    assert rows.cumulative_weights is None
    np.testing.assert_allclose(np.bincount(drawn.flatten(), minlength=50) / 640, 1 / 50, atol=0.03)


# Rows read by weight.


def source(shards: Shards, words: tuple[str, ...], window: int = 10**6, **options: Any) -> OfflineRows:
    given = {"partition": (0, 1), "capacity": 0, "seed": 0, "device": CPU} | options
    transforms, width = Transforms.of(shards, BC.Hyperparameters()), 4 * (5 + 3 + 1 + 5 + 1)
    return OfflineRows(
        shards,
        IQL.columns,
        transforms,
        discount=0.99,
        budget=width * window,
        weights=episode_weights(words, shards),
        **given,
    )


def number_of(rows: torch.Tensor, shards: Shards) -> Any:
    """Which rows of the data these are [n]."""
    whole = {row.tobytes(): number for number, row in enumerate(shards.read_all(["obs"])["obs"])}
    return np.array([whole[row.tobytes()] for row in rows[:, :5].numpy()])


def per_row(words: tuple[str, ...], shards: Shards) -> Any:
    weights = episode_weights(words, shards)
    assert weights is not None
    return np.repeat(weights, shards.manifest.lengths)


def test_dropped_episodes_are_not_loaded(wide: Shards):
    found = source(wide, ("top:0.25",))
    kept = np.flatnonzero(per_row(("top:0.25",), wide))
    assert (found.rows.offline, found.rows.total) == (len(kept), len(kept))
    assert found.rows.cumulative_weights is None  # those that are left are all alike
    assert sorted(number_of(found.rows.data, wide)) == kept.tolist()


def test_rows_that_are_held_have_their_episodes_weight(wide: Shards):
    found = source(wide, ("returns:0.2",))
    assert found.rows.offline == wide.rows
    assert found.rows.weights is not None
    np.testing.assert_allclose(
        found.rows.weights, per_row(("returns:0.2",), wide)[number_of(found.rows.data, wide)]
    )
    assert found.rows.offline_weight == pytest.approx(wide.rows)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("words", [("top:0.5",), ("returns:0.2",), ("top:0.7", "advantages:0.3")])
def test_learners_share_the_weight_not_the_rows(wide: Shards, world: int, words: tuple[str, ...]):
    weight = per_row(words, wide)
    parts = [number_of(source(wide, words, partition=(rank, world)).rows.data, wide) for rank in range(world)]
    assert sorted(np.concatenate(parts)) == np.flatnonzero(weight).tolist()
    masses = [weight[part].sum() for part in parts]
    assert np.ptp(masses) <= 2 * len(wide.files) * weight.max()


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_parts_of_equal_weight_are_the_parts_without_weights(wide: Shards, world: int):
    for rank in range(world):
        plain = source(wide, (), partition=(rank, world)).rows
        even = source(wide, ("returns:1e9", "top:1"), partition=(rank, world)).rows
        assert abs(plain.offline - even.offline) <= len(wide.files)
        assert torch.equal(plain.data, source(wide, ("top:1",), partition=(rank, world)).rows.data)


def epoch_of(found: OfflineRows, epoch: int) -> torch.Tensor:
    """What streams in an epoch."""
    return torch.cat([found.reader.read_shuffled(item) for item in found.stream.epoch(epoch)])


@pytest.mark.parametrize("words", [("returns:0.2",), ("top:0.6", "returns:0.3"), ("top:0.5",)])
def test_a_weighted_stream_brings_each_row_as_often_as_its_weight_says(wide: Shards, words: tuple[str, ...]):
    found = source(wide, words, window=40)
    assert found.streams
    assert found.rows.cumulative_weights is None
    weight = per_row(words, wide)
    assert found.rows.total == round(weight.sum())
    scaled = weight * found.rows.total / weight.sum()
    together = np.zeros(wide.rows)
    for epoch in range(20):
        rows = epoch_of(found, epoch)
        assert len(rows) == found.rows.total
        times = np.bincount(number_of(rows, wide), minlength=wide.rows)
        assert (times >= np.floor(scaled - 1e-6)).all()
        assert (times <= np.ceil(scaled + 1e-6)).all()
        together += times
    np.testing.assert_allclose(together / 20, scaled, atol=5 * 0.5 / np.sqrt(20))
    assert together.sum() == 20 * found.rows.total


def test_a_weighted_window_slides_and_is_found_again(wide: Shards):
    words = ("top:0.6", "returns:0.3")
    found = source(wide, words, window=40)
    seen = [found.rows.data.clone()]
    while found.streamed < found.rows.total:
        position = found.slide(min(37, found.rows.total - found.streamed))
        seen.append(found.rows.data[position].clone())
    expected = number_of(epoch_of(found, 0), wide)
    assert sorted(number_of(torch.cat(seen), wide)) == sorted(expected)
    found.slide(30)  # into the next epoch
    again = source(wide, words, window=40)
    again.load(found.state())
    assert torch.equal(again.rows.data, found.rows.data)
    assert torch.equal(again.slide(25), found.slide(25))
    assert torch.equal(again.rows.data, found.rows.data)


def test_held_and_streamed_rows_agree_in_expectation(wide: Shards):
    words = ("returns:0.25",)
    resident, streamed = source(wide, words), source(wide, words, window=60)
    drawn = draw_offline(resident.rows, (400_000,), generator())
    one = np.bincount(number_of(resident.rows.data, wide)[drawn], minlength=wide.rows) / 400_000
    rows = torch.cat([epoch_of(streamed, epoch) for epoch in range(60)])
    other = np.bincount(number_of(rows, wide), minlength=wide.rows) / len(rows)
    np.testing.assert_allclose(one, other, atol=2e-3)
    episodes = np.repeat(np.arange(wide.episodes), wide.manifest.lengths)
    np.testing.assert_allclose(np.bincount(episodes, one), np.bincount(episodes, other), atol=5e-3)


def test_a_file_without_a_kept_episode_is_not_read(wide: Shards, monkeypatch: pytest.MonkeyPatch):
    weights = np.zeros(wide.episodes)
    weights[: wide.pieces[0].episodes.stop] = 1.0  # the first file has one row group
    read: list[Any] = []
    true = Shards.read
    monkeypatch.setattr(
        Shards, "read", lambda self, piece, *rest: read.append(piece) or true(self, piece, *rest)
    )
    transforms = Transforms.of(wide, IQL.Hyperparameters(normalise_obs=False))
    given = {"partition": (0, 1), "capacity": 0, "seed": 0, "device": CPU, "discount": 0.99, "budget": 10**9}
    found = OfflineRows(wide, IQL.columns, transforms, weights=weights, **given)  # type: ignore[arg-type]
    assert read == [wide.pieces[0]]
    assert found.rows.offline == wide.manifest.rows_per_file[0]
