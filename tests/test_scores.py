"""What a score belongs to, where D4RL's references hold, and what must not be put side by side."""

import csv
import json
from dataclasses import replace
from html import unescape
from importlib.resources import files
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import registry, scores
from datasets_io.errors import UserError
from datasets_io.scores import Key, compare, key, key_of, reference, reference_status
from datasets_io.storage.documents import parse_json
from off2on.reports.run import write_report
from off2on.runs.metadata import RecordedScore

HOPPER = (-20.272305, 3234.3)
PEN = (96.262799, 3076.8331017826877)


def shared(name: str) -> Any:
    path = Path(__file__).parents[2] / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return json.loads(path.read_text())


def manifest(name: str, env_id: str | None = None, minari: str | None = None) -> Any:
    """What `key_of` looks at."""
    source = {"kind": "Minari", "options": {"name": minari}} if minari else {"kind": "D4RL", "options": {}}
    return SimpleNamespace(name=name, env_id=env_id, env_options={}, source=source)


def test_the_twins_are_those_of_the_map():
    wanted = shared("d4rl_minari_map.json")["map"]
    assert [pair.d4rl for pair in registry.minari_counterparts()] == list(wanted)
    for pair in registry.minari_counterparts():
        facts = wanted[pair.d4rl]
        assert (pair.minari, pair.environment, pair.how) == (
            facts["minari"],
            facts["env"],
            facts["same_data"],
        )
        assert pair.same == ("re-collected" not in pair.how)
        entry = registry.registry()[pair.d4rl]
        assert (entry.low, entry.high) == (facts["min"], facts["max"])


def test_d4rls_own_scores_are_measured():
    ours = key("hopper-medium-v2")
    assert ours == Key("d4rl/hopper-medium-v2", "d4rl/gym_mujoco/hopper", 1000)
    assert ours == key("d4rl/hopper-medium-v2") == key("hopper-medium-v2", "gym:hopper-medium-v2", 1000)
    assert reference_status(ours)[0] == "measured"
    assert reference(ours) == reference("hopper-medium-v2") == HOPPER
    np.testing.assert_allclose(scores.normalised("hopper-medium-v2", HOPPER), [0, 100])
    assert scores.mean_normalised(ours, HOPPER) == pytest.approx(50)


def test_in_a_successor_they_are_a_convention_and_only_with_its_horizon():
    for env_id in ("Hopper-v5", "Hopper-v4", "my_lab:Hopper-v5"):
        assert reference_status(key("hopper-medium-v2", env_id, 1000))[0] == "convention"
        assert reference("hopper-medium-v2", env_id, 1000) == HOPPER
    assert "not in Hopper-v5" in reference_status(key("hopper-medium-v2", "Hopper-v5", 1000))[1]
    for env_id, steps in (("Hopper-v5", 500), ("Hopper-v5", None), ("Walker2d-v5", 1000), ("Hop-v5", 1000)):
        assert reference_status(key("hopper-medium-v2", env_id, steps))[0] == "refused"
        assert reference("hopper-medium-v2", env_id, steps) is None
        assert scores.normalised("hopper-medium-v2", [1.0], env_id, steps) is None
    assert reference_status(key("carla-town-full-v0"))[0] == "unknown"
    assert reference_status(key("toy-pendulum", "Pendulum-v1", 200))[0] == "unknown"


def test_the_pens_of_minari_have_another_horizon():
    name = "minari/D4RL/pen/cloned-v2"
    assert reference(name, "AdroitHandPen-v1", 100) == PEN
    assert reference(name, "AdroitHandPen-v1", 200) is None
    assert reference_status(key(name, "AdroitHandPen-v1", 200)) == (
        "refused",
        "D4RL's references are for episodes of 100 steps, not 200",
    )
    with pytest.raises(UserError, match="Different horizons: 100 steps and 200 steps"):
        compare(key("pen-cloned-v1", "AdroitHandPen-v1", 100), key(name, "AdroitHandPen-v1", 200))
    compare(key("pen-cloned-v1", "AdroitHandPen-v1", 200), key(name, "AdroitHandPen-v1", 200))


def test_data_that_were_recorded_anew_are_other_data():
    maze = key("minari/D4RL/pointmaze/umaze-v2", "PointMaze_UMaze-v3", 300)
    assert reference_status(maze)[0] == "refused"
    assert "re-collected" in reference_status(maze)[1]
    with pytest.raises(UserError) as caught:
        compare(key("maze2d-umaze-v1"), maze)
    assert "Different data: d4rl/maze2d-umaze-v1 and minari/D4RL/pointmaze/umaze-v2: re-coll" in str(
        caught.value
    )
    assert "Different environments: d4rl/maze2d and PointMaze_UMaze-v3" in str(caught.value)
    assert "horizon" not in str(caught.value)
    assert maze.task == key("maze2d-umaze-v1").task == "maze2d-umaze"
    assert reference_status(key("minari/mujoco/hopper/medium-v0", "Hopper-v5", 1000))[0] == "unknown"
    assert key("minari/mujoco/hopper/medium-v0").task == key("hopper-medium-v2").task


def test_versions_of_data_and_of_environments_are_told_apart():
    with pytest.raises(UserError, match="Different data"):
        compare(key("hopper-medium-v0"), key("hopper-medium-v2"))
    with pytest.raises(UserError, match="Different environments: Hopper-v4 and Hopper-v5"):
        compare(key("hopper-medium-v2", "Hopper-v4", 1000), key("hopper-medium-v2", "Hopper-v5", 1000))
    with pytest.raises(UserError, match="Different environments: d4rl/gym_mujoco/hopper and Hopper-v5"):
        compare(key("hopper-medium-v2"), key("hopper-medium-v2", "Hopper-v5", 1000))


KEYS = st.builds(
    key,
    st.sampled_from(["pen-human-v0", "pen-human-v1", "minari/D4RL/pen/human-v2", "mine", "hopper-medium-v2"]),
    st.sampled_from([None, "AdroitHandPen-v1", "Hopper-v5"]),
    st.sampled_from([None, 100, 200, 1000]),
)


@given(KEYS, KEYS)
def test_comparing_is_symmetric_and_a_key_goes_with_itself(one: Key, other: Key):
    compare(one, one)
    assert parse_json(json.dumps(scores.to_json(one)), RecordedScore).key == one

    def refused(a: Key, b: Key) -> bool:
        try:
            compare(a, b)
        except UserError:
            return True
        return False

    assert refused(one, other) == refused(other, one)
    assert refused(one, replace(one, horizon=77))
    if not refused(one, other):
        assert (one.environment, one.horizon) == (other.environment, other.horizon)


def test_a_data_set_is_known_by_where_it_came_from():
    assert key_of(manifest("hopper-medium-v2", "Hopper-v5")) == key("hopper-medium-v2")
    renamed = manifest("hopper-medium-v2", "Hopper-v5", minari="mujoco/hopper/medium-v0")
    assert key_of(renamed).data == "minari/mujoco/hopper/medium-v0"
    assert reference(key_of(renamed)) is None
    # A name without a version is a task of D4RL's, not its data: by convention.
    assert key_of(manifest("hopper-medium", "Hopper-v5")) == Key("hopper-medium", "Hopper-v5", 1000)
    assert reference_status(key_of(manifest("hopper-medium", "Hopper-v5")))[0] == "convention"
    assert key_of(manifest("x"), "Pendulum-v1", {}) == Key("x", "Pendulum-v1", 200)


def test_horizons_are_the_environments():
    assert scores.horizon("Hopper-v5") == 1000
    assert scores.horizon("Hopper-v5", {"max_episode_steps": 50}) == 50
    assert scores.horizon("Hopper-v5", {"max_episode_steps": -1}) is None
    assert scores.horizon(None) is None
    assert scores.horizon("NoSuchThing-v0") is None
    assert scores.horizon("no_such_module:Thing-v0") is None


def test_every_id_of_d4rl_has_a_horizon():
    with (files("datasets_io") / "d4rl_ids.csv").open() as lines:
        horizons = {row["name"]: int(row["horizon"]) for row in csv.DictReader(lines)}
    assert len(horizons) == 155
    for size, steps in {"umaze": 300, "medium": 600, "large": 800}.items():
        assert horizons[f"maze2d-{size}-v1"] == steps
    assert {horizons[f"pen-{kind}-v{v}"] for kind, v in product(["human", "cloned", "expert"], [0, 1])} == {
        100
    }


def run_folder(folder: Path, of: Key, name: str = "mine", seed: int = 0) -> Path:
    """A run with three evaluations."""
    folder.mkdir(parents=True)
    rows = "".join(f"offline,{100 * n},0,{n + seed}\n" for n in (1, 2, 3))
    (folder / "metrics.csv").write_text(f"side,updates,env_steps,score\n{rows}")
    pair = reference(of)
    metadata = {
        "algorithm": "iql",
        "seed": seed,
        "status": "finished",
        "plan": {},
        "env": of.environment,
        "score": scores.to_json(of),
        "data": {"name": name, "reference": None if pair is None else list(pair)},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(metadata))
    return folder


def test_a_report_keeps_scores_apart_that_do_not_belong_together(tmp_path: Path):
    four, five = (Key("mine", f"Hopper-v{version}", 1000) for version in (4, 5))
    folders = [run_folder(tmp_path / f"v5-s{n}", five, seed=n) for n in range(2)]
    assert "cannot be compared" not in write_report(folders).read_text()
    folders.append(run_folder(tmp_path / "v4-s0", four))
    page = write_report(folders).read_text()
    assert "These scores on mine in Hopper-v4, 1,000 steps and on mine in Hopper-v5, 1,000 steps" in page
    assert "Different environments: Hopper-v4 and Hopper-v5." in page
    assert page.index("cannot be compared") < page.index("<table")
    assert "Comparison on" not in page
    assert "2 seeds" in page  # the two that belong together are still one group


def test_a_report_warns_of_minari_beside_d4rl_and_says_why_nothing_is_normalised(tmp_path: Path):
    pen = key("minari/D4RL/pen/cloned-v2", "AdroitHandPen-v1", 200)
    other = key("pen-cloned-v1", "AdroitHandPen-v1", 100)
    names = ("D4RL-pen-cloned-v2", "pen-cloned-v1")
    folders = [run_folder(tmp_path / name, of, name) for name, of in zip(names, (pen, other), strict=True)]
    page = unescape(write_report(folders).read_text())
    assert "Different horizons: 100 steps and 200 steps" in page
    assert "No normalised scores: D4RL's references are for episodes of 100 steps, not 200." in page
    assert "This is a convention" in page
    unrelated = [run_folder(tmp_path / "a", key("a", "Hopper-v5", 1000), "a"), folders[1]]
    assert "cannot be compared" not in write_report(unrelated).read_text()
