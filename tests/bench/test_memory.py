"""Peak memory per million transitions of 17 + 6 numbers: of an ingest, of learning resident and streamed."""

import subprocess
import sys

import pytest
from linked import linked

pytestmark = pytest.mark.bench

INGEST = """
import resource, sys
import h5py, numpy as np, pandas, pyarrow.parquet
from datasets_io.sources.d4rl import D4RL
from datasets_io.ingestion.ingest import ingest
ingest(D4RL(env="HalfCheetah-v5"), sys.argv[1], sys.argv[2], name="warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = ingest(D4RL(env="HalfCheetah-v5"), sys.argv[3], sys.argv[2], name="large").rows
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
LEARN = """
import resource, sys
import ray
from datasets_io import open_shards
from off2on.algorithms.iql import IQL
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = IQL.configure(sys.argv[1]).data(memory_budget=int(sys.argv[2])).offline(1000)
with config.training(threads=1, updates_per_call=50).build_algo() as algo:
    algo.train()
print(open_shards(sys.argv[1]).rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown(code: str, *words: object) -> tuple[int, float]:
    """Rows, and MB by which the peak of the resident set grew."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    rows, kilobytes = map(int, done.stdout.split()[-2:])
    return rows, kilobytes / 1024


def told(name: str, rows: int, megabytes: float) -> None:
    print(f"{name:<34} {megabytes:>6.0f} MB more for {rows:,} rows more", flush=True)


def test_an_ingest(halfcheetah_file, tmp_path):
    import h5py
    import numpy as np

    large = tmp_path / "large.hdf5"
    with h5py.File(halfcheetah_file) as small, h5py.File(large, "w") as file:
        for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
            file[name] = np.concatenate([np.asarray(small[name])] * 10)
    rows, megabytes = grown(INGEST, halfcheetah_file, tmp_path, large)
    told("ingested", rows * 9 // 10, megabytes)
    assert megabytes < 40


@pytest.mark.parametrize(("name", "budget"), [("resident", 2**40), ("16 MB window", 2**24)])
def test_learning(name, budget, halfcheetah, tmp_path):
    small, large = (
        grown(LEARN, linked(halfcheetah, tmp_path / f"times-{copies}", copies).path, budget)
        for copies in (10, 40)
    )
    rows, megabytes = large[0] - small[0], large[1] - small[1]
    told(f"learned from, {name}", rows, megabytes)
    if name == "resident":
        assert megabytes < 200 * rows / 1e6  # 42 numbers of 4 bytes a row
    else:
        assert megabytes < 30
