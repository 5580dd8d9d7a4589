"""Presets: a paper's values by family of data, in the catalogue and through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import off2on, succeeds

from datasets_io import Shards
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.errors import HyperparameterError
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.replay.transforms import Transforms
from off2on.training.plan import Plan

PRESETS = [(name, preset) for name in CATALOGUE for preset in find_algorithm(name).Hyperparameters.presets]
"""Every algorithm's own and inherited ones."""


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_a_preset_says_what_is_allowed_and_not_just_the_default(name: str, preset: str):
    kind = find_algorithm(name).Hyperparameters
    values, defaults = kind.presets[preset], kind()
    taken = kind.parse({"preset": preset}, name)
    assert kind.parse(values, name) == taken
    alike = [key for key in values if getattr(taken, key) == getattr(defaults, key)]
    # In a table, with the same hyperparameters for many a data set, some have the default's.
    table = [row for row in kind.presets.values() if row.keys() == values.keys()]
    assert not alike or len(table) > 2 or len(alike) < len(values) / 2, alike
    rest = kind.rules().keys() - values.keys()
    assert all(getattr(taken, key) == getattr(defaults, key) for key in rest)
    # as text, as a file or a shell gives it
    text = {
        key: ",".join(map(str, each)) if isinstance(each, tuple) else str(each)
        for key, each in values.items()
    }
    assert kind.parse(text, name) == taken


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_what_is_said_wins_over_a_preset(name: str, preset: str):
    kind = find_algorithm(name).Hyperparameters
    values, defaults = kind.presets[preset], kind()
    first = next(iter(values))
    said = kind.parse({first: getattr(defaults, first), "preset": preset}, name)
    assert getattr(said, first) == getattr(defaults, first)
    for key in values.keys() - {first}:
        assert getattr(said, key) == getattr(kind.parse({"preset": preset}, name), key)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_unknown_preset_is_refused_with_the_nearest(name: str):
    kind = find_algorithm(name).Hyperparameters
    known = list(kind.presets)
    wrong = f"{known[0]}x" if known else "antmaze"
    with pytest.raises(HyperparameterError) as refusal:
        kind.parse({"preset": wrong}, name)
    assert refusal.value.what == f"{name} has no preset '{wrong}'."
    if known:
        assert refusal.value.nearest == known[0]
    assert f"All: {' '.join(known) or 'none'}" in refusal.value.expected


def test_a_plan_knows_what_its_preset_said(data_root: Path):
    given = {"preset": "antmaze", "beta": "7"}
    plan = Plan(
        "iql", "toy-pendulum", hyperparameters=given, origins={"preset": "x.yaml:1", "beta": "x.yaml:2"}
    )
    resolved = plan.check()
    origins = plan.hyperparameter_origins(resolved.settings)
    assert (resolved.settings.hp.expectile, origins["expectile"]) == (0.9, "preset antmaze")
    assert (resolved.settings.hp.beta, origins["beta"]) == (7.0, "x.yaml:2")
    assert (resolved.settings.hp.batch_size, origins["batch_size"]) == (256, "default")
    assert origins.keys() == resolved.settings.hp.as_dict().keys()
    bare = Plan("iql", "toy-pendulum", hyperparameters={"beta": 7.0})
    assert bare.hyperparameter_origins(bare.check().settings)["beta"] == "given"


@pytest.mark.parametrize(
    ("name", "stored", "learned"),
    [
        ("minus_one", (0, 1), (-1, 0)),
        ("four_minus_two", (0, 1), (-2, 2)),
        ("ten_minus_five", (0, 1), (-5, 5)),
        ("ten_plus_five", (-1, 0), (-5, 5)),
        ("times_ten", (-1, 0), (-10, 0)),
    ],
)
def test_rewards_of_sparse_tasks_are_shifted_as_named(
    wide: Shards, name: str, stored: tuple[int, int], learned: tuple[int, int]
):
    made = Transforms.of(wide, Hyperparameters(reward=name)).apply({"rewards": np.array(stored, np.float32)})
    assert tuple(made["reward"]) == learned


# The command line.

SMALL = ("hidden=16,16", "batch_size=32", "--eval-episodes", "1", "--threads", "1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with toy data."""
    lab = tmp_path_factory.mktemp("presets")
    succeeds(lab, "data", "add", "toy-pendulum", "episodes=4")
    return lab


@pytest.fixture(scope="module")
def trained(lab: Path) -> Path:
    """That directory, with a finished run that took a preset."""
    words = ["iql", "toy-pendulum", "--updates=20", "--eval-every=20", *SMALL, "preset=antmaze", "beta=5"]
    succeeds(lab, "train", *words)
    return lab


def dry(lab: Path, *words: str) -> dict[str, list[str]]:
    """Option → value and origin, as a dry run prints them."""
    said = succeeds(lab, "train", *words, "--dry-run").stdout
    return {line.split()[0]: line.split(maxsplit=2)[1:] for line in said.splitlines()}


def test_a_dry_run_shows_what_comes_from_a_preset(lab: Path):
    (lab / "mine.yaml").write_text("preset: antmaze\nbeta: 6\n")
    said = dry(lab, "iql", "toy-pendulum", "--out", "dry", "@mine.yaml", "reward=raw")
    assert said["expectile"] == ["0.9", "preset antmaze"]
    assert said["normalise_obs"] == ["False", "preset antmaze"]
    assert said["beta"] == ["6", "mine.yaml:2"]
    assert said["reward"] == ["raw", "command line"]
    assert said["weight_clip"] == ["100", "default"]
    assert "preset" not in said
    # what comes later wins, among presets too
    later = dry(lab, "iql", "toy-pendulum", "--out", "dry", "@mine.yaml", "preset=adroit")
    assert later["dropout"] == ["0.1", "preset adroit"]
    assert later["expectile"] == ["0.7", "default"]
    assert later["beta"] == ["6", "mine.yaml:2"]


@pytest.mark.slow
def test_a_run_writes_down_what_came_from_a_preset(trained: Path):
    about = yaml.safe_load((trained / "runs/toy-pendulum/iql-s0/run.yaml").read_text())["hyperparameters"]
    assert about["expectile"] == {"value": 0.9, "default": 0.7, "origin": "preset antmaze"}
    assert about["beta"] == {"value": 5.0, "default": 3.0, "origin": "command line"}
    assert about["weight_clip"]["origin"] == "default"


@pytest.mark.slow
def test_from_a_run_a_preset_is_inherited_value_by_value(trained: Path):
    said = dry(trained, "--from", "iql-s0", "--online", "10", "--out", "dry")
    for name, value in (("expectile", "0.9"), ("beta", "5"), ("reward", "minus_one"), ("hidden", "16,16")):
        assert said[name][0] == value
        assert said[name][1].endswith("iql-s0/run.yaml")
    assert said["normalise_obs"][0] == "False"
    # to say the same again is as well
    again = dry(trained, "--from", "iql-s0", "--online", "10", "--out", "dry", "preset=antmaze", "beta=5")
    assert again["expectile"] == ["0.9", "preset antmaze"]
    assert again["beta"] == ["5", "command line"]
    assert again["hidden"][1].endswith("iql-s0/run.yaml")


@pytest.mark.slow
def test_another_preset_than_the_runs_is_refused(trained: Path):
    done = off2on(trained, "train", "--from", "iql-s0", "--online", "10", "--out", "dry", "preset=adroit")
    assert done.returncode == 2
    assert "iql-s0 was run with" in done.stderr


def test_a_misspelt_preset_gets_a_line_to_paste(lab: Path):
    done = off2on(lab, "train", "iql", "toy-pendulum", "--out", "dry", "preset=antmze")
    assert done.returncode == 2
    assert done.stderr.startswith("error: iql has no preset 'antmze'.")
    line = done.stderr.splitlines()[-1].removeprefix("  try: off2on ")
    assert line == "train iql toy-pendulum --out dry preset=antmaze"
    assert dry(lab, *line.split()[1:])["expectile"] == ["0.9", "preset antmaze"]


def test_an_algorithms_page_lists_its_presets(lab: Path):
    words = " ".join(succeeds(lab, "algos", "iql").stdout.split())
    assert " antmaze expectile=0.9 beta=10 reward=minus_one normalise_obs=False " in words
    presets = json.loads(succeeds(lab, "algos", "cql", "--json").stdout)["presets"]
    assert presets["antmaze"]["hidden"] == [256] * 5
    assert "preset=" not in succeeds(lab, "algos", "bc").stdout


def test_the_example_file_is_one_that_works(lab: Path):
    folder = Path(__file__).parents[1] / "tune_configs"
    examples = [file for file in folder.glob("*.yaml") if "# off2on train " in file.read_text()]
    assert examples, "others are comparisons and searches: see test_compare.py and test_tune.py"
    for file in examples:
        (words,) = (line for line in file.read_text().splitlines() if line.startswith("# off2on train "))
        algorithm = words.split()[3]
        said = dry(lab, algorithm, "toy-pendulum", "--out", "dry", f"@{file}")
        assert any(origin.startswith(str(file)) for _, origin in said.values())
