"""Waymo records for tests: where the real ones are, a small one that is made, and random ones."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from datasets_io.storage.tfrecord import read_records
from datasets_io.waymo.schema import fields, message

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> Path:
    """The real file of `scenario` or `example`; without it the test is skipped."""
    path = SHARED / f"waymo-motion-{name}.tfrecord"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def real_record(name: str) -> bytes:
    return next(read_records(real(name)))[1]


def made(name: str = "made", cars: int = 3, steps: int = 91, speed: float = 10.0):
    """A `Scenario` of cars abreast on a straight road, far from the origin; the second one records."""
    record = message("Scenario")(scenario_id=name, sdc_track_index=1, current_time_index=10)
    for number in range(cars):
        track = record.tracks.add(id=100 + number, object_type=1)
        for step in range(steps):
            track.states.add(
                center_x=-7000.0 + 0.1 * speed * step,
                center_y=5000.0 + 4 * number,
                center_z=30.0,
                length=4.5,
                width=2.0,
                height=1.5,
                heading=0.0,
                velocity_x=speed,
                velocity_y=0.0,
                valid=True,
            )
    for step in range(steps):
        record.timestamps_seconds.append(0.1 * step)
        light = record.dynamic_map_states.add().lane_states.add(lane=7, state=6)
        light.stop_point.x, light.stop_point.y, light.stop_point.z = -6950.0, 5004.0, 30.0
    lane = record.map_features.add(id=7).lane
    lane.type = 2
    edge = record.map_features.add(id=8).road_edge
    edge.type = 1
    for x in range(-7050, -6850, 2):
        lane.polyline.add(x=x, y=5004.0, z=30.0)
        edge.polyline.add(x=x, y=4990.0, z=30.0)
    record.tracks_to_predict.add(track_index=cars - 1, difficulty=1)
    return record


KINDS = ["lane", "road_line", "road_edge", "stop_sign", "crosswalk", "speed_bump", "driveway"]


class Writer(random.Random):
    """Serialises messages of random content: fields in any order, some missing.

    `odd` is the share of fields that are written as no protobuf library would but any must read: twice, with
    more bytes than needed, beside fields that nobody knows.
    """

    def __init__(self, seed, odd=0.0):
        super().__init__(seed)
        self.odd = odd

    def is_odd(self):
        return self.random() < self.odd

    def varint(self, number):
        number %= 2**64
        data = bytearray()
        while number > 127:
            data.append(number & 127 | 128)
            number >>= 7
        if len(data) < 8 and self.is_odd():
            return bytes([*data, number | 128, 0])
        return bytes([*data, number])

    def field(self, number, kind, value=None):
        """A field of random content, or of this one."""
        if kind in ("double", "float"):
            value = (
                self.choice([0.0, 1.5, np.pi, -np.pi, self.uniform(-9e3, 9e3)]) if value is None else value
            )
            packed = struct.pack("<d" if kind == "double" else "<f", value)
            return self.varint(number << 3 | (1 if kind == "double" else 5)) + packed
        if kind in ("int32", "int64", "bool"):
            value = self.choice([0, 1, 2, 3, 8, 12, 300, -1, 2**31 + 5]) if value is None else value
            return self.varint(number << 3) + self.varint(value)
        return self.varint(number << 3 | 2) + self.varint(len(value)) + value

    def message(self, name, always=0.8, **given):
        """A message; given fields are lists of serialised values, or numbers."""
        parts = []
        for field in fields(name):
            if field.name in given:
                values = given[field.name]
                values = values if isinstance(values, list) else [values]
                parts.append([self.field(field.number, field.kind, value) for value in values])
            elif field.kind in ("double", "float", "int32", "int64", "bool") and not field.repeated:
                times = 2 if self.is_odd() else int(self.random() < always)
                parts += [[self.field(field.number, field.kind)] for _ in range(times)]
        if self.is_odd():
            parts.append([self.field(*self.choice([(15, "double"), (14, "int64"), (99, "bool")]))])
        order = [number for number, part in enumerate(parts) for _ in part]
        if self.is_odd():
            self.shuffle(order)  # a repeated field's values among others, in their order
        else:
            numbers = self.sample(range(len(parts)), len(parts))
            order.sort(key=numbers.__getitem__)
        values = [iter(part) for part in parts]
        return b"".join(next(values[number]) for number in order)

    def points(self, most=5):
        shared = self.random() < 0.2  # points that lie where the one before does
        several = [self.message("MapPoint") for _ in range(self.randint(0, most))]
        return [several[0]] * len(several) if several and shared else several

    def feature(self):
        chosen = self.sample(KINDS, 2 if self.is_odd() else self.randint(0, 8) > 0)
        given = {}
        for kind in chosen:
            if kind == "stop_sign":
                position = [
                    self.message("MapPoint") for _ in range(2 if self.is_odd() else self.randint(0, 1))
                ]
                shape = self.message("StopSign", position=position)
            else:
                name = {field.name: field.kind for field in fields("MapFeature")}[kind]
                repeated = "polyline" if kind in KINDS[:3] else "polygon"
                more = {"left_boundaries": [self.message("BoundarySegment")]} if kind == "lane" else {}
                shape = self.message(name, **{repeated: self.points()}, **more)
            given[kind] = [shape] * (2 if self.is_odd() else 1)
        return self.message("MapFeature", **given)

    def scenario(self):
        tracks, steps = self.randint(1, 3), self.randint(2, 5)
        current, ego = self.randrange(steps), self.randrange(tracks)

        def states(track):
            for step in range(steps):
                sure = {"valid": 1} if (track, step) == (ego, current) else {}
                yield self.message("ObjectState", always=self.choice([1.0, 1.0, 0.5]), **sure)

        lights = [
            self.message(
                "TrafficSignalLaneState",
                **({"stop_point": [self.message("MapPoint")]} if self.random() < 0.8 else {}),
            )
            for _ in range(self.randint(0, 3))
        ]
        return self.message(
            "Scenario",
            scenario_id=b"any",
            timestamps_seconds=[0.1 * step for step in range(steps)],
            current_time_index=current,
            sdc_track_index=ego,
            tracks=[self.message("Track", states=list(states(track))) for track in range(tracks)],
            dynamic_map_states=[
                self.message("DynamicMapState", lane_states=lights[: self.randint(0, 3)])
                for _ in range(self.randint(0, steps + 2))
            ],
            map_features=[self.feature() for _ in range(self.randint(0, 6))],
            tracks_to_predict=[self.message("RequiredPrediction", track_index=ego)],
        )
