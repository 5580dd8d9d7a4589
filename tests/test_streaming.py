"""Check training on data larger than memory: a window that slides over a shuffled stream."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from datasets_io import Episode, Shards, Source
from datasets_io.ingestion.ingest import ingest
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.strategy import Options
from off2on.replay.stream import EpochPiece, PieceReader, ShuffledStream
from off2on.replay.transforms import Transforms
from off2on.strategies.append import Append


def windowed(shards: Shards, rows: int, **options: Any) -> OfflineRows:
    given = {"partition": (0, 1), "capacity": 0, "seed": 0} | options
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
        source = windowed(wide, 100, partition=(rank, 2))
        seen = [source.rows.data.clone()]
        while source.streamed < source.rows.total:
            position = source.slide(min(100, source.rows.total - source.streamed))
            seen.append(source.rows.data[position].clone())
        shares.append(distinct(torch.cat(seen)))
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == distinct(windowed(wide, 10**6).rows.data)


def test_a_stream_resumes_without_reading_earlier_pieces(toy: Shards, monkeypatch: pytest.MonkeyPatch):
    source = windowed(toy, 50)
    source.slide(50)
    later = {"streamed": 1000 * toy.rows + 3900}
    read: list[Any] = []
    true = Shards.read
    monkeypatch.setattr(
        Shards, "read", lambda self, piece, *rest: read.append(piece) or true(self, piece, *rest)
    )
    source.load(later)
    # The newest rows of the window lie in the last of an epoch's four pieces; two more are read ahead.
    assert toy.pieces[source.stream.epoch(1000)[3].number] in read
    assert len(read) <= 3


# How far from uniform.

BATCH = 128


class Marked(Source):
    """Source of 400 episodes of 25 steps; a row holds its number, a value of its episode, and its step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def episodes(self, part: Any) -> Iterator[Episode]:
        constant = np.random.default_rng(0).normal(size=400)
        for number in range(400):
            obs = np.zeros((26, 3), np.float32)
            obs[:, 0], obs[:, 1] = np.arange(26) + 25 * number, constant[number]
            obs[:, 2] = obs[:, 0] / 10_000
            yield Episode(obs, np.zeros((25, 1)), np.zeros(25), terminated=True)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return ingest(Marked(), None, tmp_path_factory.mktemp("marked"), name="marked", rows_per_shard=100)


def batches(shards: Shards, window: int, epochs: int) -> Any:
    """Draw observations [n, BATCH, 3] as the learner does, two updates at a time."""
    transforms = Transforms.of(shards, BC.Hyperparameters(normalise_obs=False))
    source = OfflineRows(
        shards,
        BC.columns,
        transforms,
        discount=0.99,
        budget=4 * 4 * window,
        capacity=0,
        partition=(0, 1),
        device=torch.device("cpu"),
        seed=0,
    )
    strategy, generator = Append(source.rows, Options()), torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(epochs * shards.rows // (2 * BATCH)):
        source.slide(2 * BATCH)
        drawn.append(source.rows.rows_at(strategy.draw(2, BATCH, generator))[..., :3])
    return torch.cat(drawn).numpy()


def test_every_row_is_drawn_equally_often(marked: Shards):
    epochs = 40
    number = batches(marked, 1500, epochs)[..., 0].astype(int)
    times = np.bincount(number.ravel() // 25, minlength=400)
    expected = number.size / 400
    # Pearson's statistic by episodes: 1 for independent draws.
    assert ((times - expected) ** 2 / expected).mean() < 1.3
    assert np.abs(times / expected - 1).max() < 0.15
    assert np.bincount(number.ravel(), minlength=10_000).min() > 0


@pytest.mark.parametrize("window", [1000, 2500, 5000])
def test_a_batch_of_a_window_is_as_uniform_as_its_episodes_are_many(marked: Shards, window: int):
    """Compare the variance of a batch's mean with that of rows drawn uniformly from all data.

    The worst case is a column that is constant within an episode: rows of one episode are then equal. With w
    of N rows in the window and T rows per episode, the ratio is 1 + (B - 1) T/w (1 - w/N).
    """
    drawn = batches(marked, window, 30)
    uniform = marked.read_all(["obs"])["obs"].var(axis=0)[1:] / BATCH
    worst, drift = drawn.mean(axis=1)[:, 1:].var(axis=0) / uniform
    limit = 1 + (BATCH - 1) * 25 / window * (1 - window / marked.rows)
    assert worst < 1.5 * limit
    # Data that change from shard to shard do as little harm, because pieces come from everywhere: a window on
    # neighbouring shards would have a variance of up to 1 + (B - 1), 128 times that of uniform rows.
    pieces = 1 + (BATCH - 1) * 100 / window * (1 - window / marked.rows)
    assert drift < 1.5 * pieces < 64


def test_a_stream_may_be_dropped_in_the_thread_that_reads_it():
    """As the garbage collector does, which runs in any thread."""
    dropped, errors = threading.Event(), []

    class Reader:
        seed = 0

        def read_shuffled(self, piece: EpochPiece) -> torch.Tensor:
            if given.wait(0) and not dropped.is_set():
                try:
                    blocks.close()
                except RuntimeError as error:  # a thread cannot wait for itself
                    errors.append(error)
                dropped.set()
            return torch.zeros(1, 1)

    given = threading.Event()
    blocks = ShuffledStream(Reader(), [1] * 8, False)._endless(0)  # type: ignore[arg-type]
    next(blocks)
    given.set()
    pool = blocks.gi_frame.f_locals["pool"]  # type: ignore[attr-defined]
    pool.submit(blocks.gi_frame.f_locals["self"].reader.read_shuffled, None)  # type: ignore[attr-defined]
    assert dropped.wait(30)
    assert not errors


def own_rows(weights: Any, rank: int, world: int) -> list[int]:
    reader = SimpleNamespace(partition=(rank, world), weights=weights, _piece_weights=lambda _: weights)
    return PieceReader.own_part(reader, 0)[0].tolist()


@pytest.mark.parametrize("world", [2, 3, 5, 6, 7])
def test_every_weighted_row_belongs_to_one_learner(world: int):
    rng = np.random.default_rng(world)
    for _ in range(300):
        weights = rng.random(11)
        owned = [row for rank in range(world) for row in own_rows(weights, rank, world)]
        assert owned == list(range(11))
