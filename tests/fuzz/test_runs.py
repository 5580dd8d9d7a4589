"""Files of a run, changed at random: read, or refused by an error that the user can correct."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import example, given
from made_runs import make_run

from off2on.errors import UserError
from off2on.reports.search.record import load_search
from off2on.runs.checkpoints import check_checkpoint
from off2on.runs.folder import Run
from off2on.runs.handover import read_handover
from off2on.runs.metadata import RunMetadata, read_metadata
from off2on.runs.record import RunRecord, load_run
from off2on.runs.tables import read_episodes
from off2on.search.trial_store import Trial, TrialStore
from off2on.training.guard import Guard
from off2on.training.located_yaml import LocatedValue, read_yaml

OLD_RUN = Path(__file__).parents[1] / "fixtures" / "run_of_0_1_0"
RUN_YAML = (OLD_RUN / "run.yaml").read_bytes()
METRICS = (OLD_RUN / "metrics.csv").read_bytes()
EPISODES = (OLD_RUN / "episodes.csv").read_bytes()
HANDOVER: dict[str, Any] = {
    "changes": [{"what": "batches", "offline": "10 k rows", "online": "symmetric"}],
    "checks": [{"what": "score", "passed": True, "found": "-865.7"}],
}
GUARD: dict[str, Any] = {
    "options": {"confidence": 0.95, "margin": 0.0, "collapse": 0.2, "budget": None},
    "handover": [1.0, 2.0],
    "home": "handover",
    "trials": [
        {"env_steps": 5, "returns": [1.0, 2.0], "collected": [], "decision": "accept", "lower": 0.0,
         "upper": 0.0, "regret": 0.0, "serving": "000000005-000000005"},
    ],
}  # fmt: skip
TRIAL: dict[str, Any] = {
    "name": "000", "tune": "00001", "drawn": {"beta": 1.5}, "values": {"beta": "1.5"}, "scores": [[1, 5.0]],
    "outcome": {"status": "finished", "score": 5.0},
}  # fmt: skip
SEARCH: dict[str, Any] = {
    "file": "search.yaml",
    "algorithm": {"value": "iql", "origin": "search.yaml:1"},
    "data": {"value": ["a", "b"], "origin": "search.yaml:2"},
    "with": {"hidden": {"value": "8,8", "origin": "search.yaml:3"}},
    "search": {"beta": {"value": {"between": ["1", "2"]}, "origin": "search.yaml:4"}},
}
TRIALS = b"trial,status,score,low,high,seeds,folder,beta\n000,finished,5.0,4,6,3,trials/000,1.5\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for name, content in (("run.yaml", RUN_YAML), ("metrics.csv", METRICS), ("episodes.csv", EPISODES)):
        (folder / name).write_bytes(content)
    return folder


def check(found: Any, kind: type) -> None:
    assert isinstance(found, kind | UserError)


@fuzz
@given(content=damaged(RUN_YAML))
def test_damaged_run_yaml(content: bytes, run: Path):
    (run / "run.yaml").write_bytes(content)
    check(read_or_refused(lambda: read_metadata(run)), RunMetadata)


@fuzz
@given(content=changed(yaml.safe_load(RUN_YAML)))
def test_changed_fields_of_run_yaml(content: Any, run: Path):
    (run / "run.yaml").write_text(yaml.safe_dump(content))
    record = read_or_refused(lambda: load_run(run))
    check(record, RunRecord)
    if isinstance(record, RunRecord):
        assert record.key.data
        assert Run.resume(run).metadata == content


@fuzz
@given(content=damaged(METRICS))
def test_damaged_metrics(content: bytes, run: Path):
    (run / "metrics.csv").write_bytes(content)
    record = read_or_refused(lambda: load_run(run))
    check(record, RunRecord)
    if isinstance(record, RunRecord):
        assert isinstance(record.curve.handover, float)
        assert record.curve.regret is None or record.curve.regret >= 0
        assert len(Run.resume(run).metrics) == len(record.sides)


@fuzz
@given(content=damaged(EPISODES))
def test_damaged_episodes(content: bytes, run: Path):
    (run / "episodes.csv").write_bytes(content)
    check(read_or_refused(lambda: read_episodes(run)), list)


@fuzz
@given(content=changed(HANDOVER))
def test_changed_handover(content: Any, run: Path):
    (run / "handover.yaml").write_text(yaml.safe_dump(content))
    report = read_or_refused(lambda: read_handover(run))
    assert isinstance(report, UserError) or (report is not None and report.lines())


@fuzz
@example(content=GUARD | {"handover": [1e308, 2.0]})
@given(content=changed(GUARD))
def test_changed_guard(content: Any):
    guard = read_or_refused(lambda: Guard.load(yaml.safe_dump(content)))
    check(guard, Guard)
    if isinstance(guard, Guard):
        assert guard.decide(6, "000000006-000000006", [1.0] * len(guard.handover), []).serving


@fuzz
@given(content=changed(TRIAL))
def test_changed_trial(content: Any, tmp_path: Path):
    file = tmp_path / "trials" / "000" / "trial.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content))
    store = read_or_refused(lambda: TrialStore(tmp_path, ["beta"]))
    check(store, TrialStore)
    if isinstance(store, TrialStore):
        assert isinstance(store.trials[0], Trial)
        store.tabulate()


@fuzz
@given(content=changed(SEARCH), table=damaged(TRIALS))
def test_a_changed_search(content: Any, table: bytes, tmp_path: Path):
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "trials.csv").write_bytes(table)
    search = read_or_refused(lambda: load_search(tmp_path))
    if not isinstance(search, UserError):
        search.axes(search.trials)


@fuzz
@given(content=damaged(b"algorithm: [iql, bc]\ndata: toy\nseeds: 3\nsearch:\n  beta: {between: [1, 2]}\n"))
def test_a_damaged_search_file(content: bytes, tmp_path: Path):
    (tmp_path / "file.yaml").write_bytes(content)
    check(read_or_refused(lambda: read_yaml(tmp_path / "file.yaml")), LocatedValue)


@fuzz
@given(content=damaged(b'{"rows-0-of-1.pt": 3, "learner/state.pkl": 5}'))
def test_a_damaged_list_of_parts(content: bytes, tmp_path: Path):
    run = make_run(tmp_path / "run") if not (tmp_path / "run").exists() else tmp_path / "run"
    folder = run / "checkpoints" / "000010"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "learner").mkdir(parents=True)
    (folder / "learner/state.pkl").write_bytes(b"12345")
    (folder / "rows-0-of-1.pt").write_bytes(b"678")
    (folder / "parts.json").write_bytes(content)
    check(read_or_refused(lambda: check_checkpoint(run, "000010")), Path)
