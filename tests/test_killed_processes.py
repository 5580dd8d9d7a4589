"""Learners that are killed: the run goes on by itself, from its last checkpoint to its end."""

import csv
import os
import signal
from pathlib import Path

import forked
import pytest
import yaml
from forked import Forked
from processes import wait_for

pytestmark = pytest.mark.slow

PATIENCE = 300


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


def marks(run: Path, side: str, counter: str) -> list[int]:
    """Where the run was evaluated on this side."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [int(row[counter]) for row in csv.DictReader(file) if row["side"] == side]


@pytest.mark.parametrize(
    ("count", "side", "beside"),
    # Offline, see test_cluster.py: two learners that lose a node.
    [(2, "online", []), (1, "online", ["--workers", "1", "--asynchronous"])],
    ids=["one of two online", "one online beside a runner"],
)
def test_a_run_whose_learner_is_killed_goes_on_by_itself(
    tmp_path: Path, data_root: Path, count: int, side: str, beside: list[str]
):
    words = ["train", "iql", "toy-pendulum", "hidden=16,16", "batch_size=16", "--threads", "1"]
    words += ["--updates", "400", "--eval-every", "200", "--eval-episodes", "1", "--learners", str(count)]
    words += ["--online", "800", "--strategy", "append", *beside]
    run = tmp_path / "runs/toy-pendulum/iql-append-s0"
    with Forked(tmp_path, *words, env=os.environ | {"OFF2ON_DATA": str(data_root)}) as process:
        wait_for(lambda: len(marks(run, side, "updates")) >= 2, process, PATIENCE)
        there = learners(data_root)
        assert len(there) == count
        os.kill(there[0], signal.SIGKILL)
        _, told = process.communicate(PATIENCE)
        assert process.returncode == 0, told
    assert "a learner died; continuing from the last checkpoint (1 of 3 times)" in told
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "finished"
    assert marks(run, "offline", "updates") == [200, 400]
    assert marks(run, "online", "env_steps") == [1, 200, 400, 600, 800]
    assert marks(run, "online", "updates") == [401, 600, 800, 1000, 1200]


@pytest.mark.parametrize("learners", ["0", "1"])
def test_a_loss_that_fails_is_no_learner_that_died(tmp_path: Path, data_root: Path, learners: str):
    (tmp_path / "sharp.py").write_text(
        "from off2on.algorithms.iql import IQL\n\n\n"
        "class Sharp(IQL):\n"
        '    """IQL whose actor has no loss."""\n\n'
        "    @classmethod\n"
        "    def compute_actor_loss(cls, nets, batch, hp):\n"
        '        raise ValueError("no such loss")\n'
    )
    words = ["train", "sharp:Sharp", "toy-pendulum", "hidden=16,16", "batch_size=16", "--threads", "1"]
    words += ["--updates", "100", "--learners", learners, "--out", "runs"]
    done = forked.run(tmp_path, *words, env=os.environ | {"OFF2ON_DATA": str(data_root)}, timeout=PATIENCE)
    assert done.returncode == 2
    assert f"error: {tmp_path}/sharp.py:9: ValueError: no such loss\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "died" not in done.stderr
    (log,) = tmp_path.glob("runs/**/log.txt")
    assert all(words in log.read_text() for words in ("Traceback", "compute_actor_loss", "no such loss"))
