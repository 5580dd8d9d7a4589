"""Runs log to Weights & Biases (offline) and MLflow (in a folder), and continue where these fail."""

import csv
import gc
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest

from datasets_io import Shards
from off2on.errors import UnknownName, UserError
from off2on.runs.metadata import read_metadata
from off2on.training import trackers
from off2on.training.plan import Plan
from off2on.training.train import evaluations

wandb = pytest.importorskip("wandb", reason="wandb is not installed")
mlflow = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
from wandb.proto import wandb_internal_pb2 as messages  # noqa: E402

CLOUDS = (
    b"http://169.254.169.254/metadata/instance?api-version=2021-12-13",
    b"http://169.254.169.254/latest/meta-data/",
    b"http://metadata.google.internal/computeMetadata/v1",
)
"""Where Ray asks which cloud it is in, whatever one says to it; nobody tells trackers to."""

SMALL = {"hidden": "16,16", "batch_size": "16"}


@pytest.fixture(scope="module", autouse=True)
def nothing_left(temporary_files: Path) -> Iterator[None]:
    """Delete the folders that wandb makes when it is imported: a worker of pytest may be ended before."""
    yield
    for folder in [one for one in gc.get_objects() if type(one) is tempfile.TemporaryDirectory]:
        if re.search(r"wandb-(media|artifacts)$", folder.name):
            folder.cleanup()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for the files of both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in trackers.DEFAULT_ENVIRONMENT:
        monkeypatch.setenv(name, "")  # what a test sets is undone behind it
        monkeypatch.delenv(name)
    yield tmp_path
    wandb.teardown()


def logged_to_mlflow(lab: Path) -> list[tuple[Any, list[float]]]:
    """Return the runs, each with its scores."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient((lab / "mlruns").as_uri())
    there = client.get_experiment_by_name("off2on")
    runs = client.search_runs([there.experiment_id]) if there else []
    return [
        (run, [kept.value for kept in client.get_metric_history(run.info.run_id, "score")]) for run in runs
    ]


def logged_to_wandb(lab: Path) -> list[Any]:
    """What the files of runs hold, in the order in which they were begun: records of a LevelDB log."""
    records = []
    for path in sorted((lab / "wandb").glob("offline-run-*/*.wandb"), key=os.path.getmtime):
        content, at = path.read_bytes(), 7
        while at + 7 <= len(content):
            length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
            assert kind == 1, "none of a test is divided"
            record = messages.Record()
            record.ParseFromString(content[at + 7 : at + 7 + length])
            records.append(record)
            at += 7 + length
    return records


def history(records: list[Any], name: str) -> list[Any]:
    items = [
        {item.key or item.nested_key[0]: item.value_json for item in one.history.item} for one in records
    ]
    return [json.loads(found[name]) for found in items if name in found]


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[Any]]]:
    """An address to which everything on its way to another machine would come, and who came."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wait() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    came.append(client.recv(200))

        thread = threading.Thread(target=wait)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.slow
def test_a_run_logs_to_both_and_to_no_other_server(toy: Shards, lab: Path, proxy: tuple[str, list[Any]]):
    address, came = proxy
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment = (
        os.environ
        | dict.fromkeys(names, address)
        | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    )
    words = ["train", "bc", "toy-pendulum", "hidden=16,16", "batch_size=16", "--updates", "20"]
    words += ["--eval-every", "10", "--eval-episodes", "1", "--threads", "1"]
    words += ["--track", "wandb", "--track", "mlflow"]
    answer = forked.run(Path.cwd(), *words, env=environment)
    assert answer.returncode == 0, answer.stderr
    assert "warning" not in answer.stderr
    assert [line for line in came if line.split()[1] not in CLOUDS] == []

    folder = lab / "runs/toy-pendulum/bc-s0"
    with (folder / "metrics.csv").open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert len(scores) == 2
    [(run, known)] = logged_to_mlflow(lab)
    assert known == pytest.approx(scores)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "toy-pendulum/bc-s0"
    assert (run.data.params["batch_size"], run.data.params["algorithm"]) == ("16", "bc")
    records = logged_to_wandb(lab)
    assert history(records, "score") == pytest.approx(scores)
    assert history(records, "updates") == [10, 20]
    [begun] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {item.key: item.value_json for item in begun.config.update}["batch_size"] == "16"
    assert read_metadata(folder).tracked == {"wandb": begun.run_id, "mlflow": run.info.run_id}
    assert list(folder.glob("events.*")), "TensorBoard always gets the rows"


def test_a_run_that_goes_on_is_the_same_to_them(toy: Shards, lab: Path):
    plan = Plan(
        "bc", "toy-pendulum", hyperparameters=SMALL, updates=20, eval_every=10, eval_episodes=1, threads=1,
        track=("wandb", "mlflow"),
    )  # fmt: skip
    going = evaluations(plan)
    next(going)
    next(going)
    going.close()
    [(run, known)] = logged_to_mlflow(lab)
    assert (run.info.status, len(known)) == ("KILLED", 1)
    for _ in evaluations(plan, resume=True):
        pass
    [(run, known)] = logged_to_mlflow(lab)
    assert (run.info.status, len(known)) == ("FINISHED", 2)
    records = logged_to_wandb(lab)
    assert history(records, "updates") == [10, 20]
    begun = [record.run.run_id for record in records if record.WhichOneof("record_type") == "run"]
    assert set(begun) == {read_metadata(plan.folder).tracked["wandb"]}


ABOUT: dict[str, Any] = {
    "command": "off2on train …",
    "commit": "x",
    "data": {"content_hash": "x"},
    "env": None,
    "hyperparameters": {"lr": {"value": 0.5}},
    "online": 0,
    "plan": {"seed": {"value": "0"}},
    "status": "finished",
}


def row(updates: int) -> dict[str, Any]:
    return {"side": "offline", "updates": updates, "score": 1.0 * updates, "normalised": ""}


def test_trials_of_a_search_have_names_of_their_own(lab: Path):
    trial = "found/trials/003/toy-pendulum/bc-s0"
    assert trackers._name(lab / trial) == trackers._name(Path("runs", trial)) == trial
    assert trackers._name(Path("/elsewhere/toy-pendulum/bc-s0")) == "toy-pendulum/bc-s0"


def test_rows_of_a_failed_tracker_are_logged_later(lab: Path):
    said: list[str] = []
    trackers.check_trackers(["mlflow"])
    with trackers.tracking(["mlflow"], lab / "run", ABOUT, said.append) as both:
        both.log(row(1))
        shutil.move(lab / "mlruns", lab / "away")
        both.log(row(2))
        both.log(row(3))
        assert len(said) == 1
        assert said[0].startswith("warning: mlflow failed, another attempt follows later; the run continues")
        shutil.rmtree(lab / "mlruns", ignore_errors=True)
        shutil.move(lab / "away", lab / "mlruns")
    [(run, known)] = logged_to_mlflow(lab)
    assert (known, run.info.status) == ([1.0, 2.0, 3.0], "FINISHED")
    assert len(said) == 1
    assert list((lab / "run").glob("events.*"))


def test_one_that_is_not_there_is_no_reason_to_stop(lab: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hush-hush@127.0.0.1:{nobody.getsockname()[1]}")
        said: list[str] = []
        trackers.check_trackers(["mlflow"])
        with trackers.tracking(["mlflow"], lab / "run", ABOUT, said.append) as both:
            both.log(row(1))
            assert both.ids == {}
    assert len(said) == 1
    assert "mlflow failed, this run is not logged to it" in said[0]
    assert "hush" not in said[0]


def test_trackers_are_checked_before_anything_starts(toy: Shards, lab: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownName, match=r"'wandbb'.\n.*nearest: wandb"):
        Plan("bc", "toy-pendulum", track=["wandbb"]).check()
    monkeypatch.setitem(trackers.TRACKERS, "wandb", (trackers.WandB, "not_installed"))  # type: ignore[index]
    with pytest.raises(UserError, match=r"pip install 'off2on\[track\]'"):
        trackers.check_trackers(["wandb"])


def test_without_a_key_nobody_is_asked_for_one(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(lab))
    with pytest.raises(UserError, match=r"there is no login.*\n.*\n.*WANDB_MODE=offline"):
        trackers.check_trackers(["wandb"])
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    trackers.check_trackers(["wandb"])
