"""Runs in a bucket: whole at every checkpoint, taken up on another machine, and none that is half there."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from forked import Forked
from processes import wait_for

from datasets_io import storage
from datasets_io.errors import Corrupt, Unreachable
from off2on.errors import Exists, UnknownName
from off2on.policy import load_policy
from off2on.runs import bucket_mirror
from off2on.runs.folder import Run, policy_file, refuse_existing
from off2on.runs.lock import lock_run
from off2on.runs.record import find_runs


@pytest.fixture
def place(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a run in a bucket; it works below `tmp_path`/here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    return bucket / "runs/toy/bc-s0"


def begun(place: Any) -> Run:
    run = Run.create(bucket_mirror.working_folder(place), place)
    run.describe({"status": "running", "seed": 0, "algorithm": "bc", "data": {"name": "toy"}, "plan": {}})
    return run


def keep(run: Run, name: str) -> None:
    def save(folder: str) -> None:
        (Path(folder) / "learner").mkdir(parents=True)
        (Path(folder) / "learner/state").write_text(f"networks at {name}")

    updates = 1 if name == "handover" else int(name)
    run.record({"side": "offline", "updates": updates, "env_steps": 0, "score": 1.0}, [])
    run.checkpoint(name, save)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From now on on another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))


def test_a_run_is_taken_up_elsewhere_as_it_was_after_its_newest_checkpoint(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = begun(place)
    for name in ("handover", "000002", "000003"):
        keep(run, name)
    (run.folder / "report.html").write_text("a page")
    (run.folder / "policies/000000002").mkdir(parents=True)
    (run.folder / "policies/000000002/policy.pt").write_text("a policy")
    run.publish()
    elsewhere(monkeypatch, tmp_path)
    folder = bucket_mirror.fetch(place)
    assert policy_file(folder, "000000002").read_text() == "a policy"
    assert folder.is_relative_to(tmp_path / "elsewhere")
    again = Run.resume(folder, place)
    assert again.last_checkpoint == folder / "checkpoints/000003"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["000003", "handover", "last"]
    assert (folder / "checkpoints/last/learner/state").read_text() == "networks at 000003"
    assert [row["updates"] for row in again.metrics] == ["1", "2", "3"]
    assert (folder / "report.html").read_text() == "a page"
    assert find_runs([str(place.parent.parent)]) == [folder]
    with pytest.raises(Exists, match="Use --resume to continue it"):
        refuse_existing(folder)


def test_a_checkpoint_that_is_half_there_does_not_count(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = begun(place)
    keep(run, "handover")
    keep(run, "000002")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "write_text", killed)  # the files are there, their list is not
        with pytest.raises(KeyboardInterrupt):
            keep(run, "000003")
    assert storage.is_file(place / "checkpoints/000003/learner/state")
    elsewhere(monkeypatch, tmp_path)
    folder = bucket_mirror.fetch(place)
    assert Run.resume(folder, place).last_checkpoint == folder / "checkpoints/000002"
    assert not (folder / "checkpoints/000003").exists()
    storage.delete(place / "checkpoints/000002/learner/state")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a third machine"))
    with pytest.raises(Corrupt, match="000002"):
        bucket_mirror.fetch(place)


def test_what_this_machine_has_stays_only_if_the_bucket_has_it(place: Any):
    run = begun(place)
    keep(run, "000001")
    beside = run.folder / "beside"
    beside.touch()
    assert bucket_mirror.fetch(place) == run.folder
    assert beside.exists()  # nothing was fetched anew
    storage.delete(place)
    bucket_mirror.fetch(place)
    assert not run.folder.exists()
    with pytest.raises(UnknownName, match="no run at"):
        Run.resume(run.folder, place)


def test_a_run_that_is_fetched_and_begun_during_a_fetch_keeps_its_files(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = begun(place)
    keep(run, "handover")
    keep(run, "000002")
    elsewhere(monkeypatch, tmp_path)
    folder, copy = bucket_mirror.working_folder(place), bucket_mirror.copy

    def begin() -> None:
        with lock_run(folder, place):
            bucket_mirror.fetch(place)
            (folder / "begun").touch()

    other = threading.Thread(target=begin)
    copied = []

    def copy_slowly(source: Any, target: Any) -> None:
        copied.append(source)
        if len(copied) == 2:
            other.start()
            other.join(2)
        copy(source, target)

    monkeypatch.setattr(bucket_mirror, "copy", copy_slowly)
    assert bucket_mirror.fetch(place) == folder
    other.join()
    assert (folder / "begun").exists()
    assert Run.resume(folder, place).last_checkpoint == folder / "checkpoints/000002"
    assert len(copied) == len(set(copied)), "it is copied once"
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_a_bucket_that_goes_away_does_not_end_a_run_that_was_there(
    place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    run, address = begun(place), os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    keep(run, "000001")
    assert "not yet copied" in caplog.text
    with pytest.raises(Unreachable):
        run.publish()
    with pytest.raises(Unreachable):
        begun(place.parent / "bc-s1")  # one that never was there is refused before it learns anything
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    keep(run, "000002")
    assert storage.read_text(place / "checkpoints/last") == "000002"
    names = {file.removeprefix(f"{place}/") for file in storage.list_files(place, recursive=True)}
    assert "checkpoints/000002/learner/state" in names
    assert not [name for name in names if "000001" in name]


@pytest.mark.slow
def test_a_killed_run_in_a_bucket_goes_on_on_another_machine(place: Any, tmp_path: Path, data_root: Path):
    words = ["train", "iql", "toy-pendulum", "hidden=16,16"]
    words += ["batch_size=16", "--threads", "1", "--updates", "2000", "--eval-every", "250"]
    words += ["--eval-episodes", "1", "--out"]
    there = place.parent.parent / "toy-pendulum/iql-s0"
    env = os.environ | {"OFF2ON_DATA": str(data_root)}

    def command(*more: Any, **other: str) -> Forked:
        return Forked(tmp_path, *words, *more, env=env | other)

    with command(place.parent.parent) as killed:
        wait_for(
            lambda: storage.is_file(there / "checkpoints/last"), killed, said=lambda: "".join(killed.told())
        )
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with command(place.parent.parent, "--resume", XDG_CACHE_HOME=str(tmp_path / "elsewhere")) as resumed:
        out, err = resumed.communicate(200)
        assert resumed.returncode == 0, err
    assert str(there) in out
    with command(tmp_path / "runs") as whole:
        _, err = whole.communicate(200)
        assert whole.returncode == 0, err
    folder = bucket_mirror.fetch(there)
    assert yaml.safe_load((folder / "run.yaml").read_text())["status"] == "finished"
    assert (folder / "report.html").is_file()
    obs = torch.randn(8, 3)
    ours, theirs = (
        load_policy(path / "policy.pt")(obs) for path in (folder, tmp_path / "runs/toy-pendulum/iql-s0")
    )
    assert torch.equal(ours, theirs)
