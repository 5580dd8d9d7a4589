"""Decode a `Scenario` record to a scene."""

from typing import Any, NamedTuple

import numpy as np

from datasets_io.driving.scene import Scene
from datasets_io.episode import Array
from datasets_io.errors import Corrupt
from datasets_io.storage.tf_example import EXAMPLE
from datasets_io.waymo.building import CURRENT, Lights, Objects, Road, along, build, limit
from datasets_io.waymo.frames import MessageRun, NonCanonicalMessage, walk
from datasets_io.waymo.schema import framed, message
from datasets_io.waymo.wire import columns


class _Kind(NamedTuple):
    """Kind of a map feature: numbers of its fields, and codes in `Scene.road_kind`.

    Args:
        points: Number of the field of the points.
        code: Code of the kind, or of its first type.
        types: Number of types.
        type: Number of the field of the type.
        closed: True if the last point is followed by the first.
    """

    points: int
    code: int
    types: int = 1
    type: int = 0
    closed: bool = False


_KINDS = {
    "lane": _Kind(points=8, code=0, types=4, type=2),
    "road_line": _Kind(points=2, code=5, types=9, type=1),
    "road_edge": _Kind(points=2, code=14, types=3, type=1),
    "stop_sign": _Kind(points=2, code=17),
    "crosswalk": _Kind(points=1, code=18, closed=True),
    "speed_bump": _Kind(points=1, code=19, closed=True),
    "driveway": _Kind(points=1, code=20, closed=True),
}
_TRACK_ID, _TRACK_TYPE, _TRACK_STATES = 1, 2, 3
_LANE_STATES = 1


def decode_scenario(data: bytes) -> Scene:
    """Decode one record.

    Args:
        data: A serialised `Scenario`.

    Raises:
        Corrupt: The data are not a Scenario, or inconsistent.
    """
    from google.protobuf.message import DecodeError

    try:
        try:
            return _decode(data)
        except NonCanonicalMessage:  # protobuf rewrites it in canonical form, if it is a Scenario
            record = message("Scenario").FromString(data)
            record.DiscardUnknownFields()
            return _decode(record.SerializeToString())
    except (DecodeError, UnicodeDecodeError, NonCanonicalMessage):
        raise Corrupt("it is not a Scenario.") from None


def _decode(data: bytes) -> Scene:
    record = framed("Scenario").FromString(data)
    if record.ByteSize() != len(data):  # a repeated part: the framed class keeps only the last
        raise NonCanonicalMessage
    if not record.tracks and data[:1] == EXAMPLE:
        raise Corrupt(
            "it is a tf.Example, not a Scenario.", "Use decode_example, or decode for both formats."
        )
    for field in ("scenario_id", "sdc_track_index"):
        if not record.HasField(field):
            raise Corrupt(f"it has no {field}.")
    objects = _objects(record)
    lights = _lights(record, objects.valid.shape[1])
    current = record.current_time_index if record.HasField("current_time_index") else CURRENT
    return build(record.scenario_id, current, objects, _road(record), lights)


def _objects(record: Any) -> Objects:
    runs: list[MessageRun] = []
    tracks = [walk(track, _TRACK_STATES, runs) for track in record.tracks]
    counts = {count for _, count in tracks}
    if len(counts) != 1:
        raise Corrupt(f"its tracks have {sorted(counts)} states; expected: the same number for all tracks.")
    shape = len(tracks), counts.pop()
    states = columns("ObjectState", runs)

    def at(*names: str) -> list[Array]:
        return [states[name].reshape(shape) for name in names]

    return Objects(
        ids=_int32([integers.get(_TRACK_ID, 0) for integers, _ in tracks]),
        kinds=_int32([integers.get(_TRACK_TYPE, 0) for integers, _ in tracks]),
        position=at("center_x", "center_y", "center_z"),
        size=at("length", "width", "height"),
        heading=at("heading")[0],
        velocity=at("velocity_x", "velocity_y"),
        valid=at("valid")[0],
        ego=record.sdc_track_index,
        predict=np.array([wanted.track_index for wanted in record.tracks_to_predict], np.int32),
    )


def _lights(record: Any, steps: int) -> Lights:
    """Decode the lights of each step, in the order of the record."""
    runs: list[MessageRun] = []
    listed = [walk(step, _LANE_STATES, runs)[1] for step in record.dynamic_map_states[:steps]]
    counts = np.zeros(steps, np.int64)
    counts[: len(listed)] = listed
    valid = np.arange(counts.max(initial=0)) < counts[:, None]
    found = columns("TrafficSignalLaneState", runs)

    def at(name: str) -> Array:
        values = np.zeros(valid.shape, found[name].dtype)
        values[valid] = found[name]
        return values

    return Lights([at("stop_point.x"), at("stop_point.y")], at("state"), at("lane"), valid)


def _road(record: Any) -> Road:
    runs: list[MessageRun] = []
    facts: list[tuple[int, ...]] = []
    for feature in record.map_features:
        name = feature.WhichOneof("data")
        if name is not None:
            kind = _KINDS[name]
            integers, count = walk(getattr(feature, name), kind.points, runs)
            if count > 1 and name == "stop_sign":  # one position in several pieces
                raise NonCanonicalMessage
            own = integers.get(kind.type, 0) & 0xFFFFFFFF
            facts.append((feature.id, own, kind.code, kind.types, count, kind.closed))
    table: Array = np.array(facts, np.int64).reshape(-1, 6)
    ids, own, codes, types, counts, closed = table.T
    points = columns("MapPoint", runs)
    position = [points["x"], points["y"]]
    steps = np.stack([_to_next(values, counts, closed > 0) for values in position], -1)
    return Road(
        position, along(steps, counts), np.repeat(codes + limit(own, types), counts), np.repeat(ids, counts)
    )


def _int32(numbers: list[int]) -> Array:
    """Convert 64-bit varints to int32: the lower half, signed, as in protobuf."""
    return np.array(numbers, np.uint64).astype(np.uint32).view(np.int32)


def _to_next(values: Array, counts: Array, closed: Array) -> Array:
    """Return differences to the next point [M]; the last of a closed feature is followed by its first."""
    steps = np.diff(values, append=0.0)
    stops, there = np.cumsum(counts), counts > 0
    firsts, lasts = (stops - counts)[there], stops[there] - 1
    steps[lasts] = np.where(closed[there], values[firsts] - values[lasts], 0.0)
    return steps
