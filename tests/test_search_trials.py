"""A trial of a search, step by step, without Ray: its runs are only written, not trained."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from searches import OFFLINE, made

from off2on.runs.folder import Run
from off2on.search import trial, trial_store
from off2on.search.run import _scheduler, run
from off2on.search.scoring import Score
from off2on.search.searcher import SCORE, TrialSearcher
from off2on.search.spec import Search
from off2on.search.trial import MARK, TrialTrainable
from off2on.search.trial_store import STOPPED, TrialStore
from off2on.training.plan import Plan

Points = Sequence[tuple[int, int]]
"""Updates and environment steps at each evaluation of a run."""


@pytest.fixture
def search(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """A search whose runs have evaluations planned after 20 and 40 updates and 0, 1, 20 and 40 steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "score", lambda *_: Score(1.0))
    return made(OFFLINE, stop_early="asha", seeds="2", online="40")


def write_runs(monkeypatch: pytest.MonkeyPatch, *points: Points) -> None:
    """Let the run of each seed have these evaluations."""

    def evaluations(plan: Plan, resume: bool) -> Iterator[Run]:
        run = Run.resume(plan.folder) if resume else Run.create(plan.folder)
        facts = {"seed": plan.seed, "algorithm": "iql", "data": {"name": "toy"}, "plan": {}}
        run.describe({"status": "running", **facts})
        yield run
        for updates, env_steps in points[plan.seed][len(run.metrics) :]:
            at = {"side": "online", "updates": updates, "env_steps": env_steps}
            run.record({**at, "score": 1.0, "wall_s": 0.0}, [])
            yield run
        run.describe({"status": "finished"})

    monkeypatch.setattr(trial, "evaluations", evaluations)


def begun(search: Search) -> TrialTrainable:
    """A trial that Ray Tune has begun."""
    trainable: Any = object.__new__(TrialTrainable)
    trainable._trial_info = None
    config = TrialSearcher(search, TrialStore(search.place, search.names)).suggest(trainable.trial_id)
    trainable.setup(config, search, "")
    return trainable


def steps(trainable: TrialTrainable) -> list[tuple[int, bool]]:
    """The number of evaluations with a score after each step, and whether the trial is done."""
    found: list[tuple[int, bool]] = []
    while not (found and found[-1][1]) and len(found) < 10:
        result = trainable.step()
        assert "failed" not in result, result["failed"]
        found.append((result[MARK], result["done"]))
    trainable.cleanup()
    return found


PLANNED = [(20, 0), (40, 0), (40, 0), (41, 1), (60, 20), (80, 40)]
PASSED = [(20, 0), (40, 0), (40, 0), (72, 32), (104, 64)]
"""Rollouts of 32 steps pass two evaluation points at once."""


@pytest.mark.parametrize("points", [(PLANNED, PLANNED), (PASSED, PASSED), (PASSED, PLANNED)])
def test_a_trial_ends_with_the_last_evaluation_of_its_runs(
    points: tuple[Points, Points], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(monkeypatch, *points)
    most = max(map(len, points))
    assert steps(begun(search)) == [(mark, mark == most) for mark in range(1, most + 1)]
    statuses = [Run.resume(plan.folder).metadata["status"] for plan in search.plans({}, "000")]
    assert statuses == ["finished"] * 2


def test_a_resumed_trial_ends_too_if_a_run_is_already_at_its_end(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(monkeypatch, PASSED, PASSED)
    first = begun(search)
    for _ in range(4):
        first.step()
    next(first.going[0])  # the other seed was killed before its last evaluation
    first.cleanup()
    assert steps(begun(search)) == [(5, True)]


def test_a_trial_begins_without_reading_those_of_all_trials(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a thousand."""
    trainable = begun(search)
    config = TrialSearcher(search, store := TrialStore(search.place, search.names)).suggest("first")
    other = {**config, "name": store.add("second", config["drawn"], {}).name}
    monkeypatch.setattr(trial_store, "read_yaml", None)
    for each in (config, other):
        trainable.reset_config(each)
        assert trainable.name == each["name"]
    trainable.cleanup()


def test_successive_halving_counts_a_resumed_trial_once_with_the_scores_that_it_had(search: Search) -> None:
    store = TrialStore(search.place, search.names)
    for name, first in (("done", 1.0), ("killed", 5.0)):
        store.add(name, {}, {}).scores = [[1, first], [2, first + 1], [3, first + 2]]
    store.end(store.trials[0], {"status": STOPPED})
    asha, again = _scheduler(search, store), SimpleNamespace(trial_id="again")
    TrialSearcher(search, store).suggest(again.trial_id)
    asha.on_trial_add(None, again)
    asha.on_trial_result(None, again, {MARK: 4, SCORE: 9.0})
    ((three, one),) = [[list(scores.values()) for _, scores in bracket._rungs] for bracket in asha._brackets]
    assert (one, three) == ([1.0, 5.0], [3.0, 7.0])


def test_on_a_disk_without_locks_a_search_goes_on_without(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    store = TrialStore(search.place, search.names)
    for number in range(search.trials):
        store.end(store.add(str(number), {}, {}), {"status": STOPPED})
    monkeypatch.setattr(fcntl, "flock", flock)
    assert len(run(search, jobs=1, resume=False)) == search.trials
