"""preset=auto: the longest preset that the data set's name begins with, as if it had been named."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command import off2on, succeeds

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.errors import HyperparameterError
from off2on.recipe.presets import FAMILIES, preset_of, with_preset_of_data

NAMES = dict.fromkeys((
    "hopper", "hopper-medium", "antmaze", "antmaze-large", "antmaze-large-navigate", "cube", "cube-double",
    "adroit", "adroit-human", "pen-human", "locomotion", "locomotion-medium", "medium-replay",
))  # fmt: skip


@pytest.mark.parametrize(
    ("data", "preset"),
    [
        ("hopper-medium-v2", "hopper-medium"),
        ("hopper-medium-replay-v2", "hopper"),  # its own kind of data, not a longer name of hopper-medium
        ("hopper-expert-v2", "hopper"),
        ("halfcheetah-medium-v2", "locomotion-medium"),
        ("halfcheetah-medium-expert-v2", "locomotion"),
        ("antmaze-large-play-v2", "antmaze-large"),
        ("antmaze-umaze-v2", "antmaze"),
        ("antmaze-large-navigate-singletask-v0", "antmaze-large-navigate"),
        ("cube-double-play-v0", "cube-double"),
        ("ogbench-cube-single-play-task1", "cube"),
        ("/some/folder/cube-single", "cube"),
        ("pen-human-v1", "pen-human"),
        ("door-human-v1", "adroit-human"),
        ("relocate-cloned-v1", "adroit"),
        ("Hopper-Medium-v2", "hopper-medium"),
    ],
)
def test_the_longest_name_wins(data: str, preset: str):
    assert preset_of(NAMES, data, "x") == preset


@pytest.mark.parametrize(
    ("name", "data", "preset"),
    [
        ("edac", "pen-expert-v1", "pen-expert"),
        ("cql", "hopper-medium-replay-v2", "locomotion"),
        ("plas", "hopper-medium-replay-v2", "locomotion-medium-replay"),
        ("ifql", "ogbench-antmaze-giant-navigate-singletask-v0", "antmaze-giant-navigate"),
    ],
)
def test_the_presets_of_the_catalogue_are_found(name: str, data: str, preset: str):
    assert preset_of(find_algorithm(name).Hyperparameters.presets, data, name) == preset


@pytest.mark.parametrize("data", ["toy-pendulum", "cubes", "my-cube", "antmaze-giant-navigate-v0", "ant"])
def test_no_fitting_preset_is_refused_with_all_presets(data: str):
    with pytest.raises(HyperparameterError) as refusal:
        preset_of(NAMES, data, "td3_bc")
    assert refusal.value.what == f"td3_bc has no preset for the data set '{data}'."
    assert f"All: {' '.join(NAMES)}" in refusal.value.expected


def test_without_presets_the_refusal_says_so():
    with pytest.raises(HyperparameterError) as refusal:
        preset_of({}, "hopper-medium-v2", "bc")
    assert "All: none" in refusal.value.expected


@pytest.mark.parametrize("values", [{}, {"preset": "adroit"}, {"beta": 3}])
def test_other_values_are_left_alone(values: dict[str, object]):
    kind = find_algorithm("iql").Hyperparameters
    assert with_preset_of_data(kind, values, "antmaze-umaze-v2", "iql") == values


def test_beside_it_other_values_are_kept():
    kind = find_algorithm("iql").Hyperparameters
    values: dict[str, object] = {"preset": "auto", "beta": 7}
    assert with_preset_of_data(kind, values, "antmaze-umaze-v2", "iql") == {"preset": "antmaze", "beta": 7}
    assert values["preset"] == "auto"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_preset_of_a_data_set_is_found_by_its_own_name(name: str):
    presets = find_algorithm(name).Hyperparameters.presets
    words = (*FAMILIES, "antmaze", "cube", "scene", "puzzle", "humanoidmaze", "antsoccer", "kitchen")
    named = [preset for preset in presets if preset.split("-")[0] in words]
    assert [preset_of(presets, f"{preset}-x9", name) for preset in named] == named


# The command line.


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with toy data that have the name of a D4RL data set."""
    lab = tmp_path_factory.mktemp("auto")
    succeeds(lab, "data", "add", "toy-pendulum", "episodes=4")
    data = lab / "data"
    shutil.copytree(data / "toy-pendulum", data / "antmaze-umaze-v2")
    manifest = data / "antmaze-umaze-v2" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "antmaze-umaze-v2"}))
    return lab


def dry(lab: Path, *words: str) -> dict[str, list[str]]:
    said = succeeds(lab, "train", *words, "--out", "dry", "--dry-run").stdout
    return {line.split()[0]: line.split(maxsplit=2)[1:] for line in said.splitlines()}


def test_a_dry_run_shows_which_preset_it_is(lab: Path):
    said = dry(lab, "iql", "antmaze-umaze-v2", "preset=auto", "beta=6")
    assert said["expectile"] == ["0.9", "preset antmaze"]
    assert said["beta"] == ["6", "command line"]
    named = dry(lab, "iql", "antmaze-umaze-v2", "preset=antmaze", "beta=6")
    assert said == named


def test_data_without_a_preset_are_refused(lab: Path):
    done = off2on(lab, "train", "iql", "toy-pendulum", "--out", "dry", "preset=auto")
    assert done.returncode == 2
    assert done.stderr.startswith("error: iql has no preset for the data set 'toy-pendulum'.")
    assert "All: antmaze adroit" in done.stderr


@pytest.mark.slow
def test_a_run_writes_down_the_preset_and_another_can_start_from_it(lab: Path):
    words = ("hidden=16,16", "batch_size=32", "--eval-episodes", "1", "--threads", "1", "--updates", "20")
    succeeds(lab, "train", "iql", "antmaze-umaze-v2", "preset=auto", *words)
    about = yaml.safe_load((lab / "runs/antmaze-umaze-v2/iql-s0/run.yaml").read_text())["hyperparameters"]
    assert about["expectile"] == {"value": 0.9, "default": 0.7, "origin": "preset antmaze"}
    again = dry(lab, "--from", "iql-s0", "--online", "10", "preset=auto")
    assert again["expectile"] == ["0.9", "preset antmaze"]
