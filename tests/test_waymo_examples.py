"""Waymo records as tf.Example: lists in any layout, and what is refused."""

import numpy as np
import pytest
from toy_scene import same
from waymo_records import Writer, real_record

from datasets_io.errors import Corrupt
from datasets_io.storage import tf_example
from datasets_io.storage.tf_example import Features
from datasets_io.waymo import decode_example


def rewritten(data, change):
    """A tf.Example with other lists: `change(key, list)` gives the bytes of each."""
    record = tf_example.message("Example").FromString(data)
    entries = b""
    writer = Writer(0)
    for entry in record.features.feature:
        kind = entry.value.WhichOneof("data")
        listed = change(entry.key, getattr(entry.value, kind))
        if listed is not None:
            number = {"bytes_list": 1, "float_list": 2, "int64_list": 3}[kind]
            feature = writer.field(number, "bytes", listed)
            pair = writer.field(1, "bytes", entry.key.encode()) + writer.field(2, "bytes", feature)
            entries += writer.field(1, "bytes", pair)
    return writer.field(1, "bytes", entries)


def test_integers_of_any_length():
    values = [0, 1, 127, 128, 300, -1, 2**40, -(2**63), 2**63 - 1]
    lists = tf_example.message("Int64List")(value=values).SerializeToString()
    writer = Writer(0)
    entry = writer.field(1, "bytes", b"state/id") + writer.field(2, "bytes", writer.field(3, "bytes", lists))
    features = Features(writer.field(1, "bytes", writer.field(1, "bytes", entry)))
    assert features.integers("state/id").tolist() == values
    with pytest.raises(Corrupt, match="of int64_list, not of float_list"):
        features.floats("state/id")
    with pytest.raises(Corrupt, match="has no feature 'state/x'"):
        features.floats("state/x")


def test_an_example_whose_lists_do_not_fit_is_refused():
    data = real_record("example")

    def shorter(key, listed):
        if key == "state/future/x":
            listed.value.pop()
        return listed.SerializeToString()

    with pytest.raises(Corrupt, match="do not fit together"):
        decode_example(rewritten(data, shorter))


def test_places_of_an_example_that_nobody_takes_are_left_out():
    def fewer(key, listed):
        if key.startswith("state/") and key.endswith("/valid"):
            steps = len(listed.value) // 128
            listed.value[20 * steps :] = [0] * (108 * steps)
        return listed.SerializeToString()

    scene = decode_example(rewritten(real_record("example"), fewer))
    assert scene.valid.shape == (20, 91)
    assert scene.ego == 8


def test_points_of_an_example_that_are_not_in_order_of_features_are_put_together():
    data = real_record("example")
    ids = Features(data).integers("roadgraph_samples/id")
    places = np.random.default_rng(0).permutation(ids)  # of which feature each point is to be
    rows = np.empty(len(ids), int)
    rows[np.argsort(places, kind="stable")] = np.argsort(ids, kind="stable")

    def scattered(key, listed):
        if key.startswith("roadgraph_samples/"):
            values = np.array(listed.value).reshape(len(ids), -1)[rows]
            listed.value[:] = values.ravel().tolist()
        return listed.SerializeToString()

    same(decode_example(rewritten(data, scattered)), decode_example(data))
