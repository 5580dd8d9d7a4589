"""Gradient updates per second against d3rlpy, and what going through RLlib costs.

Every side runs in a process of its own, with the threads it chooses by default.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from harness import Worker, in_turns, report

AIMS = {"td3_bc": 2.0, "iql": 2.0, "cql": 1.3}
UPDATES = {"td3_bc": 200, "iql": 200, "cql": 15}

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def columns(halfcheetah, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "columns.npz"
    names = ["obs", "actions", "rewards", "terminateds", "truncateds"]
    np.savez(path, **halfcheetah.read_all(names))
    return path


@pytest.mark.skipif(find_spec("d3rlpy") is None, reason="d3rlpy is not installed: make bench")
@pytest.mark.parametrize("name", AIMS)
def test_updates_per_second_against_d3rlpy(name, halfcheetah, columns):
    with (
        Worker("worker_off2on.py", name, halfcheetah.path, "train") as ours,
        Worker("worker_d3rlpy.py", name, columns) as peer,
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
