"""Before and around the updates: the start of a run with and without a Ray, one call of train(), --help."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.rllib.learner import RecipeLearner

pytestmark = pytest.mark.bench

TURNS = 5

RUN = """
import sys, time
from off2on.training.plan import Plan
from off2on.training.process import ray_started
from off2on.training.train import train
from off2on.rllib.learner import RecipeLearner

def advance(learner, updates, made=RecipeLearner.advance):
    metrics = made(learner, updates)
    with open(sys.argv[2], "a") as file:
        print(time.time(), file=file)
    return metrics

RecipeLearner.advance = advance
plan = Plan("iql", sys.argv[1], updates=1, eval_episodes=1, threads=1, out=sys.argv[2] + ".run")
with ray_started(None, int(sys.argv[3])):
    train(plan)
"""
"""A run of one update; writes the time after it into a file. With 1 as its last word it starts a Ray."""


@dataclass(frozen=True)
class Start:
    """Start of a run: seconds to the first update, and the largest memory (MB) and number of processes."""

    seconds: float
    megabytes: float
    processes: int


def started(data: str | Path, file: Path, ray: bool, **variables: str) -> Start:
    """Make a run of one update and watch its processes, from the first to the last."""
    begun, megabytes, processes = time.time(), 0.0, 0
    command = [sys.executable, "-c", RUN, str(data), str(file), str(int(ray))]
    null = subprocess.DEVNULL
    with subprocess.Popen(command, env=os.environ | variables, stdout=null, stderr=null) as process:
        while process.poll() is None:
            tree = descendants(process.pid)
            megabytes = max(megabytes, sum(map(resident, tree)))
            processes = max(processes, len(tree))
            time.sleep(0.1)
    assert process.returncode == 0
    return Start(float(file.read_text().split()[0]) - begun, megabytes, processes)


def descendants(root: int) -> list[int]:
    """Return a process and all below it."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found = [root]
    for one in found:
        found += [process for process, parent in parents.items() if parent == one]
    return found


def resident(process: int) -> float:
    """Return the MB of a process, its share of what several have in common counted once."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def test_the_start_of_a_run(halfcheetah: Shards, tmp_path: Path):
    made: dict[bool, list[Start]] = {False: [], True: []}
    for turn in range(TURNS + 1):
        for ray in made:
            start = started(halfcheetah.path, tmp_path / f"{turn}-{ray}", ray)
            if turn:  # the first turn reads the modules from the disk
                made[ray].append(start)
    for ray, starts in made.items():
        seconds, megabytes, processes = (
            median(getattr(start, name) for start in starts) for name in ("seconds", "megabytes", "processes")
        )
        name = f"start, {'with a' if ray else 'no'} Ray"
        print(f"{name:<34} {seconds:.1f} s to the first update  {megabytes:,.0f} MB  {processes:g} processes")
    assert all(start.processes <= 2 for start in made[False])  # the second is a short-lived one, if any
    assert median(start.megabytes for start in made[False]) < median(s.megabytes for s in made[True])


@pytest.mark.parametrize("recipe", [BC, IQL])
def test_one_update_in_a_call_of_train(recipe: type, halfcheetah: Shards):
    config = recipe.configure(halfcheetah.path).offline(1_000_000)  # type: ignore[attr-defined]
    with config.training(threads=1, updates_per_call=1).build_algo() as algo:
        (learner,) = algo.call_learners(_itself)
        for _ in range(200):
            algo.train()
        over = [cpu(algo.train, 100) - cpu(lambda: learner.advance(1), 100) for _ in range(TURNS)]
    print(f"train() over the update, {recipe.__name__:<9} {median(over):.2f} ms of CPU  aim ≤ 2")


def _itself(learner: RecipeLearner) -> RecipeLearner:
    return learner


def cpu(function: Callable[[], object], calls: int) -> float:
    """Return the median milliseconds of CPU time of this thread in a call."""
    taken = []
    for _ in range(calls):
        begun = time.thread_time()
        function()
        taken.append(time.thread_time() - begun)
    return 1000 * median(taken)


def test_help():
    command = [sys.executable, "-c", "import sys; from off2on.cli import main; sys.exit(main())", "--help"]
    taken = []
    for _ in range(2 * TURNS):
        begun = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        taken.append(time.perf_counter() - begun)
        assert "train" in done.stdout
    print(f"{'off2on --help':<34} {median(taken):.2f} s, at best {min(taken):.2f} s  aim ≤ 0.2")
