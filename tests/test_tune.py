"""Searches: real trials, killed and gone on with, stopped early and taken over."""

import csv
import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from forked import Forked
from processes import wait_for
from searches import FILE, OFFLINE, made

from datasets_io.storage.locks import is_locked, lock_file
from off2on.commands.train import train
from off2on.commands.tune import tune
from off2on.errors import UserError
from off2on.runs.folder import Run
from off2on.runs.record import load_run
from off2on.search.checks import count_evaluations
from off2on.search.reading import read
from off2on.search.run import run
from off2on.search.scoring import mean
from off2on.search.searcher import SCORE, TrialSearcher
from off2on.search.spec import Search
from off2on.search.trial import _made
from off2on.search.trial_store import FINISHED, STOPPED, TrialStore
from off2on.training.command_line import make_plans
from off2on.training.located_yaml import LocatedValue
from off2on.training.plan import Plan
from off2on.training.train import evaluations

PATIENCE = 400  # seconds until a process counts as stuck; a busy machine is slow


@pytest.fixture
def here(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def off2on(cwd: Path, *words: str) -> Forked:
    ours = ("PYTHONPATH", "PYTHONWARNINGS", "RAY_ADDRESS")
    return Forked(cwd, *words, env={name: os.environ[name] for name in os.environ if name not in ours})


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each was written, and what it holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def lab(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the file of a search."""
    lab = tmp_path_factory.mktemp("search")
    (lab / "search.yaml").write_text(FILE)
    return lab


Killed = tuple[dict[Path, tuple[int, bytes]], list[dict[str, str]], str, str]


@pytest.fixture(scope="module")
def searched(lab: Path) -> Killed:
    """The search, killed when its second trial has begun to learn, and gone on with.

    Returns:
        The files and the rows of the trials that had ended at the kill; what the second command said.
    """
    out = lab / "runs/tune/search"
    with off2on(lab, "tune", "search.yaml") as first:
        (begun,) = wait_for(lambda: list(out.glob("trials/001/*/*/metrics.csv")), first, PATIENCE)
        first.kill()
    wait_for(lambda: not is_locked(lock_file(begun.parent)))  # its trial's process ends by itself
    rows = table(out)
    kept: dict[Path, tuple[int, bytes]] = {}
    for row in rows:
        kept |= files(out / row["folder"])
    with off2on(lab, "tune", "search.yaml", "--resume") as again:
        told = again.communicate(PATIENCE)
        assert again.returncode == 0, told
    return kept, rows, *told


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_killed_it_goes_on_and_leaves_alone_what_has_ended(lab: Path, searched: Killed) -> None:
    kept, before, _, said = searched
    out = lab / "runs/tune/search"
    assert [row["trial"] for row in before] == ["000"], "one trial had ended when the search was killed"
    assert kept == files(out / "trials/000")
    rows = table(out)
    assert rows[0] == before[0]
    assert [(row["trial"], row["status"]) for row in rows] == [(f"00{n}", "finished") for n in range(3)]
    told = [line.split()[:2] for line in said.splitlines() if line.startswith("finished")]
    assert told == [["finished", "001"], ["finished", "002"]], "only the trials that were missing"
    log = (out / "trials/001/log.txt").read_text()
    assert "Traceback" not in log, log


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_row_says_what_its_runs_say(lab: Path, searched: Killed) -> None:
    out = lab / "runs/tune/search"
    for row in table(out):
        runs = [load_run(path.parent) for path in sorted((out / row["folder"]).rglob("run.yaml"))]
        assert [each.seed for each in runs] == [0, 1, 2]
        found = mean([[float(each.curve.scores[-1]) for each in runs]])
        assert float(row["score"]) == found.value
        assert found.interval is not None
        assert (float(row["low"]), float(row["high"])) == found.interval
        assert (row["seeds"], row["env_steps"], row["episodes"]) == ("3", "60", "15")
        assert int(row["updates"]) == sum(int(each.metrics["updates"][-1]) for each in runs)
        for each in runs:
            said = each.hyperparameters
            assert said["hidden"].value == [16, 16]
            for name in ("expectile", "beta", "actor_lr", "online.utd"):
                assert said[name].value == float(row[name])
                assert said[name].origin == f"trial {row['trial']}"


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_seed_is_the_run_that_its_command_makes(
    lab: Path, searched: Killed, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab)
    folder = lab / "runs/tune/search/trials/002/toy-pendulum/iql-append-s1"
    words = shlex.split(yaml.safe_load((folder / "run.yaml").read_text())["command"])[2:]
    said = train.make_context("train", [*words, "--out", "runs/alone"]).params
    options = {field.name: said[field.name] for field in fields(Plan) if field.name in said}
    (plan,), _ = make_plans(said["words"], options, "")
    *_, made_alone = evaluations(plan)
    one, other = load_run(made_alone.folder), load_run(folder)
    for name in ("score", "q", "value/loss", "critic/loss", "actor/loss"):
        np.testing.assert_array_equal(one.metrics[name], other.metrics[name])


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_it_ends_with_a_page_and_the_best_values(lab: Path, searched: Killed) -> None:
    out = lab / "runs/tune/search"
    _, _, said, _ = searched
    told = dict(line.split() for line in said.splitlines())
    assert list(told) == ["trials", "best", "report"]
    assert all((lab / path).is_file() for path in told.values())
    best = max(table(out), key=lambda row: float(row["score"]))
    values = yaml.safe_load((out / "best.yaml").read_text())
    assert float(values["expectile"]) == float(best["expectile"])


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_search_that_is_there_is_not_begun_again_and_another_does_not_go_on_with_it(
    lab: Path, searched: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab)
    before = files(lab)
    with pytest.raises(UserError, match="holds a search already") as caught:
        run(read(Path("search.yaml")), jobs=1, resume=False)
    assert caught.value.try_ == "--resume"
    with pytest.raises(UserError, match=r"has with .*not .*'beta': '3'"):
        run(read(Path("search.yaml"), {"beta": LocatedValue("3", "")}), jobs=1, resume=True)
    assert files(lab) == before


def test_a_dry_run_starts_nothing(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    done = CliRunner().invoke(tune, ["search.yaml", "out=runs/dry", "trials=7", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "21 runs" in done.stderr
    assert any(line.split() == ["trials", "7", "command", "line"] for line in done.stdout.splitlines())
    assert not (lab / "runs/dry").exists()


# In Ray's own processes, without the command.


def scored(search: Search, **past: list[list[float]]) -> None:
    """Trials that have ended with these scores on the way."""
    store = TrialStore(search.place, search.names)
    searcher = TrialSearcher(search, store)
    for name, scores in past.items():
        searcher.suggest(name)
        store.trials[-1].scores = scores
        counted = dict.fromkeys(("seeds", "updates", "env_steps", "episodes", "seconds"), 1)
        store.end(
            store.trials[-1], {"status": FINISHED, SCORE: scores[-1][1], "low": "", "high": "", **counted}
        )


@pytest.mark.slow
def test_a_trial_that_does_worse_than_others_is_stopped_early(here: Path, ray_session: None) -> None:
    search = made(OFFLINE, stop_early="asha", trials="2", updates="60", seeds="2")
    assert count_evaluations(search) == (3, 0)
    scored(search, before=[[1, 0.0], [2, 0.0], [3, 0.0]])  # a pendulum's return is never so high
    trials = run(search, jobs=1, resume=False)
    assert [trial.outcome["status"] for trial in trials] == [FINISHED, STOPPED]
    abouts = [
        yaml.safe_load(path.read_text()) for path in here.glob("runs/tune/search/trials/001/*/*/run.yaml")
    ]
    assert [metadata["status"] for metadata in abouts] == ["interrupted"] * 2
    assert trials[1].outcome["updates"] == 2 * 20
    assert not list(here.glob("runs/tune/search/trials/001/**/policy.pt"))


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_runs_of_a_trial_that_go_together_have_learners_and_runners_of_their_own(here: Path) -> None:
    text = FILE.replace("trials: 3", "trials: 1").replace("seeds: 3", "seeds: 2")
    made(f"{text}stop_early: asha\nlearners: 1\nworkers: 1\n".replace("updates: 40", "updates: 20"))
    with off2on(here, "tune", "search.yaml") as search:
        _, said = search.communicate(PATIENCE)
        assert search.returncode == 0, said
    ((trial,), runs) = (
        table(here / "runs/tune/search"),
        here.glob("runs/tune/search/trials/000/*/*/run.yaml"),
    )
    assert trial["status"] == FINISHED
    plans = [yaml.safe_load(path.read_text())["plan"] for path in runs]
    assert [(plan["learners"]["value"], plan["workers"]["value"]) for plan in plans] == [("1", "1")] * 2


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_population_takes_over_networks_and_has_its_own_values(here: Path, ray_session: None) -> None:
    search = made(OFFLINE, by="pbt", updates="60")
    trials = run(search, jobs=1, resume=False)
    assert [trial.outcome["status"] for trial in trials] == [FINISHED] * 4
    taken = 0
    for trial in trials:
        (folder,) = (path.parent for path in here.glob(f"runs/tune/search/trials/{trial.name}/*/*/run.yaml"))
        one = load_run(folder)
        assert list(one.metrics["updates"]) == [20, 40, 60]
        assert one.status == "finished"
        for name in search.names:
            assert one.hyperparameters[name].value == float(trial.values[name])
        assert 0.5 <= float(trial.values["expectile"]) <= 0.95
        for took in one.metadata.taken_over:
            taken += 1
            donor = here / "runs/tune/search/trials" / took["from"].removeprefix("trial ")
            assert donor.is_dir()
        # A copy's history cost nothing here, what it took the place of did.
        copied = one.metadata.not_made.get("updates", 0)
        assert copied in (-40, -20, 0, 20, 40)
        assert trial.outcome["updates"] == 60 - copied
    assert taken


def test_what_was_copied_is_not_counted_twice(tmp_path: Path) -> None:
    run_of_two = Run(tmp_path)
    run_of_two.metrics = [{"updates": "300", "env_steps": "50"}]
    run_of_two.episodes = [{}] * 9
    run_of_two.metadata = {"not_made": {"updates": 100, "env_steps": -10, "episodes": 3}}
    assert _made(run_of_two) == {"updates": 200, "env_steps": 60, "episodes": 6}


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other(here: Path, ray_session: None) -> None:
    text = OFFLINE.replace("actor_lr: default", "actor_lr: {one_of: [1e-4, 3e-4]}")
    search = made(text, trials="2", updates="20")
    # What was drawn for the first is no value, which is found out only when it begins.
    drawn = {"expectile": 0.7, "actor_lr": "-1"}
    TrialStore(search.place, search.names).add("first", drawn, search.as_text(drawn))
    trials = run(search, jobs=1, resume=False)
    assert [trial.outcome["status"] for trial in trials] == ["failed", FINISHED]
    row = table(search.folder)[0]
    assert (row["status"], row["score"]) == ("failed", "")
    assert "actor_lr" in (search.folder / "trials/000/log.txt").read_text()


@pytest.mark.slow
def test_a_run_taken_forward_step_by_step_stops_where_it_is_left(here: Path, ray_session: None) -> None:
    (plan,) = made(OFFLINE).plans({"expectile": "0.7", "actor_lr": "1e-3"}, "000")
    going = evaluations(plan)
    seen = [len(next(going).metrics) for _ in range(2)]
    assert seen == [0, 1]
    going.close()  # type: ignore[attr-defined]
    metadata: dict[str, Any] = yaml.safe_load((plan.folder / "run.yaml").read_text())
    assert metadata["status"] == "interrupted"
    rest = [len(run.metrics) for run in evaluations(plan, resume=True)]
    assert rest == [1, 2]
    assert yaml.safe_load((plan.folder / "run.yaml").read_text())["status"] == "finished"


@pytest.mark.slow
def test_without_a_simulator_policies_are_compared_by_an_estimate(here: Path, ray_session: None) -> None:
    text = OFFLINE.replace("toy-pendulum", "wide").replace("actor_lr: default", "actor_lr: {one_of: [3e-4]}")
    search = made(text, maximise="fqe", trials="1", updates="20", by="optuna")
    (trial,) = run(search, jobs=1, resume=False)
    assert trial.outcome["status"] == FINISHED, (search.folder / "trials/000/log.txt").read_text()
    score, low, high = (float(trial.outcome[name]) for name in (SCORE, "low", "high"))
    assert low <= score <= high
    assert trial.outcome["episodes"] == 0
