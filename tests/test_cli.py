"""The command line in an empty folder: in this process, or as the installed command where that matters."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import forked
import numpy as np
import pytest
import yaml
from cli_lab import make_lab
from command import PATIENCE, environment, off2on, run_process, succeeds, with_its_imports
from forked import Forked
from processes import wait_for

SMALL = ("hidden=16,16", "batch_size=32", "--eval-episodes", "1", "--threads", "1")
"""The same number of threads in each process: another one rounds differently."""

MY_LAB = '''
from off2on.algorithms.iql import IQL


class SharpIQL(IQL):
    """IQL with another loss."""

    @classmethod
    def compute_actor_loss(cls, nets, batch, hp):
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        return 2 * loss, metrics | {"actor/sharp": 0 * loss.detach() + 7}
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with toy data, data without a simulator, and an algorithm of one's own."""
    lab = tmp_path_factory.mktemp("lab")
    make_lab(lab)
    (lab / "my_lab.py").write_text(MY_LAB)
    return lab


def own_process(cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without its imports, and check that it ends with 0."""
    done = forked.run(cwd, *words, env=environment(), timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done


def rows(folder: Path, side: str) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["side"] == side]


@pytest.fixture(scope="module")
def finished(lab: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run to the end, and what it said."""
    words = ("--updates", "400", "--online", "40", "--eval-every", "100", "--strategy", "balanced")
    done = run_process(lab, "train", "iql", "toy-pendulum", *words, *SMALL)
    return lab / "runs/toy-pendulum/iql-balanced-s0", done


def test_an_existing_run_is_refused_with_the_ways_on(lab: Path, finished: tuple[Path, object]) -> None:
    before = (finished[0] / "metrics.csv").read_bytes()
    done = off2on(
        lab, "train", "iql", "toy-pendulum", "--updates", "400", "--online", "40", "--strategy", "balanced"
    )
    assert done.returncode == 2
    for part in ("iql-balanced-s0 exists, finished", "--resume", "--seed 1", "--out"):
        assert part in done.stderr
    assert (finished[0] / "metrics.csv").read_bytes() == before


def test_data_verbs_tell_facts_on_stdout(lab: Path) -> None:
    about = json.loads(succeeds(lab, "data", "show", "toy-pendulum", "--json").stdout)
    assert about["rows"] == 800
    assert about["return"]["mean"] == pytest.approx(np.mean(about["returns"]))
    shown = succeeds(lab, "data", "show", "toy-pendulum").stdout
    for part in (
        "Pendulum-v1",
        "800",
        about["content_hash"],
        "MIT",
        f"{about['return']['mean']:.1f}",
        "rewards",
    ):
        assert part in shown
    listed = succeeds(lab, "data", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()][:1] == ["name"]
    assert "toy-pendulum" in listed
    again = succeeds(lab, "data", "add", "toy-pendulum", "--if-missing")
    assert "exists" in again.stderr
    assert again.stdout == ""


def test_data_check_reads_every_byte(lab: Path) -> None:
    succeeds(lab, "data", "add", "toy-pendulum", "episodes=2", "--name", "spoilt")
    assert "verified" in succeeds(lab, "data", "check", "spoilt").stdout
    (shard,) = (lab / "data/spoilt/shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = off2on(lab, "data", "check", "spoilt")
    assert done.returncode == 3
    assert shard.name in done.stderr


def test_an_algorithm_has_a_page(lab: Path) -> None:
    table = succeeds(lab, "algos").stdout.splitlines()
    assert {line.split()[0] for line in table if line} >= {"bc", "td3_bc", "iql", "cql", "sac"}
    page = json.loads(succeeds(lab, "algos", "my_lab:SharpIQL", "--json").stdout)
    assert page["file"] == "my_lab.py"
    assert page["hyperparameters"]["expectile"]["default"] == 0.7
    assert page["hyperparameters"]["expectile"]["range"] == "(0, 1)"


def test_doctor_says_it_in_a_line(lab: Path) -> None:
    done = succeeds(lab, "doctor")
    (line,) = done.stdout.splitlines()
    for part in ("off2on 0.1.0", "torch 2.13.0", "ray 2.60.0", "cores", "disk free", "problems: 0"):
        assert part in line


def test_a_dry_run_says_where_each_value_comes_from(lab: Path) -> None:
    (lab / "mine.yaml").write_text("# what was found\nbeta: 6\nhidden: [64, 32]\nactor_lr: 1e-4\n")
    words = ("--updates", "2k", "--online", "10", "expectile=0.9", "@mine.yaml", "strategy.temperature=2")
    words += ("--strategy", "balanced")
    done = succeeds(lab, "train", "iql", "toy-pendulum", "--out", "dry", "--dry-run", *words)
    said = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert said["updates"] == ["2000", "command line"]
    assert said["workers"] == ["0", "default"]
    assert said["expectile"] == ["0.9", "command line"]
    assert said["beta"] == ["6", "mine.yaml:2"]
    assert said["hidden"] == ["64,32", "mine.yaml:3"]
    assert said["actor_lr"] == ["0.0001", "mine.yaml:4"]
    assert said["batch_size"] == ["256", "default"]
    assert said["strategy.temperature"] == ["2", "command line"]
    assert not (lab / "dry").exists()


def test_a_run_from_data_to_report(
    lab: Path, finished: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    folder, done = finished
    about = yaml.safe_load((folder / "run.yaml").read_text())
    assert about["status"] == "finished"
    assert about["command"].startswith("off2on train iql toy-pendulum --updates 400 --online 40")
    assert about["plan"]["updates"] == {"value": "400", "origin": "command line"}
    assert about["hyperparameters"]["hidden"]["value"] == [16, 16]
    assert about["hyperparameters"]["hidden"]["origin"] == "command line"
    (handover,) = rows(folder, "handover")
    before = rows(folder, "offline")[-1]
    assert (before["updates"], handover["updates"], handover["env_steps"]) == ("400", "400", "0")
    assert before["score"] == handover["score"]
    assert [row["env_steps"] for row in rows(folder, "online")] == ["1", "40"]
    assert (folder / "report.html").is_file()
    assert str(Path("runs/toy-pendulum/iql-balanced-s0/report.html")) in done.stdout
    assert done.stdout.startswith("score ")
    for line in done.stderr.splitlines():  # nothing of Ray's: only our own lines, which begin with the time
        assert line[:8].count(":") == 2 or line.startswith("done in ")
    assert "\x1b" not in done.stderr


def test_eval_plays_without_ray(lab: Path, finished: tuple[Path, object]) -> None:
    words = ["eval", "iql-balanced-s0", "--episodes", "2", "--checkpoint", "handover"]
    done, packages = with_its_imports(lab, words)
    assert not {"ray", "matplotlib", "pandas"} & packages
    played = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    assert [(row["seed"], row["length"]) for row in played] == [("0", "200"), ("1", "200")]
    assert f"{np.mean([float(row['return']) for row in played]):.1f} ± " in done.stderr


def test_report_takes_what_a_shell_finds(lab: Path, finished: tuple[Path, object]) -> None:
    beside = finished[0].parent
    (beside / "figures").mkdir(exist_ok=True)
    (beside / "report.html").touch()
    done = succeeds(lab, "report", *sorted(beside.iterdir()), "--out", lab / "page.html")
    assert done.stdout == f"{lab / 'page.html'}\n"
    assert "iql" in (lab / "page.html").read_text()


@pytest.mark.slow
def test_from_takes_what_is_not_said_from_the_run(lab: Path, finished: tuple[Path, object]) -> None:
    words = ["--online", "20", "--strategy", "append", "--eval-every", "20", "--eval-episodes", "1"]
    words += ["--threads", "1"]
    own_process(lab, "train", "--from", "iql-balanced-s0", *words)
    folder = lab / "runs/toy-pendulum/iql-append-s0"
    (there,), (here,) = (rows(place, "handover") for place in (finished[0], folder))
    assert there["score"] == here["score"]
    assert rows(folder, "offline") == []
    about = yaml.safe_load((folder / "run.yaml").read_text())
    assert about["hyperparameters"]["hidden"]["origin"].endswith("iql-balanced-s0/run.yaml")
    another = shutil.copytree(finished[0], lab / "others/iql-balanced-s7", symlinks=True)
    about["seed"], about["plan"]["env"]["value"] = 7, "Pendulum-v1"
    (another / "run.yaml").write_text(yaml.safe_dump(about))
    told = succeeds(lab, "train", "--from", str(another), *words, "--dry-run").stdout
    assert re.search(r"^seed +7 +\S*iql-balanced-s7/run.yaml", told, re.MULTILINE)
    assert re.search(r"^env +Pendulum-v1 +\S*iql-balanced-s7/run.yaml", told, re.MULTILINE)


@pytest.mark.slow
def test_a_class_of_ones_own_in_another_process_on_data_without_a_simulator(lab: Path) -> None:
    words = ("--updates", "20", "--learners", "1", "--eval-every", "20")
    done = own_process(lab, "train", "my_lab:SharpIQL", "trips", *words, *SMALL)
    assert done.stdout == f"{'run':<10} runs/trips/SharpIQL-s0\n"
    (row,) = rows(lab / "runs/trips/SharpIQL-s0", "offline")
    assert (row["actor/sharp"], row["score"]) == ("7.0", "")
    assert (lab / "runs/trips/SharpIQL-s0/policy.pt").is_file()


@pytest.mark.slow
def test_interrupted_killed_and_resumed_is_the_same_run(lab: Path, finished: tuple[Path, object]) -> None:
    folder = lab / "again/toy-pendulum/iql-balanced-s0"
    words = ["train", "iql", "toy-pendulum", "--updates", "400", "--online", "40", "--eval-every", "100"]
    words += ["--strategy", "balanced", "--out", "again", *SMALL]
    with Forked(lab, *words, env=environment()) as process:
        wait_for(lambda: " offline " in process.told()[1], process, PATIENCE)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, rest = process.communicate(PATIENCE)
        assert process.returncode == 130
    assert "Traceback" not in rest
    assert "--resume" in rest.splitlines()[-1]
    assert yaml.safe_load((folder / "run.yaml").read_text())["status"] == "interrupted"
    assert (folder / "checkpoints/last").exists()

    with Forked(lab, *words, "--resume", env=environment()) as process:
        wait_for(lambda: " handover " in process.told()[1], process, PATIENCE)
        process.kill()
    changed = off2on(lab, *words, "--resume", "--eval-episodes", "7")
    assert (
        changed.returncode,
        "was run with eval_episodes" in changed.stderr,
    ) == (2, True)
    own_process(lab, *words, "--resume")
    assert yaml.safe_load((folder / "run.yaml").read_text())["status"] == "finished"
    expected, found = (
        [(row["updates"], row["score"], row["q"]) for row in rows(place, "offline")]
        for place in (finished[0], folder)
    )
    assert found == expected
    (handover,) = rows(folder, "handover")
    assert handover["score"] == expected[-1][1]
    assert [row["env_steps"] for row in rows(folder, "online")] == ["1", "40"]
