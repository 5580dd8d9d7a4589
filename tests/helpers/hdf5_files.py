"""HDF5 files of recorded data, right but for what a test changes."""

import h5py
import numpy as np

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL

N = 40


def columns(n=N, **changes):
    rng = np.random.default_rng(0)
    values = {
        "observations": rng.normal(size=(n, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 1)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 10 == 9,
    } | changes
    return {name: column for name, column in values.items() if column is not None}


def write(path, values):
    with h5py.File(path, "w") as file:
        for name, column in values.items():
            if callable(column):
                column(file, name)
            else:
                file[name] = column
    return path


def add(folder, values, source=None, name="made", **options):
    return ingest(source or D4RL(), write(folder / "x.hdf5", values), folder, name=name, **options)


def bits(kind):
    return np.zeros(N, kind)


def padded(**changes):
    values = columns(terminals=np.arange(N) % 10 == 9, timeouts=None)
    return {name: column.reshape(4, 10, *column.shape[1:]) for name, column in values.items()} | changes
