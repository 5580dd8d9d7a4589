"""What is made of a search: made folders in, the page and best.yaml out."""

import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import succeeds
from found import SEARCH, Page, made, make_search, make_seeds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from off2on.errors import UserError
from off2on.reports.page import MAX_PAGE_BYTES
from off2on.reports.search import write_search_report
from off2on.reports.search.best import best_yaml
from off2on.reports.search.record import SearchRecord, TrialRecord, load_search
from off2on.training.command_line import split_arguments


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made search with its page."""
    folder = made(tmp_path_factory.mktemp("search") / "runs" / "tune" / "iql-made")
    write_search_report(folder)
    return folder


def test_the_page_says_what_was_found_and_what_it_cost(whole: Path) -> None:
    page = Page(whole / "report.html")
    assert (whole / "report.html").stat().st_size <= MAX_PAGE_BYTES
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert all(lead.startswith("data:image/png;base64,") for lead in page.leads)
    assert len(page.leads) == 4
    search = load_search(whole)
    best, second = search.finished[:2]
    assert best.score == max(trial.score for trial in search.trials if trial.status == "finished")
    assert best.score < -300, "those that were stopped would win"
    for words in (
        "25 trials (18 finished, 6 stopped, 1 failed) · maximised: final_score",
        f"trial {best.name}",
        f"the second best, trial {second.name}",
        "these seeds do not separate the two",
        "Pre-deployment policy selection with an online budget (2a)",
        "8 of 54 policies (the seeds of the finished trials) are drawn",
        "The defaults return −",
        "The true mean of a policy is estimated here from 10 episodes",
    ):
        assert words in page.words, words
    assert {path.name for path in (whole / "figures").iterdir()} == {
        "parallel.png", "parameters.png", "importance.png", "choosing.png"
    }  # fmt: skip


def test_the_cost_is_the_sum_over_all_trials(whole: Path) -> None:
    words = Page(whole / "report.html").words
    # 18 × 900 updates, 6 × 900 that stopped after 300, and 10 of the failed one; every run played an episode
    # of 200 steps half-way and ten at the end, three runs a trial.
    assert "finished 18 16,200 0 540 118,800 18 min 0 s" in words
    assert "stopped 6 1,800 0 180 39,600 6 min 0 s" in words
    assert "failed 1 10 0 0 – 1 min 0 s" in words
    assert "together 25 18,010 0 720 158,400 25 min 0 s" in words


def test_a_trial_that_does_not_say_what_it_took_is_named(tmp_path: Path) -> None:
    silent = dict.fromkeys(("updates", "env_steps", "episodes", "seconds"), "")
    rows = [{"score": 1, "beta": 1}, {"status": "failed", "score": "", "beta": 2, **silent}]
    told = Page(write_search_report(make_search(tmp_path / "search", rows))[0]).words
    assert "Not counted, because it is not known: trial 0001" in told


def test_the_folder_alone_is_enough_anywhere_and_again(whole: Path, tmp_path: Path) -> None:
    there = whole.rename(tmp_path / "elsewhere")
    try:
        before = (there / "report.html").read_bytes().replace(str(whole).encode(), str(there).encode())
        page, best = write_search_report(there)
        assert page.read_bytes() == before
        assert best.read_text().splitlines()[-4:] == (there / "best.yaml").read_text().splitlines()[-4:]
        assert not list(there.rglob(".*"))
    finally:
        there.rename(whole)


def test_the_best_can_be_trained_as_its_header_says(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("runs/tune/with spaces")
    monkeypatch.chdir(tmp_path)
    values = {
        "expectile": "0.8",
        "hidden": "16,16",
        "reward": "return_scale",
        "actor_lr": "1e-4",
        "augment": "",
    }
    rows = [
        {"score": 5, "low": 4, "high": 6, **dict.fromkeys(values, "")},
        {"score": 9, "low": 7, "high": 11, **values},
        {"score": 99, "status": "stopped", **values, "expectile": "0.6"},
        {"score": 99, "status": "failed", **values, "expectile": "0.6"},
    ]
    make_search(folder, rows)
    _, best = write_search_report(folder)
    (line,) = re.findall(r"^#   off2on (.*)", best.read_text(), re.MULTILINE)
    words = [*shlex.split(line), "--dry-run", "--threads", "1"]
    done = succeeds(tmp_path, *words, OFF2ON_DATA=os.environ["OFF2ON_DATA"])
    shown = {row.split()[0]: row.split(maxsplit=2)[1:] for row in done.stdout.splitlines()}
    assert shown["updates"] == ["300", "command line"]
    assert shown["expectile"][0] == "0.8"
    assert shown["hidden"][0] == "16,16"
    assert shown["actor_lr"][0] == "0.0001"
    assert re.fullmatch(r".*best.yaml:\d+", shown["reward"][1])


SECONDS = {
    "overlap": ({"low": 8, "high": 10.5}, "overlaps that of the second best, trial 0000"),
    "touch": ({"low": 8, "high": 10}, "overlaps that of the second best"),
    "apart": ({"low": 8, "high": 9.5}, "is above that of the second best, trial 0000 (9.00 [8.00, 9.50])"),
    "no interval": ({"low": "", "high": ""}, "fewer than three seeds there is no interval"),
}


@pytest.mark.parametrize("case", SECONDS)
def test_whether_the_second_is_worse_is_said_in_the_header_and_on_the_page(tmp_path: Path, case: str) -> None:
    ends, words = SECONDS[case]
    rows = [{"score": 9, "beta": 1, **ends}, {"score": 11, "low": 10, "high": 12, "beta": 2}]
    page, best = write_search_report(make_search(tmp_path / "search", rows))
    assert words in best.read_text()
    assert "trial 0001, final_score 11.0 [10.0, 12.0], seeds: 3" in best.read_text()
    assert words in Page(page).words


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_whatever_a_value_is_training_reads_it_from_best_yaml(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    trial = TrialRecord("0\n0", "finished", 1.0, None, "1", {"beta": text}, {}, Path("nowhere"))
    folder = tmp_path_factory.getbasetemp()
    path = folder / "best.yaml"
    path.write_text(best_yaml(SearchRecord(folder, {"algorithm": text, "data": "toy"}, ["beta"], [trial])))
    assert split_arguments([f"@{path}"]).values == ({"beta": text} if text else {})


def test_what_is_no_hyperparameter_is_in_the_command(tmp_path: Path) -> None:
    metadata = {"algorithm": ["iql", "td3_bc"], "data": "toy-pendulum", "online": "20k", "threads": 1}
    metadata |= {
        "strategy": ["append", "balanced"],
        "with": {"hidden": {"value": "16,16", "origin": "a.yaml:3"}},
    }
    row = {
        "score": 1,
        "algorithm": "td3_bc",
        "strategy": "balanced",
        "online.utd": 2,
        "alpha": 2.5,
        "beta": "",
    }
    _, best = write_search_report(make_search(tmp_path / "search", [row], metadata))
    told = best.read_text()
    assert "off2on train td3_bc toy-pendulum --online 20k --strategy balanced --threads 1 @" in told
    lines = [line for line in told.splitlines() if not line.startswith("#")]
    assert lines == ["hidden: 16,16", "online.utd: 2", "alpha: 2.5"]


def test_what_the_best_trials_algorithm_does_not_know_is_left_out(tmp_path: Path) -> None:
    fixed = {"hidden": [16, 16], "expectile": 0.6}
    folder = tmp_path / "search"
    make_search(folder, [{"score": 1, "algorithm": "bc", "actor_lr": 1e-3}], {**SEARCH, "with": fixed})
    make_seeds(folder, "0000", [[1, 2]])
    path = next(folder.rglob("run.yaml"))
    command = "off2on train bc toy-pendulum hidden=16,16 actor_lr=0.001 --updates 300"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"command": command}))
    lines = write_search_report(folder)[1].read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["hidden: 16,16", "actor_lr: 0.001"]


statuses = st.sampled_from(["finished", "stopped", "failed", "running"])


cells = st.one_of(st.just(""), st.floats(-1e6, 1e6), st.sampled_from(["nan", "inf", "-inf"]))


made_rows = st.lists(
    st.fixed_dictionaries(
        {"status": statuses, "score": cells, "low": cells, "high": cells, "updates": cells},
        optional={"beta": cells, "reward": st.sampled_from(["", "raw", "<b>", "a,b"]), "seeds": st.just("")},
    ),
    max_size=8,
)


@settings(max_examples=30)
@given(made_rows)
@example([{"status": "finished", "score": 0.0}] * 2 + [{"status": "stopped", "score": "", "beta": 0.0}])
def test_any_table_of_trials_gives_a_page_or_says_why_not(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = make_search(tmp_path_factory.mktemp("any") / "search", rows)
    scores = [
        float(row["score"])
        for row in rows
        if row["status"] == "finished" and row["score"] != "" and math.isfinite(float(row["score"]))
    ]
    if not scores:
        with pytest.raises(UserError, match=r"no trial of .* has finished with a score"):
            write_search_report(folder)
        assert not (folder / "best.yaml").exists()
        return
    page, _ = write_search_report(folder)
    assert load_search(folder).finished[0].score == max(scores)
    assert "<b>raw" not in page.read_text()
    assert "No episodes of the policies are kept" in Page(page).words


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no search": (lambda folder: (folder / "search.yaml").unlink(), "is not a search: it has no search.yaml"),
    "no trials": (lambda folder: (folder / "trials.csv").unlink(), "has no trials yet"),
    "empty": (lambda folder: (folder / "trials.csv").write_text(""), "lacks trial, status, score"),
    "yaml": (lambda folder: (folder / "search.yaml").write_text("a: [1"), "search.yaml cannot be read"),
    "list": (lambda folder: (folder / "search.yaml").write_text("- 1"), "search.yaml: the content is [1]"),
    "word": (
        lambda folder: (folder / "trials.csv").write_text("trial,status,score\n0,finished,good\n"),
        "trials.csv:2: score is no number: 'good'",
    ),
    "binary": (
        lambda folder: (folder / "trials.csv").write_bytes(b"\xff\xfe"),
        "trials.csv:1: the line is not UTF-8 text",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_folder_that_is_no_search_is_refused(tmp_path: Path, mistake: str) -> None:
    folder = make_search(tmp_path / "search", [{"score": 1, "beta": 2}])
    spoil, words = MISTAKES[mistake]
    spoil(folder)
    with pytest.raises(UserError) as caught:
        write_search_report(folder)
    assert words in str(caught.value)


def test_a_line_that_is_being_written_is_not_yet_a_trial(tmp_path: Path) -> None:
    folder = make_search(tmp_path / "search", [{"score": 1, "beta": 2}])
    with (folder / "trials.csv").open("a") as file:
        file.write("0001,finished,9")
    assert [trial.name for trial in load_search(folder).trials] == ["0000"]


VARIANTS = {
    "final_score": ({}, "Pre-deployment policy selection with an online budget (2a)"),
    "area": ({"online": "20k"}, "Unrestricted policy updates (3)"),
    "fqe": ({}, "Zero-shot offline (1): the best trial was chosen by an estimate from the data"),
}


@pytest.mark.parametrize("objective", VARIANTS)
def test_the_problem_has_the_name_of_the_paper(tmp_path: Path, objective: str) -> None:
    metadata, words = VARIANTS[objective]
    folder = make_search(
        tmp_path / "search", [{"score": 1, "beta": 2}], {**SEARCH, **metadata, "maximise": objective}
    )
    told = Page(write_search_report(folder)[0]).words
    assert words in re.sub(r" :", ":", told)
    assert "It is the only trial that finished" in told
    assert "1 finished trials are too few" in told


def test_many_trials_and_names_stay_small_and_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"score": rng.normal(), "low": -1, "high": 1}
        | {f"name_{n}": float(rng.random()) for n in range(9)}
        | {"<script>alert(1)</script>": "<img src=x onerror=alert(1)>"}
        for _ in range(150)
    ]
    page, _ = write_search_report(make_search(tmp_path / "search", rows))
    assert page.stat().st_size <= MAX_PAGE_BYTES
    found = Page(page)
    assert "script" not in found.tags
    assert all(lead.startswith("data:") for lead in found.leads)
    assert "90 more are in trials.csv" in found.words
