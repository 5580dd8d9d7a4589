"""Waymo records as scenes: equal to what protobuf reads field by field, however the bytes are laid out."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_waymo import decode as naive
from toy_scene import same
from waymo_records import KINDS, Writer, made, real_record

from datasets_io.driving.scene import Scene
from datasets_io.errors import Corrupt
from datasets_io.storage import tf_example
from datasets_io.storage.tf_example import Features
from datasets_io.waymo import decode, decode_example, decode_scenario
from datasets_io.waymo.building import along, wrap
from datasets_io.waymo.frames import walk
from datasets_io.waymo.schema import message
from datasets_io.waymo.wire import columns

# --- real records


def test_the_message_class_writes_the_real_record_back_byte_for_byte():
    data = real_record("scenario")
    assert message("Scenario").FromString(data).SerializeToString() == data


def test_the_real_scenario_is_what_protobuf_reads():
    scene = decode_scenario(real_record("scenario"))
    same(scene, naive(real_record("scenario")))
    assert (scene.id, scene.current, scene.ego, scene.valid.shape) == ("637f20cafde22ff8", 10, 82, (83, 91))
    np.testing.assert_array_equal(scene.xy[scene.ego, 10], [0, 0])
    assert not scene.xy[~scene.valid].any()
    assert not scene.z[~scene.valid].any()  # of which the record says something
    assert scene.steps == 91


def test_the_real_example_is_what_protobuf_reads():
    data = real_record("example")
    features = Features(data)
    for entry in tf_example.message("Example").FromString(data).features.feature:
        kind = entry.value.WhichOneof("data")
        listed = list(getattr(entry.value, kind).value)
        if kind == "bytes_list":
            assert features.text(entry.key) == listed[0].decode()
        else:
            found = features.floats(entry.key) if kind == "float_list" else features.integers(entry.key)
            assert found.dtype == (np.float32 if kind == "float_list" else np.int64)
            np.testing.assert_array_equal(found, listed)


def test_the_real_example_as_a_scene():
    data = real_record("example")
    scene, features = decode_example(data), Features(data)
    assert (scene.id, scene.current, scene.ego, scene.valid.shape) == ("a3bb37c25ce56418", 10, 8, (128, 91))
    assert scene.predict.tolist() == list(range(8))
    at = np.stack([features.floats(f"state/future/{axis}").reshape(128, 80) for axis in "xy"], -1)
    here = [features.floats(f"state/current/{axis}")[8].astype(np.float64) for axis in "xy"]
    seen = scene.valid[:, 11:]
    np.testing.assert_array_equal(scene.xy[:, 11:][seen], (at - here)[seen].astype(np.float32))
    assert scene.light_valid.any(1).all()
    assert set(scene.light_state[scene.light_valid].tolist()) <= set(range(9))
    # What it says of directions is what the points themselves say, to their centimetre on half a metre.
    inside = (scene.road_id[1:] == scene.road_id[:-1]) & (np.hypot(*np.diff(scene.road_xy, axis=0).T) > 0.4)
    steps = np.diff(scene.road_xy, axis=0)[inside]
    dots = (steps / np.hypot(*steps.T)[:, None] * scene.road_dir[:-1][inside]).sum(1)
    assert np.median(dots) > 0.9999


@pytest.mark.parametrize("name", ["scenario", "example"])
def test_both_real_records_make_sense(name):
    scene = decode(real_record(name))
    starts = np.flatnonzero(np.diff(scene.road_id, prepend=-1))
    assert len(starts) == len(np.unique(scene.road_id))  # the points of a feature are together
    lengths = np.hypot(*scene.road_dir.T)
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()
    # Where a car is a step later is where its velocity takes it.
    both = scene.valid[:, 1:] & scene.valid[:, :-1] & (scene.kinds == 1)[:, None]
    missed = np.diff(scene.xy, axis=1) - scene.velocity[:, :-1] * scene.dt
    assert np.median(np.hypot(*missed[both].T)) < 0.05
    same(Scene.from_arrays(scene.id, scene.arrays()), scene)


# --- any record, in any layout


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.02, 0.2]))
def test_any_scenario_is_what_protobuf_reads(seed, odd):
    data = Writer(seed, odd).scenario()
    same(decode_scenario(data), naive(data))


@settings(max_examples=200)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from(["ObjectState", "MapPoint", "TrafficSignalLaneState"]),
)
def test_any_small_messages_are_what_protobuf_reads(seed, odd, name):
    writer = Writer(seed, odd)
    inner = {"stop_point": [writer.message("MapPoint")]} if name == "TrafficSignalLaneState" else {}
    blobs = [writer.message(name, writer.choice([1.0, 0.9]), **inner) for _ in range(writer.randint(0, 40))]
    assume(max(map(len, blobs), default=0) < 128)
    runs = []
    _, count = walk(b"".join(b"\x0a" + bytes([len(blob)]) + blob for blob in blobs), 1, runs)
    assert count == len(blobs) == sum(run.number for run in runs)
    found = columns(name, runs)
    for row, parsed in enumerate(map(message(name).FromString, blobs)):
        for column, values in found.items():
            outer, _, last = column.rpartition(".")
            assert values[row] == getattr(getattr(parsed, outer) if outer else parsed, last), column


@settings(max_examples=300)
@given(st.data())
def test_damage_that_protobuf_survives_is_read_as_protobuf_reads_it(data):
    """Bytes changed anywhere: the same scene, or refused; never another exception, never other numbers."""
    record = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 2))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        scene = decode_scenario(bytes(record))
    except Corrupt as error:
        if error.what == "it is not a Scenario.":
            with pytest.raises((DecodeError, UnicodeDecodeError)):
                naive(bytes(record))
        return
    try:
        expected = naive(bytes(record))
    except DecodeError:  # in a part that no scene needs
        return
    same(scene, expected)


SMALL = made(cars=2, steps=12).SerializeToString()


def test_cut_anywhere_it_is_refused_or_whole():
    whole = decode_scenario(SMALL)
    decoded = 0
    for length in range(0, len(SMALL), 7):
        try:
            scene = decode_scenario(SMALL[:length])
        except Corrupt:
            continue
        decoded += 1
        assert scene.valid.shape == whole.valid.shape  # only the map, which comes last, may be shorter
        assert len(scene.road_id) <= len(whole.road_id)
    assert 0 < decoded < len(SMALL) // 7


def test_parts_that_are_there_twice_are_merged_as_protobuf_merges_them():
    """A lane in two pieces; a stop sign's position in two; of two kinds the last counts."""
    writer, whole = Writer(0), made().SerializeToString()
    pieces = [message("MapPoint")(x=4.0, y=9.0), message("MapPoint")(y=5.0)]
    sign = b"".join(writer.field(2, "bytes", piece.SerializeToString()) for piece in pieces)
    sign = writer.field(7, "bytes", sign)
    lanes = []
    for kind in (1, 3):
        lane = message("LaneCenter")(type=kind)
        lane.polyline.add(x=4.0 * kind, y=9.0)
        lanes.append(writer.field(3, "bytes", lane.SerializeToString()))
    scenes = []
    for feature in (lanes[0] + lanes[1], sign, lanes[0] + sign):
        data = whole + writer.field(8, "bytes", writer.field(1, "int64", 77) + feature)
        scenes.append(decode_scenario(data))
        same(scenes[-1], naive(data))
    assert [scene.road_kind[scene.road_id == 77].tolist() for scene in scenes] == [[3, 3], [17], [17]]
    np.testing.assert_array_equal(scenes[1].road_xy[-1], np.float32([4 + 6990, 5 - 5004]))


# --- what a scene says


def test_a_made_scenario():
    scene = decode_scenario(made().SerializeToString())
    assert (scene.id, scene.ego, scene.current, scene.dt) == ("made", 1, 10, 0.1)
    assert scene.centre.tolist() == [-6990, 5004, 30]  # 1 s at 10 m/s from -7000
    assert scene.ids.tolist() == [100, 101, 102]
    assert scene.kinds.tolist() == [1, 1, 1]
    assert scene.predict.tolist() == [2]
    np.testing.assert_allclose(scene.xy[:, 0], [[-10, -4], [-10, 0], [-10, 4]], atol=1e-6)
    np.testing.assert_allclose(scene.xy[1, :, 0], np.arange(-10, 81) * 1.0, atol=1e-5)
    assert (scene.velocity == [10, 0]).all()
    assert (scene.size == np.float32([4.5, 2, 1.5])).all()
    assert (scene.z == 0).all()
    assert scene.light_xy[0].tolist() == [[40, 0]]
    assert (scene.light_state == 6).all()
    assert (scene.light_lane == 7).all()
    assert np.unique(scene.road_kind).tolist() == [2, 15]
    assert (scene.road_dir == [1, 0]).all()
    assert scene.road_xy[0].tolist() == [-60, 0]


def test_far_from_the_origin_a_centimetre_stays_a_centimetre():
    record = made()
    record.tracks[0].states[10].center_x = -6990 + 0.01  # float32 at 7 km: steps of half a millimetre
    record.tracks[0].states[11].center_x = -6990 + 0.0101
    scene = decode_scenario(record.SerializeToString())
    np.testing.assert_allclose(scene.xy[0, 10:12, 0], [0.01, 0.0101], rtol=1e-6, atol=2e-12)


def test_what_is_not_valid_is_nought_and_may_be_anything():
    record = made()
    record.tracks[0].states[5].CopyFrom(message("ObjectState")(center_x=np.nan, heading=np.inf, valid=False))
    scene = decode_scenario(record.SerializeToString())
    assert not scene.valid[0, 5]
    assert not np.concatenate([scene.xy[0, 5], scene.velocity[0, 5], scene.size[0, 5]]).any()
    assert scene.heading[0, 5] == 0


def test_directions_by_hand():
    # Two features: an open one that stands still first and last, and a point by itself.
    steps = np.array([[0, 0], [3, 4], [0, 0], [0, 2], [0, 0], [0, 0]], float)
    expected = [[0.6, 0.8], [0.6, 0.8], [0.6, 0.8], [0, 1], [0, 1], [0, 0]]
    np.testing.assert_allclose(along(steps, np.array([5, 1])), expected)
    np.testing.assert_allclose(along(steps[:0], np.array([], int)), np.zeros((0, 2)))


def test_angles_are_wrapped_and_otherwise_left_alone():
    inside = np.float32([-3.1415925, 0.1, 3.1415925])
    np.testing.assert_array_equal(wrap(inside), inside)
    beyond = np.float32(np.pi)  # by 9e-8
    np.testing.assert_allclose(wrap(np.array([beyond])), [float(beyond) - 2 * np.pi])
    np.testing.assert_allclose(wrap(np.float64([-np.pi, 3 * np.pi, 7])), [np.pi, np.pi, 7 - 2 * np.pi])


def test_without_its_current_index_the_window_s_is_taken():
    record = made()
    record.ClearField("current_time_index")
    assert decode_scenario(record.SerializeToString()).current == 10


def test_kinds_of_road():
    record = made()
    for kind in KINDS:
        shape = getattr(record.map_features.add(id=50), kind)
        if kind != "stop_sign":
            getattr(shape, "polyline" if kind in KINDS[:3] else "polygon").add(x=1.0, y=2.0)
        if kind in KINDS[:3]:
            shape.type = 1
    record.map_features[-4].stop_sign.position.x = 3.0
    scene = decode_scenario(record.SerializeToString())
    assert scene.road_kind[scene.road_id == 50].tolist() == [1, 6, 15, 17, 18, 19, 20]


# --- what is refused


def test_one_format_as_the_other_is_recognised():
    scenario, example = made().SerializeToString(), real_record("example")
    with pytest.raises(Corrupt, match=r"it is a tf.Example, not a Scenario"):
        decode_scenario(example)
    with pytest.raises(Corrupt, match=r"(?s)not a motion record in the tf.Example format.*decode_scenario"):
        decode_example(scenario)
    assert decode(scenario).id == "made"
    assert decode(example).id == "a3bb37c25ce56418"


@pytest.mark.parametrize("decoder", [decode, decode_example, decode_scenario])
@pytest.mark.parametrize("data", [b"", b"no message at all", b"\x0a\x03abc", bytes(50)])
def test_other_bytes_are_refused(decoder, data):
    with pytest.raises(Corrupt):
        decoder(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.ClearField("scenario_id"), "no scenario_id"),
        (lambda record: record.ClearField("tracks"), r"tracks have \[\] states"),
        (lambda record: record.tracks[0].states.pop(), r"tracks have \[90, 91\] states"),
        (lambda record: setattr(record, "sdc_track_index", 3), "object 3 of 3"),
        (lambda record: setattr(record, "current_time_index", 91), "step is 91 of 91"),
        (lambda record: setattr(record.tracks[1].states[10], "valid", False), "was not seen"),
        (lambda record: record.tracks_to_predict.add(track_index=-1), r"predict objects \[2, -1\] of 3"),
        (lambda record: setattr(record.tracks[0].states[3], "center_x", np.nan), "its xy holds NaN"),
        (lambda record: setattr(record.tracks[1].states[10], "center_y", np.inf), "its xy holds NaN"),
        (lambda record: setattr(record.tracks[1].states[9], "velocity_x", np.inf), "its velocity holds"),
        (lambda record: setattr(record.map_features[0].lane.polyline[4], "x", 1e300), "its road_xy holds"),
        (
            lambda record: setattr(record.tracks[0].states[3], "center_x", 1e14),
            "its xy is up to 99,.* km from",
        ),
        (
            lambda record: setattr(record.map_features[0].lane.polyline[4], "y", -2e5),
            "its road_xy is up to 205 km",
        ),
        (
            lambda record: setattr(record.dynamic_map_states[0].lane_states[0].stop_point, "x", 2e5),
            "its light_xy is up to 207 km",
        ),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, reason):
    record = made()
    change(record)
    with pytest.raises(Corrupt, match=reason):
        decode_scenario(record.SerializeToString())


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (("state/future/x",), r"objects have the shapes \[\(128, 86\), \(128, 91\)\]"),
        (("state/future/bbox_yaw",), "objects have the shapes"),
        (("state/future/valid",), "objects have the shapes"),
        (("traffic_light_state/future/x",), "do not fit together"),
        (
            [
                f"traffic_light_state/future/{name}"
                for name in ("timestamp_micros", "id", "state", "valid", "x", "y")
            ],
            "lights of 86 steps and objects of 91",
        ),
    ],
)
def test_an_example_whose_features_lack_steps_is_refused(cut, reason):
    record = tf_example.message("Example").FromString(real_record("example"))
    for entry in record.features.feature:
        if entry.key in cut:
            values = getattr(entry.value, entry.value.WhichOneof("data")).value
            del values[-5 * len(values) // 80 :]
    with pytest.raises(Corrupt, match=reason):
        decode_example(record.SerializeToString())
