"""What is imported: what the user names, from the current folder last; nothing that a file names."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from command import environment, off2on, succeeds
from searches import FILE

from datasets_io import Shards
from datasets_io.environments import check_named, make, may_make, options_for, spaces_of
from datasets_io.errors import SimulatorError, UnknownName, UserError
from datasets_io.imports import import_module, import_object, is_known, own_folders, path_extender, raised_at
from datasets_io.scores import horizon
from off2on.algorithms import find_algorithm
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.rollout_collector import RolloutCollector, _sample
from off2on.training.evaluate import evaluate

LAB = """
import gymnasium as gym, numpy as np

open("imported", "w").close()

class Integers(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-3, 3, (1,), np.int64)

    def __init__(self, nan_at=10**9):
        self.nan_at, self.steps = nan_at, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = np.nan if self.steps >= self.nan_at else -float(abs(action[0]))
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), reward, False, self.steps % 20 == 0, {}

class Licensed(Integers):
    def __init__(self):
        raise FileNotFoundError("at /opt/sim.lic")

gym.register("Integers-v0", entry_point=Integers)
gym.register("Licensed-v0", entry_point=Licensed)
gym.register("Broken-v0", entry_point=Integers, kwargs={"nan_at": 31})
"""
LICENSED_LINE = 1 + LAB[: LAB.index("raise FileNotFoundError")].count("\n")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module `lab_env` that registers environments."""
    (tmp_path / "lab_env.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", os.getcwd())])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    for name in ("Integers-v0", "Licensed-v0", "Broken-v0"):
        gym.registry.pop(name, None)


@pytest.fixture
def named_lab(toy: Shards, lab: Path) -> Path:
    """A copy of toy-pendulum whose manifest names an environment of `lab_env`."""
    import shutil

    shutil.copytree(str(toy.path), lab / "named")
    manifest = json.loads((lab / "named/manifest.json").read_text())
    manifest |= {"name": "named", "env_id": "lab_env:Integers-v0", "env_options": {}}
    (lab / "named/manifest.json").write_text(json.dumps(manifest))
    return lab


# --- modules -----------------------------------------------------------------------------------------------


def test_the_current_folder_is_searched_last_and_only_for_what_is_nowhere_else(lab: Path):
    for name in ("json", "queue", "pandas", "lab_pandas"):
        (lab / f"{name}.py").write_text("raise SystemExit('harm')\n" if name != "lab_pandas" else "x = 1\n")
    for name in ("json", "queue", "pandas"):
        assert str(lab) not in str(import_module(name).__file__)
    assert str(lab) not in sys.path
    assert import_object("lab_pandas:x") == 1
    assert sys.path[-1] == str(lab)
    assert sys.path.count(str(lab)) == 1
    assert str(lab) in own_folders()


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("x = 1\ndef f(:\n", "SyntaxError", 2),
        ("\n\n1 / 0\n", "ZeroDivisionError", 3),
        ("import lab_missing_package\n", "ModuleNotFoundError", 1),
        ("raise SystemExit(3)\n", "SystemExit", 1),
        ("import json\njson.loads('{')\n", "JSONDecodeError", 2),
    ],
)
def test_a_module_that_fails_is_named_with_its_line(lab: Path, text: str, kind: str, line: int):
    (lab / "lab_bad.py").write_text(text)
    for look in (lambda: import_object("lab_bad:X"), lambda: find_algorithm("lab_bad:X")):
        with pytest.raises(UserError) as caught:
            look()
        assert caught.value.where == f"{lab}/lab_bad.py:{line}"
        assert kind in caught.value.what


def test_a_module_that_is_missing_is_said_to_be_and_where_it_was_looked_for(lab: Path):
    for name in ("lab_nothing", "lab_env.part"):
        with pytest.raises(UnknownName, match=name) as caught:
            import_object(f"{name}:X")
        assert str(lab) in caught.value.expected
    for name in ("", ".x", "a b", "a..b", "-x"):
        with pytest.raises(UnknownName):
            import_object(f"{name}:X")


def test_workers_get_the_folders_of_the_user_at_the_end(monkeypatch: pytest.MonkeyPatch):
    from ray import cloudpickle

    extend = cloudpickle.loads(cloudpickle.dumps(path_extender(["/lab", sys.path[0]])))
    monkeypatch.setattr(sys, "path", ["first", sys.path[0]])
    extend()
    assert sys.path == ["first", sys.path[1], "/lab"]


def test_an_error_is_located_in_the_code_of_the_user(lab: Path):
    with pytest.raises(ValueError, match="reshape") as caught:
        np.zeros(2).reshape(3)
    assert raised_at(caught.value).startswith(f"{__file__}:")


# --- environments ------------------------------------------------------------------------------------------


def test_an_environment_that_only_a_file_names_is_not_imported(named_lab: Path):
    env = "lab_env:Integers-v0"
    for use in (lambda: make(env), lambda: make(f"gym:{env}")):
        with pytest.raises(SimulatorError) as caught:
            use()
        assert caught.value.try_.startswith("--env ")
        assert caught.value.try_.endswith(env)
    assert "only a file names" in spaces_of(env).error
    assert horizon(env) is None
    assert not may_make(env)
    data = str(named_lab / "named")
    assert find_algorithm("td3_bc").configure(data).env is None
    for words in (["data", "show", data], ["data", "check", data], ["train", "td3_bc", data, "--dry-run"]):
        done = off2on(named_lab, *words)
        assert done.returncode == 0, done.stderr
    refused = off2on(named_lab, "train", "td3_bc", data, "--online", "20", "--dry-run")
    assert refused.returncode == 2
    assert refused.stderr.rstrip().endswith(f"--env {env}")
    assert not (named_lab / "imported").exists()
    succeeds(named_lab, "train", "td3_bc", data, "--online", "20", "--env", env, "--dry-run")
    assert (named_lab / "imported").exists()


def test_modules_that_a_file_may_name():
    assert all(map(is_known, ("", "gymnasium_robotics", "ogbench", "off2on.simulators", "os")))
    assert not any(map(is_known, ("lab_env", "antigravity", "gymnasium_evil")))


@pytest.mark.parametrize(
    "options", [{"kind": "os:system"}, {"a": [{"b": "lab.x:y"}]}, {"lab:x": 1}], ids=["value", "deep", "name"]
)
def test_options_of_data_name_no_code(options: dict[str, Any]):
    with pytest.raises(SimulatorError, match="names code"):
        options_for("Pendulum-v1", "Pendulum-v1", options)
    with pytest.raises(SimulatorError, match="names code"):
        make("Pendulum-v1", options)
    plain = {"scenes": "s3://bucket/x", "at": "12:30", "xml_file": "ant.xml", "g": 9.8, "maze": [["1", 0]]}
    assert options_for("Pendulum-v1", "Pendulum-v1", plain) == plain


def test_an_environment_that_raises_is_named_with_the_line(named_lab: Path):
    data, env = str(named_lab / "named"), "lab_env:Licensed-v0"
    table = named_lab / "x.csv"
    table.write_text("episode,obs,actions,rewards\n0,1,1,1\n0,2,1,1\n")
    for words in (
        ["data", "add", table, "--env", env],
        ["train", "td3_bc", data, "--env", env, "--dry-run"],
        ["train", "td3_bc", data, "--env", env],
    ):
        done = off2on(named_lab, *words)
        assert done.returncode == 2
        first = done.stderr.splitlines()[0]
        assert first.startswith(f"error: {named_lab}/lab_env.py:{LICENSED_LINE}: the environment {env}")
        assert "FileNotFoundError: at /opt/sim.lic" in first
    assert not (named_lab / "data").exists()
    with pytest.raises(SimulatorError, match="No module named 'lab_none'"):
        check_named("lab_none:X-v0")
    check_named("NoSuchThing-v0")  # data can be used without their environment


# --- actions, NaN ------------------------------------------------------------------------------------------


def constant(value: float) -> Any:
    return lambda obs: np.full((len(obs), 1), value, np.float32)


def test_actions_are_rounded_to_whole_numbers_where_the_environment_has_these(lab: Path):
    for value, cost in ((1.4, 20), (-2.6, 60), (9.0, 60)):
        episodes = evaluate(constant(value), "lab_env:Integers-v0", episodes=2, seed=0)
        assert [episode.ret for episode in episodes] == [-cost, -cost]


def test_the_first_action_is_checked(lab: Path):
    with pytest.raises(SimulatorError, match="the first action"):
        evaluate(constant(2.5), "Pendulum-v1", episodes=1, seed=0)
    with pytest.raises(SimulatorError, match="the first action"):
        evaluate(lambda obs: np.zeros((len(obs), 2), np.float32), "Pendulum-v1", episodes=1, seed=0)
    assert evaluate(constant(np.float32(2) + 1e-6), "Pendulum-v1", episodes=1, seed=0)[0].length == 200


def test_an_environment_that_gives_nan_stops_an_evaluation(lab: Path):
    with pytest.raises(SimulatorError, match=r"gave nan .* in step 11"):
        evaluate(constant(0), "lab_env:Broken-v0", episodes=1, seed=0, options={"nan_at": 11})


@pytest.mark.parametrize("column", ["obs", "new_obs", "rewards"])
def test_a_rollout_with_nan_is_refused_with_its_step(column: str):
    runner: Any = SimpleNamespace(config=SimpleNamespace(env="Pendulum-v1"))
    columns = {"obs": np.zeros((8, 3)), "new_obs": np.zeros((8, 3)), "rewards": np.zeros(8)}
    RecipeEnvRunner._check_finite(runner, columns, 100)
    RecipeEnvRunner._check_finite(runner, {}, 100)
    columns[column][5] = np.inf
    with pytest.raises(SimulatorError, match=r"inf .* in step 106"):
        RecipeEnvRunner._check_finite(runner, columns, 100)


def test_a_runner_in_another_process_hands_on_an_error_that_would_come_again():
    def fail(**_: Any) -> None:
        raise SimulatorError("nan")

    runner: Any = SimpleNamespace(worker_index=1, sample=fail, env=None, make_env=lambda: None)
    collector = RolloutCollector(None, None, lambda steps: steps)
    with pytest.raises(SimulatorError, match="nan"):
        list(collector._rollout(_sample(runner, 1, 0, None), 0))


# --- defects and pipes -------------------------------------------------------------------------------------


def test_a_defect_ends_with_one_line_a_file_and_70(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import tempfile

    import datasets_io.shards.reading

    def fail() -> None:
        raise ZeroDivisionError("a \x1b[2Jdefect, password=hunter2hunter2")

    monkeypatch.setattr(datasets_io.shards.reading, "data_root", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = off2on(tmp_path, "data", "list")
    (file,) = tmp_path.glob("off2on-error-*.txt")
    assert done.returncode == 70
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    report = file.read_text()
    assert "command   off2on data list" in report
    assert all(word in report for word in ("Traceback", "ZeroDivisionError", "torch", "python"))
    assert "hunter2" not in report + done.stderr
    with pytest.raises(ZeroDivisionError):
        off2on(tmp_path, "data", "list", OFF2ON_DEBUG="1")


@pytest.mark.slow
def test_a_closed_pipe_is_quiet(tmp_path: Path):
    command = f"{Path(sys.executable).parent}/off2on algos"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stderr == ""


STANDARD = ("random", "queue", "struct", "socket", "pandas", "numpy", "ray", "torch", "click", "h5py", "yaml")
ALGORITHM = """
from off2on.algorithms.td3_bc import TD3BC

class Mine(TD3BC):
    pass
"""


@pytest.mark.slow
def test_files_of_the_folder_run_nothing_and_modules_that_are_named_reach_all_processes(tmp_path: Path):
    """Real processes: the command, a learner and environment runners of Ray, and trials of a search."""
    for name in STANDARD:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w').write({name!r})\n")
    (tmp_path / "lab_algo.py").write_text(ALGORITHM)
    (tmp_path / "lab_env.py").write_text(LAB.replace('open("imported", "w").close()', ""))

    def run(*words: str) -> None:
        command = [f"{Path(sys.executable).parent}/off2on", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "harmed").exists(), (tmp_path / "harmed").read_text()

    run("data", "add", "toy-pendulum", "episodes=3")
    small = ["hidden=8,8", "batch_size=8", "--updates", "10", "--eval-episodes", "1", "--threads", "1"]
    online = ["--online", "20", "--env", "lab_env:Integers-v0", "--learners", "1", "--workers", "1"]
    run("train", "lab_algo:Mine", "toy-pendulum", *small, *online)
    search = FILE.replace("iql", "lab_algo:Mine").partition("search:")[0]
    search = search.replace("seeds: 3\ntrials: 3", "seeds: 1\ntrials: 1\nenv: lab_env:Integers-v0")
    (tmp_path / "search.yaml").write_text(f"{search}search:\n  actor_lr: default\n")
    run("tune", "search.yaml")
