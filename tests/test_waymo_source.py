"""Waymo shards as a data set: what is read, what is left out, what is refused."""

import csv
import pickle
from dataclasses import fields

import numpy as np
import pytest
from waymo_records import made, real_record
from waymo_shards import damaged, names, shard

from datasets_io import storage
from datasets_io.driving.scene import Scene
from datasets_io.errors import BadValues, Corrupt, UnknownName
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.scenes import Scenes
from datasets_io.sources.catalogue import resolve_source
from datasets_io.storage import tf_example
from datasets_io.storage.tfrecord import frame
from datasets_io.waymo import Waymo, read_scenes


def record(name, **options):
    return made(name, **options).SerializeToString()


@pytest.fixture
def folder(tmp_path):
    """Three shards of two scenes each, and what else may lie there."""
    for number in range(3):
        scenes = [record(f"scene{number}{letter}", speed=5.0 + number) for letter in "ab"]
        shard(tmp_path / "training" / f"training.tfrecord-0000{number}-of-00003", *scenes)
    (tmp_path / "training" / "training.tfrecord-00003-of-00003_.gstmp").write_bytes(b"half a download")
    (tmp_path / "training" / "LICENSE").write_text("terms")
    return tmp_path / "training"


# --- what is read


def test_parts_are_the_shards_in_order(folder):
    source = Waymo()
    files = [str(folder / f"training.tfrecord-0000{number}-of-00003") for number in range(3)]
    assert source.parts(folder) == source.parts(f"file://{folder}") == files
    assert source.parts(folder / "*-0000[12]-of-*") == files[1:]
    assert source.parts(folder / "*.tfrecord*") == files  # without the download
    assert source.parts(folder / "LIC*") == [f"{folder}/LICENSE"]
    assert source.parts(str(folder.parent.parent / "*" / folder.name / "*-of-00003")) == files
    assert source.parts(files[1]) == files[1:2]
    named = folder.rename(folder.parent / "run[1]*")
    names = [file.replace("training/", "run[1]*/") for file in files]
    assert source.parts(named) == source.parts(named / "*-of-0000[3]") == names
    assert source.parts(names[1]) == names[1:2]
    named.rename(folder)
    for nothing in (folder / "*.csv", folder.parent / "none"):
        with pytest.raises(UnknownName):
            source.parts(nothing)
    (folder.parent / "empty").mkdir()
    with pytest.raises(UnknownName, match=r"holds no TFRecord file.\n.*training.tfrecord-00000-of-01000"):
        source.parts(folder.parent / "empty")


@pytest.mark.parametrize("pattern", ["", "*", "*-of-0000?"])
def test_shards_of_several_splits_are_refused(folder, pattern):
    shard(folder.parent / "validation" / "validation.tfrecord-00000-of-00001", record("held"))
    with pytest.raises(BadValues, match=r"the files of 2 folders: training, validation\.") as caught:
        Waymo().parts(folder.parent / pattern)
    assert caught.value.try_ == f"off2on data add waymo {folder}"


def test_the_fingerprint_follows_the_shards_and_nothing_else(folder):
    before = Waymo().fingerprint(folder)
    (folder / "LICENSE").write_text("other terms")
    assert Waymo().fingerprint(folder) == before
    shard(folder / "training.tfrecord-00001-of-00003", record("changed"))
    assert Waymo().fingerprint(folder) != before


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("training/training.tfrecord-00000-of-00003", None),
        ("mine", "training"),
        ("x", "training/training.tfrecord-*"),
        ("x", "training/*-of-00003"),
        ("training/*-of-00003", None),
    ],
)
def test_the_catalogue_knows_tfrecords(folder, monkeypatch, text, path):
    monkeypatch.chdir(folder.parent)
    resolved = resolve_source(text, path, {"vehicles": "all", "nearest": "3", "strict": "true"})
    assert isinstance(resolved.source, Waymo)
    assert (resolved.source.vehicles, resolved.source.nearest, resolved.source.strict) == ("all", 3, True)
    assert resolved.source.parts(resolved.path)
    assert resolved.name == {"mine": "mine", "x": "x"}.get(text, "training")


def test_a_folder_as_a_data_set(folder, tmp_path):
    shards = ingest(
        Waymo(vehicles="all", controller="delta", nearest=2), folder, tmp_path / "data", name="cars"
    )
    assert (shards.episodes, shards.rows) == (18, 18 * 80)  # 3 files, 2 scenes, 3 cars; 80 decisions
    assert [len(list(shards.read(file, ["t"])["t"])) for file in shards.files] == [480] * 3
    assert shards.env_id == "off2on/WaymoReplay-v0"
    assert shards.action_space.shape == (3,)
    assert shards.observation_space.shape == shards.read_all(["obs"])["obs"].shape[1:]
    asked = {"vehicles": "all", "controller": "delta", "nearest": 2, "end_on_collision": False}
    assert shards.env_options == {**asked, "scenes": f"{shards.path}/scenes@0-0"}
    assert "waymo.com/open/terms" in shards.manifest.licence
    assert not shards.manifest.faults
    scenes = Scenes(shards.path / "scenes")
    assert scenes.ids == [f"scene{number}{letter}" for number in range(3) for letter in "ab"]
    for file in Waymo().parts(folder):
        for scene in read_scenes(file):
            stored = Scene.from_arrays(scene.id, scenes.read(scene.id))
            for field in fields(Scene):
                np.testing.assert_array_equal(getattr(stored, field.name), getattr(scene, field.name))


def test_both_formats_in_one_folder(tmp_path):
    shard(tmp_path / "in" / "a.tfrecord", real_record("scenario"))
    shard(tmp_path / "in" / "b.tfrecord", real_record("example"), record("made"))
    shards = ingest(Waymo(), tmp_path / "in", tmp_path, name="both")
    assert names(shards) == ["637f20cafde22ff8", "a3bb37c25ce56418", "made"]
    assert not shards.manifest.faults


def test_shards_in_a_bucket(folder, bucket, tmp_path):
    for file in folder.iterdir():
        with storage.open_output(bucket / "womd" / "training" / file.name) as copy:
            copy.write(file.read_bytes())
    source = Waymo()
    there = bucket / "womd" / "training"
    assert source.parts(f"{there}/*-0000[12]-of-00003") == source.parts(there)[1:]
    with pytest.raises(UnknownName, match=r"there is no s3://buck\*"):
        source.parts("s3://buck*/training")
    far = ingest(source, there, tmp_path / "far", name="cars")
    near = ingest(source, folder, tmp_path / "near", name="cars")
    assert far.manifest.files == near.manifest.files
    assert far.manifest.scene_files == near.manifest.scene_files


def test_without_scenes_there_is_no_environment(folder, tmp_path):
    shards = ingest(Waymo(keep_scenes=False), folder, tmp_path / "data", name="cars")
    assert shards.env_id is None
    assert not (shards.path / "scenes").exists()


def test_a_source_travels_to_workers(folder):
    source = pickle.loads(pickle.dumps(Waymo(nearest=3)))
    assert [episode.id for episode in source.episodes(source.parts(folder)[0])] == [
        "scene0a/101",
        "scene0b/101",
    ]


# --- what is left out or refused


def test_records_that_cannot_be_read_are_left_out_and_listed(folder, tmp_path):
    first, second = folder / "training.tfrecord-00000-of-00003", folder / "training.tfrecord-00001-of-00003"
    alone = made("alone")
    alone.tracks[1].states[10].valid = False
    good, contradictory = record("good"), alone.SerializeToString()
    first.write_bytes(
        frame(good)
        + damaged(good)
        + frame(contradictory)
        + frame(b"\xff")
        + frame(good)
        + frame(record("late"))
    )
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) - 1000])
    shards = ingest(Waymo(), folder, tmp_path / "data", name="cars")
    assert names(shards) == ["good", "late", "scene1a", "scene2a", "scene2b"]
    (fault,) = shards.manifest.faults
    assert (fault.kind, fault.count) == ("quarantined", 5)
    with (shards.path / "quarantine.csv").open() as file:
        listed = [(row["file"], int(row["offset"]), row["reason"]) for row in csv.DictReader(file)]
    step = len(frame(good))
    assert [(file, offset) for file, offset, _ in listed] == [
        (str(first), step),
        (str(first), 2 * step),
        (str(first), 2 * step + len(frame(contradictory))),
        (str(first), 2 * step + len(frame(contradictory)) + len(frame(b"\xff"))),
        (str(second), len(whole) // 2),
    ]
    reasons = ["CRC", "was not seen", "not a Scenario", "scene good was read before", "only"]
    for (_, _, reason), said in zip(listed, reasons, strict=True):
        assert said in reason


@pytest.mark.parametrize("bad", [damaged(record("x")), frame(b"\xff"), frame(record("x"))[:-3]])
def test_strict_refuses_them(folder, tmp_path, bad):
    last = folder / "training.tfrecord-00002-of-00003"
    last.write_bytes(frame(record("x")) + bad)
    with pytest.raises(Corrupt, match=rf"{last}.* byte {len(frame(record('x'))):,}") as caught:
        ingest(Waymo(strict=True), folder, tmp_path / "data", name="cars")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "data").exists()


def test_test_splits_are_refused(tmp_path):
    warm_up = shard(tmp_path / "in" / "testing.tfrecord-00000-of-00150", record("hidden", steps=11))
    with pytest.raises(BadValues, match=r"testing.tfrecord-00000-of-00150 is from a test split") as caught:
        ingest(Waymo(), warm_up, tmp_path / "data", name="cars")
    assert "validation" in caught.value.expected
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", ["left out", "not valid"])
def test_so_are_those_of_tf_examples(tmp_path, how):
    example = tf_example.message("Example").FromString(real_record("example"))
    for entry in list(example.features.feature):
        if "/future/" in entry.key and how == "left out":
            example.features.feature.remove(entry)
        elif entry.key == "state/future/valid":
            entry.value.int64_list.value[:] = [-1] * len(entry.value.int64_list.value)
    path = shard(tmp_path / "in" / "testing_tfexample.tfrecord-00000-of-00150", example.SerializeToString())
    with pytest.raises(BadValues, match="is from a test split"):
        list(Waymo().episodes(str(path)))


def test_files_of_another_kind_are_refused(tmp_path):
    """Three records that are none of it are no accident; one or two might be."""
    frames = shard(tmp_path / "in" / "frames.tfrecord", *[b"\x0a\x04abcd\x10\x05"] * 3)
    with pytest.raises(Corrupt, match=r"frames.tfrecord is not from the Waymo Open Motion Dataset"):
        ingest(Waymo(), frames, tmp_path / "data", name="cars")
    shard(frames, *[b"\x0a\x04abcd\x10\x05"] * 2, record("good"))
    assert names(ingest(Waymo(), frames, tmp_path / "data", name="cars")) == ["good"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vehicles": "some"}, "vehicles is 'some'.\n.*ego"),
        ({"controller": "wheel"}, "wheel"),
        ({"nearest": -1}, "nearest is -1"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises((BadValues, UnknownName), match=said):
        Waymo(**options)
