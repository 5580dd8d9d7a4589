"""Rows per second into and out of shards against h5py, minari, pandas; batches per second against d3rlpy."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from harness import in_turns, report

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.tabular import Table
from off2on.algorithms.iql import IQL
from off2on.replay.offline_rows import OfflineRows
from off2on.replay.strategy import Options
from off2on.replay.transforms import Transforms
from off2on.strategies.append import Append

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.bench

WHOLE = ["obs", "actions", "rewards", "new_obs", "terminateds"]
SPACES = {"obs": 17, "actions": 6}
HDF5_COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def timed(work):
    def run(_: int) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def ingesting(file: Path, folder: Path):
    count = iter(range(1000))

    def work() -> None:
        ingest(D4RL(env="HalfCheetah-v5"), file, folder, name=f"halfcheetah-medium-{next(count)}")

    return timed(work)


def repeated(file: Path, copies: int, folder: Path) -> Path:
    """Write a file with the rows of another several times, in the same chunks and compression."""
    large = folder / f"times-{copies}.hdf5"
    with h5py.File(file) as small, h5py.File(large, "w") as written:
        for name in HDF5_COLUMNS:
            one = small[name]
            stored = {"chunks": one.chunks, "compression": one.compression}
            written.create_dataset(
                name, data=np.concatenate([one] * copies), compression_opts=one.compression_opts, **stored
            )
    return large


@pytest.mark.parametrize("copies", [1, 10])  # 10: a million rows, as in most files of D4RL
def test_ingestion_against_reading_with_h5py(copies, halfcheetah, halfcheetah_file, tmp_path):
    file = halfcheetah_file if copies == 1 else repeated(halfcheetah_file, copies, tmp_path)

    def read() -> None:
        with h5py.File(file) as opened:
            for name in HDF5_COLUMNS:
                np.asarray(opened[name])

    rows = copies * halfcheetah.rows
    report(f"ingested / h5py read, {rows:,} rows", in_turns(ingesting(file, tmp_path), timed(read), rows))


@pytest.fixture
def write_with_minari(halfcheetah, tmp_path, monkeypatch):
    """write(): the same episodes as a data set of minari."""
    minari = pytest.importorskip("minari")
    from minari.data_collector.episode_buffer import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    columns = halfcheetah.read_all(["obs", "actions", "rewards", "last", "new_obs"])
    bounds = [0, *(np.flatnonzero(columns["last"]) + 1)]
    count = iter(range(1000))

    def write():
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
        return minari.create_dataset_from_buffers(
            f"bench/cheetah-{next(count)}-v0",
            buffers,
            observation_space=halfcheetah.observation_space,
            action_space=halfcheetah.action_space,
        )

    return write


MINARI_LINKS = "ignore::UserWarning:minari"  # about links it would like to have


@pytest.mark.filterwarnings(MINARI_LINKS)
def test_ingestion_against_writing_with_minari(halfcheetah, halfcheetah_file, write_with_minari, tmp_path):
    ratio = in_turns(
        ingesting(halfcheetah_file, tmp_path), timed(write_with_minari), halfcheetah.rows, rounds=3
    )
    report("ingested rows / minari write", ratio)


@pytest.mark.filterwarnings(MINARI_LINKS)
def test_reading_shards_against_minari(halfcheetah, write_with_minari):
    dataset = write_with_minari()

    def read() -> None:
        for episode in dataset.iterate_episodes():
            np.asarray(episode.observations), np.asarray(episode.actions), np.asarray(episode.rewards)

    ratio = in_turns(timed(lambda: halfcheetah.read_all(WHOLE)), timed(read), halfcheetah.rows)
    report("rows read from shards / minari", ratio)


@pytest.fixture
def table(halfcheetah, tmp_path):
    """The rows as CSV, one column for each number."""
    columns = halfcheetah.read_all(["obs", "actions", "rewards", "last"])
    frame = pd.DataFrame(columns["obs"], columns=[f"o{i}" for i in range(17)])
    frame[[f"a{i}" for i in range(6)]] = columns["actions"]
    frame["r"], frame["last"] = columns["rewards"], columns["last"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_a_table_against_reading_it_with_pandas(table, halfcheetah, tmp_path):
    count = iter(range(1000))
    names = {role: ",".join(f"{role[0]}{i}" for i in range(width)) for role, width in SPACES.items()}
    source = Table(f"obs={names['obs']} actions={names['actions']} rewards=r truncated=last")
    ours = timed(lambda: ingest(source, table, tmp_path, name=f"table-{next(count)}"))
    ratio = in_turns(ours, timed(lambda: pd.read_csv(table)), halfcheetah.rows, rounds=3)
    report("ingested CSV rows / pandas read", ratio)


def test_reading_shards_against_pandas(halfcheetah):
    def read() -> None:
        frame = pd.read_parquet(halfcheetah.files[0], columns=["obs", "actions", "rewards", "terminateds"])
        np.stack(frame["obs"]), np.stack(frame["actions"])

    ratio = in_turns(timed(lambda: halfcheetah.read_all(WHOLE)), timed(read), halfcheetah.rows)
    report("rows read from shards / pandas", ratio)


def test_batches_against_the_buffer_of_d3rlpy(halfcheetah):
    d3rlpy = pytest.importorskip("d3rlpy")
    names = ["obs", "actions", "rewards", "terminateds", "truncateds"]
    peer = d3rlpy.dataset.MDPDataset(*halfcheetah.read_all(names).values())
    transforms = Transforms.of(halfcheetah, IQL.Hyperparameters())
    source = OfflineRows(
        halfcheetah,
        IQL.columns,
        transforms,
        discount=0.99,
        budget=2**30,
        capacity=0,
        partition=(0, 1),
        device=torch.device("cpu"),
        seed=0,
    )
    strategy, generator = Append(source.rows, Options()), torch.Generator().manual_seed(0)

    def draw() -> None:
        for _ in range(40):
            for _batch in source.rows.batches_at(strategy.draw(50, 256, generator)):
                pass

    def sample() -> None:
        for _ in range(20):
            peer.sample_transition_batch(256)

    once = timed(draw)
    ratio = in_turns(lambda _: once(0) / 100, timed(sample), 20)  # 2,000 batches against 20
    report("batches drawn / d3rlpy's buffer", ratio)


def test_reading_shards_against_h5py(halfcheetah, halfcheetah_file):
    def plain() -> None:
        with h5py.File(Path(halfcheetah_file)) as file:
            for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
                np.asarray(file[name])

    report(
        "rows read from shards / h5py",
        in_turns(timed(lambda: halfcheetah.read_all(WHOLE)), timed(plain), halfcheetah.rows),
    )
