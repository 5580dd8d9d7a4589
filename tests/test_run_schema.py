"""Files of a run that somebody changed: read rightly, or refused by file and field; none is a traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from found import make_search
from made_runs import make_run

from datasets_io import Shards
from datasets_io.errors import Corrupt, UnknownName, printable
from off2on.commands.evaluate import evaluate as eval_command
from off2on.commands.output import print_json, print_table
from off2on.commands.serve import serve
from off2on.errors import SimulatorError, UserError
from off2on.reports.run import write_report
from off2on.reports.search import write_search_report
from off2on.reports.search.record import load_search
from off2on.runs.checkpoints import PARTS, check_checkpoint
from off2on.runs.folder import Run
from off2on.runs.handover import read_handover
from off2on.runs.metadata import RunMetadata, read_metadata
from off2on.runs.record import find_run, find_runs, load_run
from off2on.runs.tables import read_episodes, read_metrics
from off2on.search.reading import read as read_search
from off2on.search.trial_store import TrialStore
from off2on.training.evaluate import check_policy, check_simulator, evaluate
from off2on.training.guard import Guard
from off2on.training.located_yaml import read_yaml

OLD_RUN = Path(__file__).parent / "fixtures" / "run_of_0_1_0"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [*{o}, *{o}]\n" for o, n in zip("abcdefgh", "bcdefghi", strict=True)
)


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


# Checkpoints.


@pytest.fixture
def kept(run: Path) -> Run:
    """A run with a checkpoint of two parts."""

    def save(folder: str) -> None:
        (Path(folder) / "learner").mkdir(parents=True)
        (Path(folder) / "learner/state.pkl").write_bytes(b"12345")
        (Path(folder) / "rows-0-of-1.pt").write_bytes(b"678")

    opened = Run.resume(run)
    opened.checkpoints.mkdir()
    opened.checkpoint("000010", save)
    return opened


def relink(run: Run, target: str) -> None:
    (run.checkpoints / "last").unlink()
    (run.checkpoints / "last").symlink_to(target)


SPOILED: dict[str, tuple[Callable[[Run], object], str]] = {
    "dangling": (lambda run: relink(run, "gone"), "gone"),
    "elsewhere": (lambda run: relink(run, "/etc"), "/etc"),
    "the run itself": (lambda run: relink(run, ".."), "leads to"),
    "all checkpoints": (lambda run: relink(run, "."), "leads to"),
    "a part is missing": (lambda run: (run.checkpoints / "000010/rows-0-of-1.pt").unlink(), "rows-0-of-1.pt"),
    "a folder is missing": (
        lambda run: shutil.rmtree(run.checkpoints / "000010/learner"),
        "learner/state.pkl",
    ),
    "a part is short": (
        lambda run: (run.checkpoints / "000010/learner/state.pkl").write_bytes(b"12"),
        "learner/state.pkl has 2 bytes",
    ),
    "a part lies elsewhere": (
        lambda run: (run.checkpoints / "000010/more.pkl").symlink_to("/etc/passwd"),
        "more.pkl",
    ),
    "another folder": (
        lambda run: run.checkpoints.symlink_to(run.checkpoints.rename(run.folder.parent / "x")),
        "leads to",
    ),
    "a damaged list": (lambda run: (run.checkpoints / "000010" / PARTS).write_text("[1]"), PARTS),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_checkpoint_that_is_not_whole_is_refused(spoil: str, kept: Run):
    assert kept.last_checkpoint == kept.checkpoints / "000010"
    break_it, told = SPOILED[spoil]
    break_it(kept)
    with pytest.raises(Corrupt) as refused:
        _ = kept.last_checkpoint
    assert told in str(refused.value)


def test_a_checkpoint_of_the_version_before_has_its_parts(tmp_path: Path):
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run", symlinks=True))
    checkpoint = check_checkpoint(run, "last")
    assert checkpoint.name == "000000300-000000100"
    for part in ("rows-0-of-1.pt", "algorithm_state.pkl"):
        (checkpoint / part).rename(checkpoint / "moved")
        with pytest.raises(Corrupt, match=part):
            check_checkpoint(run, "last")
        (checkpoint / "moved").rename(checkpoint / part)


# What a run.yaml names.


def metadata(**fields: Any) -> RunMetadata:
    plain: dict[str, Any] = {"algorithm": "iql", "data": {"name": "x"}, "seed": 0, "plan": {}} | fields
    from pydantic import TypeAdapter

    return TypeAdapter(RunMetadata).validate_python(plain)


def test_no_module_is_imported_because_a_file_names_it():
    assert metadata(env="Pendulum-v1").known_env() == "Pendulum-v1"
    assert metadata(env="off2on.simulators:off2on/X-v0").known_env() is not None
    assert metadata(algorithm="off2on.algorithms.iql:IQL").known_algorithm() == "off2on.algorithms.iql:IQL"
    with pytest.raises(SimulatorError, match="evil_module"):
        metadata(env="evil_module:X-v0").known_env()
    with pytest.raises(UserError, match="evil_module"):
        metadata(algorithm="evil_module:Class").known_algorithm()


def test_the_training_data_are_those_that_the_run_was_trained_on(
    toy: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OFF2ON_DATA", str(tmp_path))
    data = {"name": "toy", "pinned": toy.pinned, "content_hash": toy.manifest.content_hash}
    assert metadata(data=data).training_data().rows == toy.rows
    for changed, kind in (({"content_hash": "0"}, Corrupt), ({"pinned": "gone@0-0"}, UnknownName)):
        with pytest.raises(kind):
            metadata(data=data | changed).training_data()
    for lacks in ("pinned", "content_hash"):
        with pytest.raises(Corrupt, match=lacks):
            metadata(data={name: value for name, value in data.items() if name != lacks}).training_data()


class Broken(gym.Env[Any, Any]):
    """An environment whose parts raise on request."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, where: str = "init") -> None:
        self.where = where
        self._raise("init")

    def _raise(self, where: str) -> None:
        if self.where == where:
            raise FileNotFoundError("no licence\nat /opt/sim.lic")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._raise("reset")
        return np.zeros(3, np.float32), {}

    def step(self, _: Any) -> Any:
        self._raise("step")
        return np.zeros(3, np.float32), 0.0, True, False, {}


gym.register("off2on/Broken-v0", Broken)
BROKEN = "off2on/Broken-v0"


def zeros(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.zeros((len(obs), 1), np.float32)


@pytest.mark.parametrize("where", ["init", "reset", "step"])
def test_an_error_of_an_environment_names_it(where: str):
    with pytest.raises(SimulatorError, match=r"Broken-v0 raised FileNotFoundError: at /opt/sim\.lic"):
        evaluate(zeros, BROKEN, episodes=1, seed=0, options={"where": where})


def test_an_environment_that_cannot_be_made_or_does_not_fit_is_refused():
    space = Broken.observation_space
    with pytest.raises(SimulatorError, match="FileNotFoundError"):
        check_simulator(BROKEN, space, Broken.action_space, "data")
    check_policy(zeros, BROKEN, {"where": ""})
    for env, options in ((BROKEN, {}), (BROKEN, {"nope": 1}), ("Gone-v0", {}), ("no_module:X-v0", {})):
        with pytest.raises(SimulatorError, match=env.rpartition(":")[2]):
            check_policy(zeros, env, options)
    with pytest.raises(SimulatorError, match="actions of CartPole"):
        check_policy(zeros, "CartPole-v1")

    def narrow(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise RuntimeError("expected 2 columns")

    with pytest.raises(SimulatorError, match="observations of"):
        check_policy(narrow, BROKEN, {"where": ""})


# Guards, trials and files of searches.


def test_a_damaged_guard_is_refused():
    valid = Guard.load(
        yaml.safe_dump({"options": {"margin": 0.1}, "handover": [1.0, 2.0], "home": "handover", "trials": []})
    )
    valid.decide(1, "000001", [2.0, 3.0], [])
    plain = yaml.safe_load(valid.dump())
    assert Guard.load(valid.dump()) == valid
    for field, value in (
        ("handover", []), ("handover", [float("nan")]), ("handover", [1.0]), ("home", "../../x"),
        ("home", "/etc"),
        ("options", {"margn": 1}), ("options", {"margin": "x"}), ("trials", [{}]), ("trials", 1),
        *(("trials", [plain["trials"][0] | wrong]) for wrong in ({"serving": "../x"}, {"decision": "go"})),
    ):  # fmt: skip
        with pytest.raises(UserError):
            Guard.load(yaml.safe_dump(plain | {field: value}))


@pytest.mark.parametrize(
    "row",
    [
        {"trial": "../../etc"}, {"trial": "x", "folder": "/"}, {"score": "1e308"}, {"low": "x"},
        {"updates": "many"}, {"seconds": "1e200"},
    ],
)  # fmt: skip
def test_a_damaged_row_of_a_search_is_refused_with_its_line(row: dict[str, str], tmp_path: Path):
    search = make_search(tmp_path / "search", [{"score": 1, "beta": 1}, {"score": 1, "beta": 2} | row])
    with pytest.raises(Corrupt, match=r"trials\.csv:3"):
        load_search(search)


@pytest.mark.parametrize(
    "values", [("$\\frac$", "$x$"), ("a" * 900, "b" * 900), ("1e308", "-1e308"), ("inf", "<script>")]
)
def test_odd_values_of_a_search_are_shown(values: tuple[str, str], tmp_path: Path):
    rows = [{"score": score, values[0]: value, "beta": value} for score, value in enumerate((*values, "1"))]
    page, _ = write_search_report(make_search(tmp_path / "search", rows))
    assert isinstance(page, Path)
    assert "<script" not in page.read_text()


def test_a_damaged_trial_is_refused(tmp_path: Path):
    store = TrialStore(tmp_path, ["beta"])
    trial = store.add("00001", {"beta": 1.0}, {"beta": "1"})
    assert TrialStore(tmp_path, ["beta"]).trials == [trial]
    file = tmp_path / "trials/000/trial.yaml"
    for content in ("", "[]", "name: '000'", file.read_text().replace("'000'", "../x"), BOMB, "name: ["):
        file.write_text(content)
        with pytest.raises(Corrupt, match=r"trial\.yaml"):
            TrialStore(tmp_path, ["beta"])


SEARCH = "algorithm: iql\ndata: toy-pendulum\nsearch:\n  beta: {between: [1, 2]}\n"
SEARCHES = {
    "an alias": ("with: &a {hidden: 8}\nout: *a\n", ":6"),
    "many seeds": ("seeds: 1000000000\n", ":5"),
    "many trials": ("trials: 1e15\n", ":5"),
    "a quote": ("with: {hidden: '8}\n", ":"),
    "a list as a name": ("? [a, b]\n: 1\n", ":5"),
    "deep": ("with: " + "[" * 500 + "\n", ":5"),
    "a tab": ("with:\n\thidden: 8\n", ":6"),
    "a large grid": ("by: grid\nwith: {hidden: 8}\n", ":"),
}


@pytest.mark.parametrize("wrong", SEARCHES)
def test_a_wrong_search_file_is_refused_with_its_line(wrong: str, tmp_path: Path):
    text, told = SEARCHES[wrong]
    start = SEARCH
    if wrong == "a large grid":
        names = (
            "beta",
            "expectile",
            "weight_clip",
            "value_lr",
            "critic_lr",
            "actor_lr",
            "discount",
            "polyak",
        )
        lists = {name: {"one_of": [0.5 + number / 100 for number in range(40)]} for name in names}
        start = yaml.safe_dump({"algorithm": "iql", "data": "toy-pendulum", "search": lists})
    (tmp_path / "search.yaml").write_text(start + text)
    with pytest.raises(UserError) as refused:
        read_search(tmp_path / "search.yaml")
    assert f"search.yaml{told}" in str(refused.value)


def test_a_large_or_special_file_of_a_search_is_not_read(tmp_path: Path):
    (tmp_path / "search.yaml").write_bytes(b"a: b\n" * 2**20)
    for file in (tmp_path / "search.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError):
            read_yaml(file)
