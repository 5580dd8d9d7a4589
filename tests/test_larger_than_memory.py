"""Learning from data ten times as large as the memory that the process is allowed."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from linked import linked

from datasets_io import Episode, Source
from datasets_io.ingestion.ingest import ingest

pytestmark = pytest.mark.slow

WIDTH, ALLOWED = 1000, 600 * 2**20


class WideRows(Source):
    """20,000 rows of 1,000 numbers, of which little is left when they are compressed."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (WIDTH,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def episodes(self, part):
        rng = np.random.default_rng(0)
        for _ in range(40):
            obs = np.repeat(rng.normal(size=(501, 10)).round(1), WIDTH // 10, axis=1).astype(np.float32)
            yield Episode(obs, rng.uniform(-1, 1, (500, 2)), obs[:-1, 0], False)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """200 links to the same shard: 32 GB for a learner, on 300 kB of disk."""
    root = tmp_path_factory.mktemp("large")
    return linked(ingest(WideRows(), None, root, name="one"), root / "large", 200)


# The limit is on what the process may have written to (RLIMIT_DATA: heap, anonymous maps, stacks), whatever
# its libraries took before; an address-space limit would count the gigabytes that they only map.
LEARN = """
import resource, sys
import torch
from datasets_io import open_shards
from off2on.algorithms.iql import IQL
from off2on.training.metadata import _returns_to_go
from off2on.replay.transforms import Transforms

def held(kind="VmData"):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(kind))

data, allowed, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
limit = held() + allowed
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
shards = open_shards(data)
config = IQL.configure(data).data(memory_budget=budget).offline(1000)
config.training(hidden=(32, 32), threads=1, updates_per_call=100)
with config.build_algo() as algo:
    for _ in range(2):
        algo.train()
    _returns_to_go(shards, Transforms.of(shards, config.resolved.hp), 0.99)
    rows = algo.learner_group._learner.rows
    print(algo.updates, limit, 4 * rows.layout.width * rows.total, rows.offline, held("VmHWM"))
"""


def learn(shards, budget):
    command = [sys.executable, "-c", LEARN, str(shards.path), str(ALLOWED), str(budget)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA binds on Linux alone")
def test_a_learner_learns_from_ten_times_its_memory(large):
    done = learn(large, 150 * 2**20)
    assert done.returncode == 0, done.stderr[-2000:]
    updates, limit, size, window, peak = map(int, done.stdout.split()[-5:])
    assert updates == 200
    assert size >= 10 * limit > 10 * peak
    assert window * 4 * (2 * WIDTH + 4) == pytest.approx(150 * 2**20, rel=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA binds on Linux alone")
def test_the_limit_is_one(large):
    done = learn(large, 2 * ALLOWED)
    assert done.returncode != 0
    assert "allocate memory" in done.stderr
