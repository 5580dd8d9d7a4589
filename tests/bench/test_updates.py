"""Gradient updates per second against d3rlpy, and what going through RLlib costs.

d3rlpy pins another gymnasium, so it lives in a Python of its own: `make bench` makes one.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.bench.harness import Worker, in_turns, report

PEERS = os.environ.get("OFF2ON_PEERS_PYTHON")
AIMS = {"td3_bc": 2.0, "iql": 2.0, "cql": 1.3}
UPDATES = {"td3_bc": 300, "iql": 300, "cql": 20}

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def columns(halfcheetah, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "columns.npz"
    names = ["obs", "actions", "rewards", "terminateds", "truncateds"]
    np.savez(path, **halfcheetah.read_all(names))
    return path


@pytest.mark.skipif(PEERS is None, reason="no Python with d3rlpy: run `make bench`")
@pytest.mark.parametrize("name", AIMS)
def test_updates_per_second_against_d3rlpy(name, halfcheetah, columns):
    with (
        Worker("worker_off2on.py", name, halfcheetah.path, "train") as ours,
        Worker("worker_d3rlpy.py", name, columns, python=str(PEERS)) as peer,
    ):
        ratio = in_turns(ours, peer, UPDATES[name])
    report(f"updates {name} / d3rlpy", ratio, [AIMS[name]])
    assert ratio.middle > 1


@pytest.mark.parametrize("name", AIMS)
def test_what_training_through_rllib_costs(name, halfcheetah):
    with (
        Worker("worker_off2on.py", name, halfcheetah.path, "train") as ours,
        Worker("worker_off2on.py", name, halfcheetah.path, "bare") as bare,
    ):
        ratio = in_turns(ours, bare, max(50, UPDATES[name]))
    report(f"updates {name}: train() / bare loop", ratio, [0.95])
    assert ratio.middle > 0.8
