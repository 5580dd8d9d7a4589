"""Kill `train`, `tune` and `compare` at random moments, and run them again: the same, bit for bit."""

import csv
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from killed_ray import nothing_left, ray_folder, shared_memory
from kills import KILLS, OFF2ON, Ended, moments, run
from processes import runs_in

from off2on.policy import load_policy
from off2on.runs.record import load_run

pytestmark = [pytest.mark.crash, pytest.mark.timeout(KILLS * 600)]

MEASURED = ("updates_per_s", "steps_per_s", "wall_s")
"""Columns of metrics.csv that depend on the clock."""
SMALL = "hidden=16,16 batch_size=16 --eval-episodes 1 --threads 1"
TRAIN = f"train iql toy-pendulum {SMALL} --updates 6000 --online 1500 --eval-every 500 --strategy symmetric"
TUNE = """\
algorithm: iql
data: toy-pendulum
updates: 300
eval_every: 100
eval_episodes: 1
online: 200
strategy: symmetric
seeds: 1
trials: 2
maximise: final_score
with: {hidden: [16, 16], batch_size: 16}
search:
  expectile: {between: [0.5, 0.95]}
"""
COMPARE = f"""\
out: runs/ways
seeds: 1
handovers:
  iql: iql toy-pendulum {SMALL} --updates 300 --eval-every 100
online: --online 300 --eval-every 100 --eval-episodes 1 --threads 1
variants:
  symmetric: --strategy symmetric
  append: --strategy append
"""
COMMANDS = {
    "train": (TRAIN.split(), ["--resume"]),
    "tune": (["tune", "tune.yaml"], ["--resume"]),
    "compare": (["compare", "compare.yaml"], []),
}


@pytest.fixture
def temporary() -> Iterator[Path]:
    with ray_folder() as folder:
        yield folder


def numbers(folder: Path) -> dict[str, tuple[list[dict[str, str]], dict[str, bytes]]]:
    """Return the rows of metrics.csv and the weights of the policy of each run, by its path."""
    found = {}
    for place in runs_in(folder):
        assert load_run(place).status == "finished", place
        with (place / "metrics.csv").open(newline="") as file:
            rows = [
                {name: value for name, value in row.items() if name not in MEASURED}
                for row in csv.DictReader(file)
            ]
        weights = load_policy(place / "policy.pt").state_dict()
        assert weights
        held = {name: bytes(value.cpu().numpy().tobytes()) for name, value in weights.items()}
        found[str(place.relative_to(folder))] = (rows, held)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command(tmp_path: Path, data_root: Path, temporary: Path, command: str):
    words, resume = COMMANDS[command]

    def off2on(folder: Path, *more: str, after: float | None = None) -> Ended:
        folder.mkdir(exist_ok=True)
        (folder / "tune.yaml").write_text(TUNE)
        (folder / "compare.yaml").write_text(COMPARE)
        environment = {"OFF2ON_DATA": str(data_root), "RAY_TMPDIR": str(temporary)}
        return run([OFF2ON, *words, *more], folder, environment, after)

    before = shared_memory()
    whole = off2on(tmp_path / "whole")
    assert whole.code == 0, whole.output
    expected = numbers(tmp_path / "whole/runs")
    assert expected
    killed, stages = 0, []
    for number, moment in enumerate(moments(41, whole.seconds), 1):
        folder = tmp_path / str(number)
        ended = off2on(folder, after=moment)
        killed += ended.killed
        nothing_left(temporary, ended.mark, before)
        stages.append(stage(folder))
        again = off2on(folder, *(resume if os.path.exists(folder / "runs") else []))
        assert again.code == 0, (moment, again.output)
        nothing_left(temporary, again.mark, before)
        assert numbers(folder / "runs") == expected, moment
        shutil.rmtree(folder)
    sys.stdout.write(f"{command}: {killed} of {KILLS} killed, after {whole.seconds:.0f} s whole; {stages}\n")
    assert killed


def stage(folder: Path) -> str:
    """Return how far the runs of a killed command were."""
    said = []
    for place in runs_in(folder):
        metrics = place / "metrics.csv"
        last = metrics.read_text().splitlines()[-1].split(",")[:3] if metrics.exists() else ["no evaluation"]
        said.append(f"{place.name}: {','.join(last)}")
    return "; ".join(said) or "no run"
