"""Scenarios per second and core: decoded, against a plain protobuf loop, and through the whole ingest."""

import time

import numpy as np
import pytest
from harness import Ratio, in_turns, report
from naive_waymo import decode as naive
from waymo_records import real_record

from datasets_io.ingestion.ingest import ingest
from datasets_io.storage import tf_example
from datasets_io.storage.tfrecord import frame, read_records
from datasets_io.waymo import Waymo, decode_example, decode_scenario
from datasets_io.waymo.schema import message

pytestmark = pytest.mark.bench
# The training set: 1,000 shards of about 500 scenarios each.
TRAINING = 500_000


def timed(work):
    def run(units: int) -> float:
        started = time.perf_counter()
        for _ in range(units):
            work()
        return time.perf_counter() - started

    return run


def hours(speed: float) -> str:
    estimates = (f"{TRAINING / speed / cores / 3600:.1f} h on {cores}" for cores in (1, 16, 64))
    return f"{'  training set, computed':<34} {', '.join(estimates)} cores"


def test_decoding_scenarios_against_a_loop():
    data = real_record("scenario")
    ratio = in_turns(timed(lambda: decode_scenario(data)), timed(lambda: naive(data)), 5)
    report("scenario decoded / protobuf loop", ratio, [10])
    print(hours(ratio.ours), flush=True)
    assert ratio.middle >= 10


def test_decoding_examples_against_lists():
    """The peer makes an array of each feature, which is the least that anyone must do; ours makes a scene."""
    data = real_record("example")

    def lists() -> None:
        for entry in tf_example.message("Example").FromString(data).features.feature:
            np.array(getattr(entry.value, entry.value.WhichOneof("data")).value)

    report("tf.Example decoded / lists", in_turns(timed(lambda: decode_example(data)), timed(lists), 5))


@pytest.mark.parametrize("vehicles", ["ego", "moving"])
def test_ingest(tmp_path, vehicles):
    """Read, decoded, driven, scenes and rows written; the peer only decodes, in its loop."""
    records = message("Scenario").FromString(real_record("scenario"))
    count = 20
    with (tmp_path / "t.tfrecord").open("wb") as file:
        for number in range(count):
            records.scenario_id = f"{number}"
            file.write(frame(records.SerializeToString()))
    turns = iter(range(1000))

    def whole(_: int) -> float:
        started = time.perf_counter()
        ingest(Waymo(vehicles=vehicles), tmp_path / "t.tfrecord", tmp_path, name=f"{next(turns)}")
        return time.perf_counter() - started

    def loop(_: int) -> float:
        started = time.perf_counter()
        for _, data in read_records(tmp_path / "t.tfrecord"):
            naive(data)
        return time.perf_counter() - started

    ratio: Ratio = in_turns(whole, loop, count, rounds=3)
    report(f"ingested ({vehicles}) / protobuf loop", ratio)
    print(hours(ratio.ours), flush=True)
