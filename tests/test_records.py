"""Run folders: read as they were written, refused where they are none, found by what a user says."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from made_runs import make_run, write_guard

from off2on.commands.ope import _policies, _true_score
from off2on.commands.report import report
from off2on.commands.train import _score
from off2on.errors import UnknownName, UserError
from off2on.reports.run import write_report
from off2on.runs.folder import policy_file
from off2on.runs.record import find_runs, load_run


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds of one group."""
    root = tmp_path_factory.mktemp("runs") / "hopper-medium-v2"
    for seed in range(5):
        make_run(root / f"iql-balanced-s{seed}", seed=seed)
    return root


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "iql-balanced-s3", seed=3))
    assert (run.algorithm, run.strategy, run.data, run.seed) == ("iql", "balanced", "hopper-medium-v2", 3)
    assert run.name == "iql × balanced"
    assert run.reference == (-20.27, 3234.3)
    assert len(run.curve.offline) == 20
    assert run.curve.steps[:2].tolist() == [0, 1]  # just after the switch, then one step
    assert run.curve.after == run.curve.handover  # nothing was lost by the switch itself
    steps, share = run.trace("offline_share", "online")
    assert share[0] == pytest.approx(0.5, abs=1e-5)
    assert steps[0] == 1
    assert len(run.trace("steps_per_s", "offline")[0]) == 0  # empty cells are no values
    assert len(run.trace("no such column", "offline")[0]) == 0


def test_the_final_score_of_a_guarded_run_is_that_of_the_policy_in_service(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert load_run(run).curve.final == load_run(run).curve.online[-1]
    write_guard(run, served=-7.0, refused=-9.0)
    assert load_run(run).curve.final == -7.0
    assert _true_score(run, "last") == -7.0
    assert "7.00 at the end, of the policy that the guard left in service" in str(_score(run))
    offline = make_run(tmp_path / "offline", online=0)
    write_guard(offline, served=-7.0, refused=-9.0)  # of an online phase before the run was extended
    assert load_run(offline).curve.final == load_run(offline).curve.offline[-1]


def test_a_kept_policy_has_the_score_of_its_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    metrics = load_run(run).metrics
    for row, side in enumerate(load_run(run).sides):
        updates, steps = int(metrics["updates"][row]), int(metrics["env_steps"][row])
        name = f"{updates:09d}" if side == "offline" else f"{updates:09d}-{steps:09d}"
        if side != "handover":
            assert _true_score(run, name) == metrics["score"][row]
    assert _true_score(run, "000000007") is None


def test_all_different_policies_of_a_run_are_evaluated(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in (
        ".",
        "checkpoints/handover",
        "policies/000000010",
        "policies/000000020",
        "policies/000000030",
    ):
        (run / name).mkdir(parents=True, exist_ok=True)
        (run / name / "policy.pt").write_text({".": "c", "policies/000000010": "a"}.get(name, "b"))
    names = ["000000010", "handover", "last"]
    assert [name for _, name in _policies(run, "last", True, False)] == names
    assert [name for _, name in _policies(run, "last", True, True)] == names[1:]
    assert [name for _, name in _policies(run, "000000020", False, False)] == ["000000020"]


def test_a_run_that_goes_on_has_no_true_score_of_its_last_policy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", status="interrupted")
    assert _true_score(run, "last") is None
    assert _true_score(run, "handover") == load_run(run).curve.handover


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", online=0)
    with (folder / "metrics.csv").open("a") as file:
        file.write("offline,1000001,0,99")
    assert len(load_run(folder).sides) == 20


HEADER = "side,updates,env_steps,score\n"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("run.yaml", None, "is not a run: it has no run.yaml"),
        ("run.yaml", "[1", "cannot be read"),
        ("run.yaml", "seed: 1", "run.yaml lacks algorithm"),
        ("run.yaml", "{algorithm: iql, seed: 1, plan: {}, data: {}}", "run.yaml lacks data.name"),
        ("metrics.csv", None, "has no evaluation yet"),
        ("metrics.csv", "", "lacks side, updates, env_steps, score"),
        ("metrics.csv", HEADER, "has no evaluation yet"),
        ("metrics.csv", f"{HEADER}offline,1,0,high\n", "metrics.csv:2: score is 'high'"),
    ],
)
def test_a_folder_that_is_no_run_says_what_is_missing(
    tmp_path: Path, file: str, content: str | None, told: str
) -> None:
    folder = make_run(tmp_path / "run")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        write_report([folder])
    assert told in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("env", "status", "what", "line"),
    [
        ("Hopper-v4", "interrupted", "no evaluation yet", "off2on train iql hopper-medium-v2 --resume"),
        ("Hopper-v4", "running", "no evaluation yet", "off2on report {folder}"),
        (None, "failed", "no evaluation yet", "off2on train iql hopper-medium-v2 --resume"),
        (None, "finished", "because it has no environment", "off2on ope {folder} data/hopper@0-1"),
    ],
)
def test_a_run_without_evaluation_names_the_command_that_gives_one(
    env: str | None, status: str, what: str, line: str, tmp_path: Path
) -> None:
    command = "off2on train iql hopper-medium-v2"
    folder = make_run(tmp_path / "my run", online=0, env=env, status=status, command=command)
    told = yaml.safe_load((folder / "run.yaml").read_text())
    told["data"]["pinned"] = "data/hopper@0-1"
    (folder / "run.yaml").write_text(yaml.safe_dump(told))
    (folder / "metrics.csv").write_text(f"{HEADER}offline,20,0,\n")
    with pytest.raises(UserError, match=what) as caught:
        write_report([folder])
    assert caught.value.try_ == line.format(folder=f"'{folder}'")


def test_runs_are_found_by_folder_glob_parent_and_name(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [five / f"iql-balanced-s{seed}" for seed in range(5)]
    assert find_runs([str(seeds[2])]) == [seeds[2]]
    assert find_runs([str(five / "*-s[01]")]) == seeds[:2]
    assert find_runs([str(five)]) == find_runs([str(five.parent)]) == seeds
    assert find_runs([str(five), str(seeds[0])]) == seeds  # each once
    assert find_runs(["iql-balanced-s4"], root=five.parent) == [seeds[4]]
    assert find_runs(["hopper-medium-v2/iql-balanced-s4"], root=five.parent) == [seeds[4]]
    monkeypatch.chdir(five)
    assert find_runs(["iql-balanced-s4"]) == [Path("iql-balanced-s4")]


def test_a_name_that_is_not_found_or_not_alone_says_so(five: Path) -> None:
    with pytest.raises(UnknownName, match=r"no run is called 'iql-balancd-s0'") as caught:
        find_runs(["iql-balancd-s0"], root=five)
    assert "nearest: iql-balanced-s0" in str(caught.value)
    assert str(five) in str(caught.value)
    with pytest.raises(UserError, match="5 runs match 'iql'"):
        find_runs(["iql"], root=five)
    with pytest.raises(UnknownName, match="0 runs"):
        find_runs(["anything"], root=five / "nowhere")
    for name in ("~nosuch/x", "x" * 300, "x" * 300 + "*"):
        with pytest.raises(UnknownName, match="no run is called"):
            find_runs([name], root=five)
    with pytest.raises(UnknownName, match="'' is no run"):
        find_runs([""], root=five)


def test_a_policy_that_is_not_there_names_the_other_one_if_that_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no policy called 'last'") as caught:
        policy_file(tmp_path)
    assert caught.value.try_ == ""
    (tmp_path / "checkpoints/handover").mkdir(parents=True)
    (tmp_path / "checkpoints/handover/policy.pt").touch()
    with pytest.raises(UnknownName, match="no policy called 'last'") as caught:
        policy_file(tmp_path)
    assert caught.value.try_ == "--checkpoint handover"
    with pytest.raises(UnknownName) as caught:
        policy_file(tmp_path, explore=True)
    assert caught.value.try_ == ""


def test_an_unfinished_copy_of_a_run_is_not_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "iql-append-s0")
    for name in ("iql-append-s0.partial", "iql-append-s0.old.partial"):
        make_run(tmp_path / name)
    assert find_runs([str(tmp_path)]) == [run]
    assert find_runs([f"{tmp_path}/*"]) == [run]
    assert find_runs([f"{run}.partial"]) == [tmp_path / "iql-append-s0.partial"]
    listed = [str(path) for path in sorted(tmp_path.iterdir())]
    shown = CliRunner().invoke(report, [*listed, "--out", str(tmp_path / "page.html")])
    assert "1 run" in shown.stderr, shown.stderr
