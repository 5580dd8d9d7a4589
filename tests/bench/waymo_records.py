"""Waymo records for tests: where the real ones are, and a small one that is made."""

from pathlib import Path

import pytest

from datasets_io.tfrecord import read_records
from datasets_io.waymo.schema import message

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
