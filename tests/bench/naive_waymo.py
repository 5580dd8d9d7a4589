"""A `Scenario` read field by field in a Python loop: the plain way, to be right by and to be faster than."""

import math

import numpy as np

from datasets_io.driving.scene import Scene
from datasets_io.waymo.schema import message

KINDS = {"road_line": 5, "road_edge": 14, "stop_sign": 17, "crosswalk": 18, "speed_bump": 19, "driveway": 20}


def decode(data: bytes) -> Scene:
    record = message("Scenario").FromString(data)
    current = record.current_time_index if record.HasField("current_time_index") else 10
    ego = record.sdc_track_index
    tracks, steps = record.tracks, len(record.tracks[0].states)
    here = tracks[ego].states[current]
    centre = np.array([here.center_x, here.center_y, here.center_z])
    shape = len(tracks), steps
    xy, z, heading = (np.zeros((*shape, *more), np.float32) for more in ((2,), (), ()))
    velocity, size = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 3), np.float32)
    valid = np.zeros(shape, bool)
    for n, track in enumerate(tracks):
        for t, state in enumerate(track.states):
            valid[n, t] = state.valid
            if not state.valid:
                continue
            xy[n, t] = state.center_x - centre[0], state.center_y - centre[1]
            z[n, t] = state.center_z - centre[2]
            inside = -math.pi < state.heading <= math.pi
            turns = (
                math.pi - (math.pi - state.heading) % (2 * math.pi)
                if math.isfinite(state.heading)
                else math.nan
            )
            heading[n, t] = state.heading if inside else turns
            velocity[n, t] = state.velocity_x, state.velocity_y
            size[n, t] = state.length, state.width, state.height
    lights = [step.lane_states for step in record.dynamic_map_states[:steps]]
    places = steps, max((len(states) for states in lights), default=0)
    light_xy, light_state = np.zeros((*places, 2), np.float32), np.zeros(places, np.int8)
    light_lane, light_valid = np.zeros(places, np.int64), np.zeros(places, bool)
    for t, states in enumerate(lights):
        for k, state in enumerate(states):
            light_xy[t, k] = state.stop_point.x - centre[0], state.stop_point.y - centre[1]
            light_state[t, k] = state.state if 0 <= state.state <= 8 else 0
            light_lane[t, k] = state.lane
            light_valid[t, k] = True
    road_xy, road_dir, road_kind, road_id = [], [], [], []
    for feature in record.map_features:
        kind = feature.WhichOneof("data")
        if kind is None:
            continue
        shape = getattr(feature, kind)
        if kind in ("lane", "road_line", "road_edge"):
            points = shape.polyline
            known = {"lane": 4, "road_line": 9, "road_edge": 3}[kind]
            code = KINDS.get(kind, 0) + (shape.type if 0 <= shape.type < known else 0)
        else:
            position = [shape.position] if kind == "stop_sign" and shape.HasField("position") else []
            points = position if kind == "stop_sign" else shape.polygon
            code = KINDS[kind]
        places = [(point.x, point.y) for point in points]
        for index, (x, y) in enumerate(places):
            road_xy.append((x - centre[0], y - centre[1]))
            road_dir.append(_look(places, index, kind in ("crosswalk", "speed_bump", "driveway")))
            road_kind.append(code)
            road_id.append(feature.id)
    return Scene(
        id=record.scenario_id,
        centre=centre,
        current=current,
        dt=0.1,
        ids=np.array([track.id for track in tracks], np.int32),
        kinds=np.array(
            [track.object_type if 0 <= track.object_type <= 4 else 0 for track in tracks], np.int8
        ),
        xy=xy,
        z=z,
        heading=heading,
        velocity=velocity,
        size=size,
        valid=valid,
        ego=ego,
        predict=np.array([item.track_index for item in record.tracks_to_predict], np.int32),
        road_xy=np.array(road_xy, np.float32).reshape(-1, 2),
        road_dir=np.array(road_dir, np.float32).reshape(-1, 2),
        road_kind=np.array(road_kind, np.int8),
        road_id=np.array(road_id, np.int64),
        light_xy=light_xy,
        light_state=light_state,
        light_lane=light_lane,
        light_valid=light_valid,
    )


def _look(places: list[tuple[float, float]], index: int, closed: bool) -> tuple[float, float]:
    """The unit vector to the next point, else that of the nearest point before, else after, that has one."""
    for at in [*range(index, -1, -1), *range(index + 1, len(places))]:
        if at + 1 < len(places):
            following = places[at + 1]
        elif closed:
            following = places[0]
        else:
            continue
        dx, dy = following[0] - places[at][0], following[1] - places[at][1]
        length = float(np.hypot(dx, dy))
        if length > 0:
            return dx / length, dy / length
    return 0.0, 0.0
