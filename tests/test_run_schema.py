"""Files of a run that somebody changed: read rightly, or refused by file and field; none is a traceback."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from made_runs import BOMB, make_run

from datasets_io import Shards
from datasets_io.errors import Corrupt, printable
from off2on.commands.evaluate import evaluate as eval_command
from off2on.commands.output import print_json, print_table
from off2on.commands.serve import serve
from off2on.errors import UserError
from off2on.reports.run import write_report
from off2on.runs.folder import Run
from off2on.runs.handover import read_handover
from off2on.runs.metadata import read_metadata
from off2on.runs.record import find_run, find_runs, load_run
from off2on.runs.tables import read_episodes, read_metrics

OLD_RUN = Path(__file__).parent / "fixtures" / "run_of_0_1_0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def change(run: Path, path: str, value: Any) -> None:
    """Set a field of run.yaml, such as ``data.name``; `...` removes it."""
    *parents, name = path.split(".")
    content = target = yaml.safe_load((run / "run.yaml").read_text())
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[name]
    else:
        target[name] = value
    (run / "run.yaml").write_text(yaml.safe_dump(content))


WRONG: list[tuple[str, Any]] = [
    ("algorithm", ...), ("algorithm", 3), ("algorithm", ""), ("data", ...), ("data", [1]), ("data.name", 7),
    ("data.pinned", "/etc"), ("data.pinned", 5), ("data.content_hash", 5), ("data.rows", -1),
    ("data.rows", "many"), ("data.return_mean", "abc"), ("data.return_mean", float("nan")),
    ("data.return_mean", 1e308), ("data.return_to_go_max", [1]), ("data.reference", 5),
    ("data.reference", [1]), ("data.reference", [1, 1]), ("data.reference", [0, float("inf")]),
    ("data.reference", ["0", "1"]), ("seed", ...), ("seed", "<b>"), ("seed", -1), ("seed", 1.5),
    ("seed", True), ("updates", "x"), ("online", "x"), ("online", 10**400), ("wall_s", "x"), ("wall_s", -1.0),
    ("env", 7), ("env_options", [1]), ("online_side", 3), ("online_side", {"online.warm_up": {"value": "x"}}),
    ("hyperparameters", [1]), ("hyperparameters.beta", 3), ("hyperparameters.beta", {"default": 1}),
    ("plan", ...), ("plan", [1]), ("score", {"a": 1}), ("score", [1]), ("versions", [1]),
    ("versions", {"torch": 2.5}), ("status", ["finished"]), ("command", 5), ("strategy", ["rlpd"]),
    ("tracked", [1]), ("taken_over", 1), ("not_made", {"updates": "x"}), ("started", 5), ("threads", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_of_run_yaml_is_named(field: str, value: Any, run: Path):
    change(run, field, value)
    with pytest.raises(Corrupt) as refused:
        load_run(run)
    assert "run.yaml" in str(refused.value)
    assert field.rpartition(".")[2] in str(refused.value) or "online.warm_up" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n",
        b"7",
        b"\xff\xfe\0\1",
        b"[" * 20_000,
        b"a: [",
        b"? [a]\n: 1\n",
        BOMB.encode(),
        b"a: \x1b",
    ],
)
def test_a_file_that_is_no_mapping_is_refused(content: bytes, run: Path):
    for name, read in (("run.yaml", load_run), ("handover.yaml", read_handover)):
        (run / name).write_bytes(content)
        with pytest.raises(Corrupt, match=name):
            read(run)  # type: ignore[operator]


def test_nothing_that_yaml_names_is_called(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(run)
    (run / "run.yaml").write_text("!!python/object/apply:os.system ['touch harmed']\n")
    with pytest.raises(Corrupt):
        read_metadata(run)
    assert not (run / "harmed").exists()


def test_a_folder_in_place_of_a_file_is_refused(run: Path):
    (run / "run.yaml").unlink()
    (run / "run.yaml").mkdir()
    with pytest.raises(Corrupt, match="not a file"):
        load_run(run)


def test_runs_of_the_version_before_are_read():
    metadata = read_metadata(OLD_RUN)
    assert (metadata.algorithm, metadata.data.name, metadata.option("seed").count("seed")) == (
        *("iql", "toy-pendulum"),
        0,
    )
    assert len(read_metrics(OLD_RUN)) == 5
    assert {int(row["length"]) for row in read_episodes(OLD_RUN)} == {200}


def test_what_is_not_read_is_kept_and_nothing_is_written_as_an_alias(run: Path):
    change(run, "mine", {"notes": [1, {"a": None}]})
    hidden = [8, 8]
    opened = Run.resume(run)
    opened.describe({"one": hidden, "other": hidden})
    again = Run.resume(run).metadata
    assert again["mine"] == {"notes": [1, {"a": None}]}
    assert again["one"] == again["other"] == hidden


HEADER = "side,updates,env_steps,score,q\n"
ROW = "offline,10,0,-5.5,1\n"
TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "lacks side"),
    "half a header": ("side,upd", "lacks side"),
    "no score": ("side,updates,env_steps\n", "lacks score"),
    "binary": (HEADER.encode() + b"\xff\xfe\n", ":2"),
    "nul": (HEADER + ROW.replace("5", "\0"), ":2"),
    "a text": (HEADER + ROW + ROW.replace("-5.5", "high"), ":3: score"),
    "another side": (HEADER + ROW.replace("offline", "<b>"), ":2: side"),
    "negative": (HEADER + ROW.replace("10", "-10"), ":2: updates"),
    "infinite": (HEADER + ROW.replace("10", "inf"), ":2: updates"),
    "half a count": (HEADER + ROW.replace("10", "1.5"), ":2: updates"),
    "many digits": (HEADER + ROW.replace("10", "1" * 400), ":2: updates"),
    "too large": (HEADER + ROW.replace("-5.5", "1e308"), ":2: score"),
    "falling": (HEADER + ROW + ROW.replace("10", "9"), ":3: updates"),
    "a cell more": (HEADER + ROW.replace("10", "10,0"), ":2: the line has 6 cells"),
    "a line in the middle": (HEADER + "offline,10\n" + ROW, ":2: the line has 2 cells"),
    "a quote": (HEADER + '"offline,10,0,1,1\n', ":2"),
    "a long line": (HEADER + ROW + "x" * 300_000, ":3"),
    "a column twice": (HEADER.replace("q", "score"), ":1"),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_table_is_refused_with_its_line(table: str, run: Path):
    content, told = TABLES[table]
    (run / "metrics.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (load_run, Run.resume, lambda run: find_run(str(run))):
        with pytest.raises(Corrupt) as refused:
            read(run)
        assert f"metrics.csv{told}" in str(refused.value) or told in str(refused.value)


def test_a_last_line_without_its_end_is_left_out_and_empty_cells_are_not_numbers(run: Path):
    (run / "metrics.csv").write_text(
        HEADER + "offline,10,0,-5.5,\n" + "offline,20,0,inf,nan\noffline,30,0,-1"
    )
    record = load_run(run)
    assert record.metrics["updates"].tolist() == [10, 20]
    np.testing.assert_array_equal(record.metrics["q"], [np.nan, np.nan])
    assert record.curve.offline.tolist() == [-5.5]
    (run / "episodes.csv").write_text("side,updates,env_steps,episode,return,length\noffline,10,0,0,x,1\n")
    with pytest.raises(Corrupt, match=r"episodes\.csv:2: return"):
        Run.resume(run)


def test_a_damaged_run_is_named_and_left_out_of_the_page(whole: Path, tmp_path: Path):
    folders = [Path(shutil.copytree(whole, tmp_path / name)) for name in ("good", "bad", "worse", "waiting")]
    change(folders[1], "seed", "<script>x</script>\x1b[2J")
    (folders[2] / "metrics.csv").write_bytes(b"\xff\n")
    (folders[3] / "metrics.csv").unlink()
    notes: list[str] = []
    page = write_report(folders, note=notes.append).read_text()
    for folder, note in zip(folders[1:], notes, strict=True):
        assert str(folder) in note
        assert f"{folder}" in page
    assert "seed" in notes[0]
    assert "\x1b" not in notes[0] + page
    assert "<script" not in page


def test_text_of_a_run_is_text_on_its_page(run: Path):
    text = "</title></pre><script>alert(1)</script><figure-0> $\\frac$ " + "x" * 300
    for field in ("algorithm", "strategy", "data.name", "env", "status", "command", "commit", "device"):
        change(run, field, text)
    change(run, "hyperparameters", {text: {"value": text, "default": 1, "origin": text}})
    (run / "handover.yaml").write_text(
        yaml.safe_dump(
            {
                "changes": [{"what": text, "offline": "a", "online": text}],
                "checks": [{"what": text, "passed": None, "found": text}],
            }
        )
    )
    assert "<script" not in write_report([run]).read_text()


def test_links_in_a_circle_do_no_harm(whole: Path, tmp_path: Path):
    shutil.copytree(whole, tmp_path / "runs/a")
    for name in ("x", "y", "z"):
        (tmp_path / "runs" / name).symlink_to(tmp_path / "runs")
        (tmp_path / "runs/a" / name).symlink_to(tmp_path)
    assert find_runs([str(tmp_path / "runs")]) == [tmp_path / "runs/a"]
    assert find_runs([str(tmp_path / "**")]) == [tmp_path / "runs/a"]


def test_control_characters_do_not_reach_a_terminal(capsys: pytest.CaptureFixture[str]):
    text = "a\x1b[2Jb\rc\x07d\x9be\u202ef\ud800\n\tg é"
    assert printable(text) == "a\\x1b[2Jb\\rc\\x07d\\x9be\\u202ef\\ud800\n\tg é"
    assert "\x1b" not in str(UserError(text, text, text))
    print_table([[text, "x"]])
    assert "\x1b" not in capsys.readouterr().out
    plain = {"name": "a\x1b\x9b\u202e é"}
    print_json(plain)
    printed = capsys.readouterr().out
    assert json.loads(printed) == plain
    assert not {"\x1b", "\x9b", "\u202e"} & set(printed)


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]):
    print_json(
        {"value": np.float64("nan"), "ends": (-math.inf, 1.5), "rows": [{"name": "NaN", "low": math.nan}]}
    )
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == {"value": None, "ends": [None, 1.5], "rows": [{"name": "NaN", "low": None}]}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (eval_command, ["--seed", "-5"]), (eval_command, ["--seed", "9" * 23]),
        (eval_command, ["--episodes", "0"]),
        (serve, ["--port", "-1"]), (serve, ["--port", "99999"]), (serve, ["--every", "0"]),
        (serve, ["--replicas", "0"]), (serve, ["--log", "../../x"]), (serve, ["--host", "nope.invalid"]),
    ],
)  # fmt: skip
def test_wrong_options_start_nothing(command: Any, words: list[str], toy: Shards, run: Path):
    change(run, "data.pinned", toy.pinned)
    change(run, "data.content_hash", toy.manifest.content_hash)
    (run / "policy.pt").touch()
    result = CliRunner().invoke(command, [str(run), *words])
    assert result.exit_code == 2 or isinstance(result.exception, UserError), result.output
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    assert not (run / "served").exists()
