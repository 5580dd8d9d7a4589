"""Rows per second into shards, against reading the same file with h5py and writing it with minari."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from harness import in_turns, report

from datasets_io.d4rl import D4RL
from datasets_io.ingest import ingest

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.bench


def timed(work):
    def run(_: int) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


@pytest.fixture
def ours(halfcheetah_file, tmp_path):
    count = iter(range(1000))

    def work() -> None:
        name = f"halfcheetah-medium-{next(count)}"
        ingest(D4RL(env="HalfCheetah-v5"), halfcheetah_file, tmp_path, name=name)

    return timed(work)


def test_ingestion_against_reading_with_h5py(ours, halfcheetah, halfcheetah_file):
    def read() -> None:
        with h5py.File(halfcheetah_file) as file:
            for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
                np.asarray(file[name])

    report("ingested rows / h5py read", in_turns(ours, timed(read), halfcheetah.rows))


@pytest.mark.filterwarnings("ignore::UserWarning:minari")  # about links it would like to have
def test_ingestion_against_writing_with_minari(ours, halfcheetah, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from minari.data_collector.episode_buffer import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    columns = halfcheetah.read_all(["obs", "actions", "rewards", "last", "new_obs"])
    bounds = [0, *(np.flatnonzero(columns["last"]) + 1)]
    count = iter(range(1000))

    def write() -> None:
        buffers = [
            EpisodeBuffer(
                id=number,
                observations=np.concatenate([columns["obs"][a:b], columns["new_obs"][b - 1 : b]]),
                actions=columns["actions"][a:b],
                rewards=columns["rewards"][a:b].astype(np.float64),
                terminations=np.zeros(b - a, bool),
                truncations=np.arange(a, b) == b - 1,
            )
            for number, (a, b) in enumerate(pairwise(bounds))
        ]
        minari.create_dataset_from_buffers(
            f"bench/cheetah-{next(count)}-v0",
            buffers,
            observation_space=halfcheetah.observation_space,
            action_space=halfcheetah.action_space,
        )

    report("ingested rows / minari write", in_turns(ours, timed(write), halfcheetah.rows, rounds=3))


def test_reading_shards_against_h5py(halfcheetah, halfcheetah_file):
    def shards() -> None:
        halfcheetah.read_all(["obs", "actions", "rewards", "new_obs", "terminateds"])

    def plain() -> None:
        with h5py.File(Path(halfcheetah_file)) as file:
            for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
                np.asarray(file[name])

    report("rows read from shards / h5py", in_turns(timed(shards), timed(plain), halfcheetah.rows))
