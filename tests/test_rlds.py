"""Data sets of RLDS: files of TensorFlow Datasets 4.9.10 (see helpers/make_rlds.py), and faulty copies.

Episodes 0, 1 and 2 have 5, 4 and 3 steps: they end in a terminal state, by a limit, and without a last step.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import off2on

from datasets_io import Shards
from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.rlds import RLDS
from datasets_io.storage.tf_example import message
from datasets_io.storage.tfrecord import frame, read_records

FILES = Path(__file__).parent / "fixtures" / "rlds"
VECTORS, ARM, CHOICES = (FILES / name for name in ("vectors/1.0.0", "arm/0.1.0", "choices/1.0.0"))


def read(source: RLDS, folder: Path) -> list[Episode]:
    """Return the episodes with the longest first: the library shuffles them."""
    found = [episode for part in source.parts(folder) for episode in source.episodes(part)]
    return sorted(found, key=lambda episode: -len(episode.obs))


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VECTORS, tmp_path / "vectors"))


def change(file: Path, edit: Callable[[Any], Any]) -> None:
    """Change a description."""
    plain = json.loads(file.read_text())
    edit(plain)
    file.write_text(json.dumps(plain))


def change_records(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the features of every record, given as lists by name."""
    (file,) = folder.glob("*-train.tfrecord-*")
    content = b""
    for _, data in read_records(file):
        record = message("Example").FromString(data)
        edit({entry.key: entry.value for entry in record.features.feature})
        content += frame(record.SerializeToString())
    file.write_bytes(content)


def step_features(plain: Any) -> Any:
    return plain["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]


def test_actions_and_rewards_of_the_last_step_are_left_out():
    terminal, cut, stopped = read(RLDS(), VECTORS)
    np.testing.assert_array_equal(terminal.obs, [[0, t, 0.5] for t in range(5)])
    np.testing.assert_allclose(terminal.actions, [[t / 10, -1] for t in range(4)], rtol=1e-6)
    assert terminal.rewards.tolist() == [0.25, 1.25, 2.25, 3.25]
    assert [len(one.obs) - one.length for one in (terminal, cut, stopped)] == [1, 1, 0]
    assert [one.terminated for one in (terminal, cut, stopped)] == [True, False, False]
    assert [one.truncated for one in (terminal, cut, stopped)] == [False, True, True]
    assert stopped.rewards.tolist() == [0.25, 1.25, 2.25]


def test_rows_are_the_transitions(tmp_path: Path):
    shards = ingest(RLDS(), VECTORS, tmp_path, name="v")
    rows = shards.read(shards.pieces[0], ["obs", "new_obs", "rewards", "terminateds", "truncateds"])
    # Of the recording that stops, what the last action led to is not known: its last row is left out.
    assert (shards.rows, shards.episodes) == (4 + 3 + 2, 3)
    np.testing.assert_array_equal(rows["new_obs"], rows["obs"] + [0, 1, 0])
    np.testing.assert_array_equal(rows["rewards"], rows["obs"][:, 1] + 0.25)
    assert (rows["terminateds"].sum(), rows["truncateds"].sum()) == (1, 2)


def test_nested_observations_are_put_side_by_side_and_can_be_restored(tmp_path: Path):
    source = RLDS()
    terminal = read(source, ARM)[0]
    np.testing.assert_array_equal(terminal.obs, [[t, 1, 2, 3, t, 0, t] for t in range(5)])
    np.testing.assert_allclose(
        terminal.actions, [[1, t, t + 0.1, t + 0.2] for t in range(4)], rtol=1e-6
    )  # "open" comes before "world_vector"
    shards = ingest(RLDS(), ARM, tmp_path, name="arm")
    nested = shards.nested_observation_space
    assert {name: space.shape for name, space in nested.items()} == {
        "pose": (2, 2),
        "state.gripper": (),
        "state.joints": (2,),
    }
    details = [fault.detail for fault in source.faults]
    assert "images, text and others: observation.image, observation.instruction" in details


@pytest.mark.parametrize(("dtype", "is_read"), [("uint8", False), ("float32", True)])
def test_matrices_of_bytes_are_images_and_are_skipped(tmp_path: Path, dtype: str, is_read: bool):
    def change_dtype(plain: Any) -> None:
        observation = step_features(plain)["observation"]["featuresDict"]["features"]
        observation["pose"]["tensor"]["dtype"] = dtype

    shutil.copytree(ARM, tmp_path / "arm")
    change(tmp_path / "arm" / "features.json", change_dtype)
    source = RLDS()
    (part,) = source.parts(tmp_path / "arm")
    assert ("pose" in part.obs) == is_read
    assert any("observation.pose" in fault.detail for fault in source.faults) != is_read


def test_observations_can_be_chosen():
    chosen = read(RLDS(obs="state.joints,state.gripper"), ARM)[0]
    np.testing.assert_array_equal(chosen.obs, [[0, t, t] for t in range(5)])
    with pytest.raises(UnknownName, match=r"no observation of numbers 'image'") as error:
        RLDS(obs="image").parts(ARM)
    assert "pose state.gripper state.joints" in str(error.value)


def test_a_reward_in_the_last_step_is_reported_and_can_be_kept():
    source = RLDS()
    assert [one.rewards[-1] for one in read(source, ARM)] == [3.25, 2.25, 1.0]
    reported = [fault for fault in source.faults if fault.kind == "last_reward"]
    assert sum(fault.count for fault in reported) == 2
    assert "last_step=keep reads it" in reported[0].detail
    terminal, cut, stopped = read(RLDS(last_step="keep"), ARM)
    assert [one.length for one in (terminal, cut, stopped)] == [5, 4, 3]
    assert [one.rewards[-1] for one in (terminal, cut, stopped)] == [1, 1, 1]
    assert (terminal.terminated, cut.terminated) == (True, False)
    with pytest.raises(UserError, match="last_step is drop or keep: got 'all'"):
        RLDS(last_step="all")


def test_whole_numbers_are_choices():
    terminal, *_ = read(RLDS(), CHOICES)
    assert terminal.actions.tolist() == [0, 1, 0, 1]
    assert terminal.actions.dtype == np.int64
    np.testing.assert_array_equal(terminal.obs, [[t] for t in range(5)])


def test_whole_numbers_that_float32_does_not_hold_are_refused(tmp_path: Path):
    def late(features: dict[str, Any]) -> None:
        times = features["steps/observation/state/gripper"].int64_list.value
        times[:] = [1_700_000_000 + time for time in times]

    shutil.copytree(ARM, tmp_path / "arm")
    change_records(tmp_path / "arm", late)
    with pytest.raises(BadValues, match=r"values in dimension 4 reach 1\.7e\+09.* this is lost"):
        ingest(RLDS(), tmp_path / "arm", tmp_path, name="late")


def test_whole_numbers_that_float32_rounds_are_named(tmp_path: Path):
    def describe(plain: Any) -> None:
        state = step_features(plain)["observation"]["featuresDict"]["features"]["state"]
        state["featuresDict"]["features"]["joints"]["tensor"]["dtype"] = "int64"

    def count(features: dict[str, Any]) -> None:
        joints = features["steps/observation/state/joints"]
        joints.int64_list.value.extend(2**25 * n + 1 for n in range(len(joints.float_list.value)))

    shutil.copytree(ARM, tmp_path / "arm")
    change(tmp_path / "arm" / "features.json", describe)
    change_records(tmp_path / "arm", count)
    shards = ingest(RLDS(obs="state.joints,state.gripper"), tmp_path / "arm", tmp_path, name="counted")
    assert "rounded" in {fault.kind for fault in shards.manifest.faults}


def test_splits(vectors: Path):
    source = RLDS()
    assert source.parts(vectors)[0].file.endswith("vectors-train.tfrecord-00000-of-00001")
    assert [fault.detail for fault in source.faults] == ["train was read; other splits: val"]
    assert sorted(one.obs[0, 0] for one in read(RLDS(split="val"), vectors)) == [10, 11, 12]
    assert len(read(RLDS(), CHOICES)) == 3  # its only split is "test"
    with pytest.raises(UnknownName, match="no split 'vla'") as error:
        RLDS(split="vla").parts(vectors)
    assert error.value.nearest == "val"


def test_several_files_are_read_in_order(vectors: Path):
    (file,) = vectors.glob("*-train.tfrecord-*")
    frames = [frame(data) for _, data in read_records(file)]
    file.unlink()
    for number, content in enumerate((frames[0], b"".join(frames[1:]))):
        (vectors / f"vectors-train.tfrecord-{number:05}-of-00002").write_bytes(content)
    change(vectors / "dataset_info.json", lambda info: info["splits"][0].update(shardLengths=["1", "2"]))
    assert [part.records for part in RLDS().parts(vectors)] == [1, 2]
    np.testing.assert_array_equal(read(RLDS(), vectors)[0].obs, read(RLDS(), VECTORS)[0].obs)
    (vectors / "vectors-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(Corrupt, match="1 files of train") as error:
        RLDS().parts(vectors)
    assert "tells of 2" in str(error.value)


def test_the_folder_is_recognised(tmp_path: Path):
    for given in (VECTORS, VECTORS.parent):
        found = resolve_source(str(given))
        assert (type(found.source), found.path, found.name) == (RLDS, VECTORS, "vectors")
    assert resolve_source("mine", VECTORS).name == "mine"
    with pytest.raises(UserError, match="one file of a data set") as error:
        resolve_source(str(VECTORS / "vectors-val.tfrecord-00000-of-00001"))
    assert error.value.try_ == f"off2on data add {VECTORS}"
    for version in ("1.0.0", "1.1.0"):
        shutil.copytree(VECTORS, tmp_path / "vectors" / version)
    with pytest.raises(UserError, match=r"several versions: 1\.0\.0 1\.1\.0"):
        resolve_source(str(tmp_path / "vectors"))
    with pytest.raises(UnknownName, match="no data set of TensorFlow Datasets"):
        RLDS().parts(tmp_path)


def test_the_command_adds_and_says_what_it_skipped(tmp_path: Path):
    done = off2on(tmp_path, "data", "add", ARM.parent, "last_step=keep")
    assert done.returncode == 0
    assert "images, text and others" in done.stdout
    assert Shards(tmp_path / "data" / "arm").rows == 5 + 3 + 2


def test_damaged_files_are_refused(vectors: Path, tmp_path: Path):
    (file,) = vectors.glob("*-train.tfrecord-*")
    content = file.read_bytes()
    for damaged, expected in (
        (content[:-20], "is damaged at byte"),
        (content[:40] + b"x" + content[41:], "is damaged at byte 0"),
        (frame(b"no example"), "byte 0: it is not a tf.Example"),
        (next(frame(data) for _, data in read_records(file)), "has 1 episodes"),
        (b"", "has 0 episodes"),
    ):
        file.write_bytes(damaged)
        done = off2on(tmp_path, "data", "add", vectors, "--name", "mine")
        assert done.returncode == 3
        assert expected in done.stderr
        assert not (tmp_path / "data" / "mine").exists()


def test_steps_that_do_not_fit_together_are_refused(vectors: Path):
    def end_early(features: dict[str, Any]) -> None:
        features["steps/is_last"].int64_list.value[0] = 1

    def two(features: dict[str, Any]) -> None:
        features["steps/is_terminal"].int64_list.value[0] = 2

    def shorter(features: dict[str, Any]) -> None:
        del features["steps/action"].float_list.value[0]

    def no_reward(features: dict[str, Any]) -> None:
        del features["steps/reward"].float_list.value[0]

    def text(features: dict[str, Any]) -> None:
        features["steps/observation"].bytes_list.value.append(b"x")

    cases: list[tuple[Callable[[dict[str, Any]], None], str]] = [
        (end_early, "goes on after its end in step 0"),
        (two, "is_terminal holds 2 in row 0"),
        (shorter, r"steps/action has \d+ numbers"),
        (no_reward, "steps and . rewards"),
        (text, "is of bytes_list"),
    ]
    for edit, expected in cases:
        shutil.copytree(VECTORS, vectors, dirs_exist_ok=True)
        change_records(vectors, edit)
        with pytest.raises((BadValues, Corrupt), match=expected) as error:
            read(RLDS(), vectors)
        assert "-train.tfrecord-00000-of-00001, byte " in error.value.where


def test_an_episode_of_one_observation_has_no_step(vectors: Path):
    def one_step(features: dict[str, Any]) -> None:
        for name, value in features.items():
            kept = {"steps/observation": 3, "steps/action": 2}.get(name, 1)
            listed = getattr(value, value.WhichOneof("data")).value
            del listed[kept:]
        features["steps/is_last"].int64_list.value[0] = 1

    change_records(vectors, one_step)
    source = RLDS()
    assert read(source, vectors) == []
    assert [fault.count for fault in source.faults if fault.kind == "no_step"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda steps: steps.pop("is_terminal"), "no 'is_terminal'"),
        (lambda steps: steps.pop("action"), "no numbers as 'action'"),
        (lambda steps: steps.update(observation={"image": {}}), "no numbers as 'observation'"),
        (lambda steps: steps["action"]["tensor"]["shape"].update(dimensions=["-1"]), "numbers as 'action'"),
        (lambda steps: steps["action"]["tensor"].update(encoding="zlib"), "numbers as 'action'"),
        (lambda steps: steps["action"]["tensor"].update(dtype="string"), "numbers as 'action'"),
    ],
)
def test_features_that_are_missing_or_no_numbers_are_refused(
    vectors: Path, edit: Callable[[Any], Any], expected: str
):
    change(vectors / "features.json", lambda plain: edit(step_features(plain)))
    with pytest.raises(MissingColumn, match=expected):
        RLDS().parts(vectors)


def test_data_without_rewards_have_rewards_of_zero_and_that_is_said(vectors: Path):
    change(vectors / "features.json", lambda plain: step_features(plain).pop("reward"))
    source = RLDS()
    assert not any(one.rewards.any() for one in read(source, vectors))
    assert "no_rewards" in [fault.kind for fault in source.faults]


def test_other_data_of_tensorflow_datasets_are_refused(vectors: Path):
    change(vectors / "dataset_info.json", lambda info: info.update(fileFormat="array_record"))
    with pytest.raises(UserError, match="format 'array_record'"):
        RLDS().parts(vectors)
    shutil.copytree(VECTORS, vectors, dirs_exist_ok=True)
    change(vectors / "features.json", lambda plain: plain["featuresDict"]["features"].pop("steps"))
    with pytest.raises(MissingColumn, match="no sequence 'steps'"):
        RLDS().parts(vectors)
    (vectors / "features.json").write_text("{")
    with pytest.raises(Corrupt, match=r"features\.json cannot be read as JSON"):
        RLDS().parts(vectors)
