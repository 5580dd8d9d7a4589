"""Check the inputs of a diagnosis: blocks of rows, samples and windows, and sources that fail."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_walks import Lab, blocks_of, diagnose, only, random_walks

from datasets_io import Episode
from datasets_io.diagnosis.blocks import shard_blocks
from datasets_io.diagnosis.sample import Reservoir, WindowSampler, spread_columns
from datasets_io.diagnosis.summary import EpisodeTableBuilder
from datasets_io.errors import Corrupt
from datasets_io.ingestion.ingest import ingest


def test_a_block_has_rows_and_next_observations() -> None:
    one = Episode(np.arange(4.0), np.zeros((3, 1)), np.ones(3), terminated=True, row=10)
    other = Episode(np.array([7.0, 8.0]), np.zeros((2, 1)), np.ones(2), terminated=False, row=20)
    (block,) = blocks_of([one, other])
    assert block.row.tolist() == [10, 11, 12, 20, 21]
    assert block.episode.tolist() == [0, 0, 0, 1, 1]
    assert block.last.tolist() == [False, False, True, False, True]
    new_obs, known = block.new_obs
    assert known.tolist() == [True, True, True, True, False]
    assert new_obs[known, 0].tolist() == [1, 2, 3, 8]


def test_shards_give_the_blocks_of_their_source(tmp_path: Path) -> None:
    episodes = random_walks([30, 50, 20, 70])
    shards = ingest(Lab(episodes), None, tmp_path, name="lab", rows_per_shard=60)
    assert len(shards.files) > 1
    for name in ("obs", "actions", "rewards", "row"):
        ours, theirs = (
            np.concatenate([getattr(block, name) for block in blocks])
            for blocks in (shard_blocks(shards), blocks_of(episodes))
        )
        assert np.array_equal(ours, theirs), name
    tables = []
    for blocks in (shard_blocks(shards), blocks_of(episodes)):
        table = EpisodeTableBuilder()
        for block in blocks:
            table.add(block)
        tables.append(table.build())
    for name, values in vars(tables[0]).items():
        assert np.allclose(values, getattr(tables[1], name)), name


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 200))
def test_a_sample_is_the_same_however_the_data_are_cut(lengths: list[int], capacity: int) -> None:
    episodes = random_walks(lengths)
    whole, single = WindowSampler(capacity), WindowSampler(capacity)
    for block in blocks_of(episodes):
        whole.add(block)
    for episode in episodes:
        for block in blocks_of([episode]):
            single.add(block)
    one, other = whole.windows(), single.windows()
    assert one is not None
    assert other is not None
    assert len(one) == min(sum(lengths), capacity)
    assert np.array_equal(np.sort(one.rewards), np.sort(other.rewards))
    assert np.array_equal(one.episode, other.episode)


def test_a_window_holds_the_rows_around_its_own() -> None:
    count = Episode(np.arange(6.0), np.arange(5.0) / 10, np.arange(5.0), terminated=True)
    (block,) = blocks_of([count])
    sampler = WindowSampler()
    sampler.add(block)
    windows = sampler.windows()
    assert windows is not None
    assert windows.obs[2, :, 0].tolist() == [1, 2, 3, 4]
    assert windows.actions[2, :, 0] == pytest.approx([0.1, 0.2, 0.3])
    assert windows.has.tolist() == [[row > 0, True, True, row < 4] for row in range(5)]
    assert windows.terminal.tolist() == [False] * 4 + [True]


def test_a_reservoir_is_uniform() -> None:
    kept = np.zeros(100)
    for seed in range(200):
        reservoir = Reservoir(10, seed)
        for start in range(0, 100, 7):
            rows, keys = reservoir.choose(np.arange(start, min(start + 7, 100)))
            reservoir.add(keys, {"row": rows})
        kept[reservoir.columns()["row"]] += 1
    assert kept.sum() == 2000
    assert abs(kept[:50].sum() - 1000) < 100  # 4.5 standard deviations
    assert kept.max() < 45


def test_columns_of_wide_rows_are_evenly_spread() -> None:
    assert spread_columns(5).tolist() == [0, 1, 2, 3, 4]
    assert spread_columns(28_224)[[0, -1]].tolist() == [0, 28_223]
    assert len(spread_columns(28_224)) == 64


def test_a_malformed_episode_is_reported_and_the_others_are_checked() -> None:
    short = Episode(np.zeros((3, 2)), np.zeros((5, 2)), np.zeros(5), terminated=False, row=77)
    wide = Episode(np.zeros((6, 3)), np.zeros((5, 2)), np.zeros(5), terminated=False, row=99)
    diagnosis = diagnose([*random_walks([50] * 10), short, wide])
    assert diagnosis.summary is not None
    assert diagnosis.summary.rows == 500
    assert diagnosis.count("error") == 2
    texts = {finding.rows: finding.what for finding in diagnosis.findings if finding.check == "schema"}
    assert "5 actions and 3 observations" in texts[(77,)]
    assert "1 episodes differ in width" in texts[(99,)]


def test_a_source_that_fails_is_an_error_and_the_episodes_before_are_checked() -> None:
    diagnosis = diagnose([*random_walks([20] * 3), Corrupt("trips.bag is cut short.", "It ends at byte 12.")])
    assert only(diagnosis, "schema").what == "trips.bag is cut short"
    assert diagnosis.summary is None or diagnosis.summary.rows == 0 or diagnosis.count("error") == 1
    nothing = diagnose([Corrupt("trips.bag is no bag.")])
    assert nothing.summary is None
    assert nothing.to_json()["rows"] == 0
