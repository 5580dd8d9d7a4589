"""Where nothing is remote, no Ray is started, and the numbers are those of a run with Ray."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import whole_runs

from datasets_io import Shards
from off2on.policy import load_policy
from off2on.training.cluster.preflight import remote_processes
from off2on.training.plan import Plan
from off2on.training.process import ray_started

CLOCKS = {"wall_s", "updates_per_s", "steps_per_s"}
RAY = ("raylet", "gcs_server", "local_ray.py", "/ray/")
"""Parts of the commands of Ray's processes, and of the one that watches a local Ray."""

RUN = """
import json, sys
sys.path.append(sys.argv[2])
started = []
sys.addaudithook(lambda event, words: started.append(str(words)) if event == "subprocess.Popen" else None)
import ray
from off2on.algorithms.iql import IQL
from whole_runs import interrupted_and_resumed
interrupted_and_resumed(sys.argv[1])
assert not ray.is_initialized(), "by a run"
config = IQL.configure("toy-pendulum").training(hidden=(16, 16), batch_size=16, threads=1)
config = config.offline(5).online(20, warm_up=10, rollout=10)
with config.build_algo() as algo:
    while not algo.finished:
        algo.train()
    algo.evaluate()
    folder = algo.save_to_path(sys.argv[1] + "/checkpoint")
with config.copy(copy_frozen=False).build_algo() as algo:
    algo.restore_from_path(folder)
    assert algo.finished
with type(algo).from_checkpoint(folder) as algo:
    assert algo.finished
assert not ray.is_initialized(), "by an algorithm"
print(json.dumps(started))
"""
"""A run, and a script with an algorithm; prints the processes that were started."""


def numbers(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: row[name] for name in row.keys() - CLOCKS} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_in_one_process_starts_no_ray_and_has_the_numbers_of_one_with_ray(
    toy: Shards, ray_session: None, tmp_path: Path
):
    command = [sys.executable, "-c", RUN, str(tmp_path / "without"), str(Path(whole_runs.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in names if any(word in name for word in RAY)] == []
    (without,) = (tmp_path / "without").glob("*/*/report.html")
    with_ray = whole_runs.interrupted_and_resumed(tmp_path / "with")
    assert [row["side"] for row in numbers(with_ray)] == ["offline", "handover", *["online"] * 3]
    assert numbers(without.parent) == numbers(with_ray)
    assert (without.parent / "episodes.csv").read_text() == (with_ray / "episodes.csv").read_text()
    ours, theirs = (load_policy(run / "policy.pt").state_dict() for run in (without.parent, with_ray))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 0),
        ({"workers": 2}, 0),  # collect nothing: the run is offline
        ({"workers": 2, "online": 10}, 2),
        ({"workers": 2, "online": 10, "new_data": "toy-pendulum"}, 0),
        ({"learners": 1}, 1),
        ({"learners": 2, "workers": 3, "online": 10}, 5),
    ],
)
def test_processes_that_ray_starts_are_counted(options: dict[str, Any], count: int):
    assert remote_processes(Plan("iql", "toy-pendulum", **options)) == count


def test_a_local_ray_is_started_for_processes_alone(monkeypatch: pytest.MonkeyPatch):
    begun: list[int] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have one
    monkeypatch.setattr(
        "off2on.training.process.start_ray", lambda **options: begun.append(options["num_cpus"])
    )
    monkeypatch.setattr("off2on.training.process.stop_ray", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_started(None, 0):
        assert begun == []
    with ray_started(None, 100):
        assert begun == [101]
