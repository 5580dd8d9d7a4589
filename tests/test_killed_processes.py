"""Learners that are killed: the run goes on by itself, from its last checkpoint to its end."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

OFF2ON = Path(sys.executable).with_name("off2on")
PATIENCE = 300
CLOCK = {"wall_s", "updates_per_s", "steps_per_s"}


def learners(data: Path) -> list[int]:
    """The learner processes among those that were told of this data root, by the name of RLlib's actor."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name, told = (place / "cmdline").read_text(), (place / "environ").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if name.startswith("ray::_WrappedExecutable") and str(data) in told:
            found.append(int(place.name))
    return found


def metrics(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_whose_learner_is_killed_goes_on_by_itself(tmp_path: Path, data_root: Path, count: int):
    words = ["train", "iql", "toy-pendulum", "hidden=16,16", "batch_size=16", "--threads", "1"]
    words += ["--updates", "3000", "--eval-every", "500", "--eval-episodes", "1", "--learners", str(count)]
    words += ["--online", "500", "--strategy", "append"]
    run = tmp_path / "runs/toy-pendulum/iql-append-s0"
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [OFF2ON, *words], cwd=tmp_path, env=os.environ | {"OFF2ON_DATA": str(data_root)},
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while len(metrics(run)) < 2 and time.monotonic() < deadline:
                time.sleep(0.1)
            there = learners(data_root)
            assert len(there) == count
            os.kill(there[0], signal.SIGKILL)
            assert process.wait(PATIENCE) == 0, (tmp_path / "said").read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told = (tmp_path / "said").read_text()
    assert "a learner died; going on from the last checkpoint (1 of 3 times)" in told
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "finished"
    rows = metrics(run)
    assert [int(row["updates"]) for row in rows if row["side"] == "offline"] == list(range(500, 3001, 500))
    assert int(rows[-1]["env_steps"]) == 500
    assert int(rows[-1]["updates"]) == 3500
