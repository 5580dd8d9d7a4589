"""One process at a time trains a run; what a killed one leaves can be told from a run in training."""

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from forked import Forked
from processes import wait_for

from datasets_io.storage.locks import LockOwner, exclusive_lock, is_locked, lock_file
from off2on.errors import Exists
from off2on.runs.folder import refuse_existing
from off2on.runs.lock import has_stopped, lock_run, refuse_trained, wait_for_lock
from off2on.runs.record import load_run

WORDS = ["train", "iql", "toy-pendulum", "hidden=16,16", "batch_size=16", "--threads", "1"]
WORDS += ["--eval-episodes", "1", "--eval-every", "100", "--updates", "1M"]
PATIENCE = 200


@contextmanager
def command(folder: Path, *words: str) -> Iterator[Forked]:
    with Forked(folder, *words, env=os.environ) as process:
        yield process


def refused(folder: Path, *words: str) -> str:
    """Return what a command that is refused tells."""
    with command(folder, *words) as process:
        out, err = process.communicate(PATIENCE)
        assert (process.returncode, out) == (2, ""), err
    return err


def status(run: Path) -> str:
    return str(yaml.safe_load((run / "run.yaml").read_text())["status"])


def updates(run: Path) -> list[int]:
    return [int(line.split(",")[1]) for line in (run / "metrics.csv").read_text().splitlines()[1:]]


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_was_killed(tmp_path: Path, data_root: Path):
    run = tmp_path / "runs/toy-pendulum/iql-s0"
    with command(tmp_path, *WORDS) as first:
        wait_for((run / "metrics.csv").exists, first)
        first.send_signal(signal.SIGSTOP)  # it leaves the cores to the others; it holds its lock all the same
        for more in ([], ["--resume"], ["--resume", "--dry-run"], ["--seeds", "2", "--together", "--resume"]):
            told = refused(tmp_path, *WORDS, *more)
            assert f"runs/toy-pendulum/iql-s0 is being trained by process {first.pid} on " in told
            assert "(since 20" in told
            assert "--resume" not in told
        assert load_run(run).status == "running"
        with command(tmp_path, "report", str(run)) as reading:
            assert reading.wait(PATIENCE) == 0
        before = updates(run)[-1]
        first.send_signal(signal.SIGCONT)
        wait_for(lambda: updates(run)[-1] > before, first)
        first.send_signal(signal.SIGKILL)
        first.wait(PATIENCE)
    assert status(run) == "running"  # nobody could write that it is not
    assert load_run(run).status == "interrupted"
    told = refused(tmp_path, *WORDS)
    assert "iql-s0 exists, stopped without an end, started 20" in told
    assert told.splitlines()[-1].endswith("--resume")
    before = updates(run)[-1]
    with command(tmp_path, *WORDS, "--resume") as second:
        wait_for(lambda: updates(run)[-1] > before + 100, second)
        assert "is being trained" in refused(tmp_path, *WORDS, "--resume")
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE) == 130
    assert updates(run) == list(range(100, updates(run)[-1] + 1, 100))
    assert status(run) == "interrupted"
    assert not lock_file(run).exists()


@pytest.mark.slow
def test_two_that_begin_together_make_one_run(tmp_path: Path, data_root: Path):
    words = [*WORDS, "--updates", "1000"]
    with command(tmp_path, *words) as one, command(tmp_path, *words) as other:
        said = [process.communicate(PATIENCE)[1] for process in (one, other)]
        assert sorted([one.returncode or 0, other.returncode or 0]) == [0, 2], said
    run = tmp_path / "runs/toy-pendulum/iql-s0"
    assert (status(run), updates(run)) == ("finished", list(range(100, 1001, 100)))
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
def test_runs_that_train_together_are_locked_each(tmp_path: Path, data_root: Path):
    folder = tmp_path / "runs/toy-pendulum"
    with command(tmp_path, *WORDS, "--seeds", "2", "--together") as first:
        wait_for(lambda: (folder / "iql-s1/metrics.csv").exists(), first)
        for seed in ("0", "1"):
            told = refused(tmp_path, *WORDS, "--seed", seed, "--resume")
            assert f"iql-s{seed} is being trained by process {first.pid} on " in told
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE) == 130
    assert [status(folder / f"iql-s{seed}") for seed in (0, 1)] == ["interrupted"] * 2
    assert not list(folder.glob(".*.lock"))


def begun(folder: Path, status: str = "running") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"status": status, "seed": 0, "algorithm": "bc", "data": {"name": "toy"}, "plan": {}}
    (folder / "run.yaml").write_text(yaml.safe_dump(facts))


def test_the_file_of_a_run_without_an_end_stays(tmp_path: Path):
    folder = tmp_path / "runs/toy/bc-s0"
    with lock_run(folder, folder):
        pass
    assert not (tmp_path / "runs").exists()
    with lock_run(folder, folder):
        begun(folder)
    assert has_stopped(folder)
    with lock_run(folder, folder), pytest.raises(Exists, match="stopped without an end"):
        refuse_existing(folder)
    assert has_stopped(folder)
    with lock_run(folder, folder):
        begun(folder, "finished")
    assert [path.name for path in folder.parent.iterdir()] == ["bc-s0"]


def test_a_run_without_a_lock_file_may_be_trained_on_another_machine(tmp_path: Path):
    begun(folder := tmp_path / "runs/toy/bc-s0")
    with pytest.raises(Exists, match="exists, running"):
        refuse_existing(folder)


def test_looking_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path):
    """A look shares the lock for a moment, here a long one; whoever takes the lock tries again."""
    folder = tmp_path / "run"
    lock_file(folder).touch()
    assert not is_locked(lock_file(folder))
    with lock_file(folder).open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        ended = threading.Timer(0.3, fcntl.flock, (look, fcntl.LOCK_UN))
        ended.start()
        with lock_run(folder, folder, wait_s=20):
            assert is_locked(lock_file(folder))
        ended.join()


def test_a_thread_of_the_same_process_is_refused(tmp_path: Path):
    folder = tmp_path / "run"
    with exclusive_lock(lock_file(folder)), pytest.raises(Exists) as told, lock_run(folder, folder, 0.1):
        pass
    assert f"is being trained by {LockOwner.this()} (since 20" in told.value.what


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_on_a_disk_without_locks_runs_are_trained_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    """There is no such disk here: the call answers as one does."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_run(tmp_path / "run", tmp_path / "run"):
        refuse_trained(tmp_path / "run", tmp_path / "run")
    with wait_for_lock(tmp_path / "run"):
        pass
