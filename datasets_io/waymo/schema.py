"""Define the messages of the Waymo Open Motion Dataset, as protobuf classes created at run time.

The classes are created from names, numbers and types of the fields of waymo-open-dataset (proto2), so that
its wheel is not needed; see `datasets_io.storage.messages`. There are two views of the same bytes:

- `message` has the fields as published. It writes a real record back byte for byte.
- `framed` has only the fields that a scene needs, with the large parts as bytes: protobuf splits the record,
  and `frames` and `wire` decode the parts.
"""

from functools import cache
from typing import Any

from datasets_io.storage.messages import FieldFacts, make_classes, parse_fields

_MESSAGES = {
    "Scenario": """timestamps_seconds=1:double* tracks=2:Track* objects_of_interest=4:int32*
        scenario_id=5:string sdc_track_index=6:int32 dynamic_map_states=7:DynamicMapState*
        map_features=8:MapFeature* current_time_index=10:int32 tracks_to_predict=11:RequiredPrediction*""",
    "Track": "id=1:int32 object_type=2:int32 states=3:ObjectState*",
    "ObjectState": """center_x=2:double center_y=3:double center_z=4:double length=5:float width=6:float
        height=7:float heading=8:float velocity_x=9:float velocity_y=10:float valid=11:bool""",
    "RequiredPrediction": "track_index=1:int32 difficulty=2:int32",
    "DynamicMapState": "lane_states=1:TrafficSignalLaneState*",
    "TrafficSignalLaneState": "lane=1:int64 state=2:int32 stop_point=3:MapPoint",
    "MapPoint": "x=1:double y=2:double z=3:double",
    "MapFeature": """id=1:int64 | lane=3:LaneCenter road_line=4:RoadLine road_edge=5:RoadEdge
        stop_sign=7:StopSign crosswalk=8:Crosswalk speed_bump=9:SpeedBump driveway=10:Driveway""",
    "LaneCenter": """speed_limit_mph=1:double type=2:int32 interpolating=3:bool polyline=8:MapPoint*
        entry_lanes=9:int64+ exit_lanes=10:int64+ left_neighbors=11:LaneNeighbor*
        right_neighbors=12:LaneNeighbor* left_boundaries=13:BoundarySegment*
        right_boundaries=14:BoundarySegment*""",
    "LaneNeighbor": """feature_id=1:int64 self_start_index=2:int32 self_end_index=3:int32
        neighbor_start_index=4:int32 neighbor_end_index=5:int32 boundaries=6:BoundarySegment*""",
    "BoundarySegment": """lane_start_index=1:int32 lane_end_index=2:int32 boundary_feature_id=3:int64
        boundary_type=4:int32""",
    "RoadLine": "type=1:int32 polyline=2:MapPoint*",
    "RoadEdge": "type=1:int32 polyline=2:MapPoint*",
    "StopSign": "lane=1:int64* position=2:MapPoint",
    "Crosswalk": "polygon=1:MapPoint*",
    "SpeedBump": "polygon=1:MapPoint*",
    "Driveway": "polygon=1:MapPoint*",
}
_FRAMED = {
    "Scenario": """tracks=2:bytes* scenario_id=5:string sdc_track_index=6:int32 dynamic_map_states=7:bytes*
        map_features=8:MapFeature* current_time_index=10:int32 tracks_to_predict=11:RequiredPrediction*""",
    "MapFeature": """id=1:int64 | lane=3:bytes road_line=4:bytes road_edge=5:bytes stop_sign=7:bytes
        crosswalk=8:bytes speed_bump=9:bytes driveway=10:bytes""",
    "RequiredPrediction": _MESSAGES["RequiredPrediction"],
}
_PACKAGE = "waymo.open_dataset"


def message(name: str) -> Any:
    """Return the class of a message as published, such as `Scenario`."""
    return _classes(False)[name]


def framed(name: str) -> Any:
    """Return the class of a message with its large parts as bytes."""
    return _classes(True)[name]


@cache
def fields(name: str) -> tuple[FieldFacts, ...]:
    """Return the fields of a message as published."""
    return parse_fields(_MESSAGES[name])


@cache
def _classes(is_framed: bool) -> dict[str, Any]:
    return make_classes(_PACKAGE, _FRAMED if is_framed else _MESSAGES)
