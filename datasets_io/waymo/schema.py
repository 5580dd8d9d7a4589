"""Define the two formats of the Waymo Open Motion Dataset, as protobuf classes created at run time.

The classes are created from names, numbers and types of the fields of waymo-open-dataset (proto2), so that
neither its wheel nor TensorFlow is needed. There are two views of the same bytes:

- `message` has the fields as published. It writes a real record back byte for byte.
- `framed` has only the fields that a scene needs, with the large parts as bytes: protobuf splits the record,
  and `frames` and `wire` decode the parts.
"""

from functools import cache
from typing import Any, NamedTuple

# name=number:type; * repeated, + repeated and packed; the fields after | exclude each other.
# Enumerations are declared as int32, their encoding, so that no value is unknown.
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
    # TensorFlow: the map of features is encoded as a list of keys with values.
    "Example": "features=1:Features",
    "Features": "feature=1:Entry*",
    "Entry": "key=1:string value=2:Feature",
    "Feature": "| bytes_list=1:BytesList float_list=2:FloatList int64_list=3:Int64List",
    "BytesList": "value=1:bytes*",
    "FloatList": "value=1:float+",
    "Int64List": "value=1:int64+",
}
_FRAMED = {
    "Scenario": """tracks=2:bytes* scenario_id=5:string sdc_track_index=6:int32 dynamic_map_states=7:bytes*
        map_features=8:MapFeature* current_time_index=10:int32 tracks_to_predict=11:RequiredPrediction*""",
    "MapFeature": """id=1:int64 | lane=3:bytes road_line=4:bytes road_edge=5:bytes stop_sign=7:bytes
        crosswalk=8:bytes speed_bump=9:bytes driveway=10:bytes""",
    "RequiredPrediction": _MESSAGES["RequiredPrediction"],
}
_PACKAGE = "waymo.open_dataset"
EXAMPLE = b"\x0a"
"""First byte of a tf.Example, the tag of its only field. A Scenario begins with the tag of doubles."""
# Numbers of FieldDescriptorProto.Type; anything else is a message.
_TYPES = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE_TYPE = 11


class FieldFacts(NamedTuple):
    """Declaration of a field; `repeated` is `*`, `+` (repeated and packed) or empty."""

    name: str
    number: int
    kind: str
    repeated: str


def message(name: str) -> Any:
    """Return the class of a message as published, such as `Scenario`."""
    return _classes(False)[f"{_PACKAGE}.{name}"]


def framed(name: str) -> Any:
    """Return the class of a message with its large parts as bytes."""
    return _classes(True)[f"{_PACKAGE}.{name}"]


@cache
def fields(name: str) -> tuple[FieldFacts, ...]:
    """Return the fields of a message as published."""
    return tuple(_facts(word) for word in _MESSAGES[name].split() if word != "|")


def _facts(word: str) -> FieldFacts:
    name, number, kind = word.replace("=", ":").split(":")
    base = kind.rstrip("*+")
    return FieldFacts(name, int(number), base, kind[len(base) :])


@cache
def _classes(is_framed: bool) -> dict[str, Any]:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClassesForFiles

    file = FileDescriptorProto(name="waymo_motion.proto", package=_PACKAGE, syntax="proto2")
    for name, text in (_FRAMED if is_framed else _MESSAGES).items():
        declared = file.message_type.add(name=name)
        plain, _, exclusive = text.partition("|")
        for word in plain.split():
            _declare(declared, _facts(word))
        for word in exclusive.split():
            _declare(declared, _facts(word)).oneof_index = 0
        if exclusive:
            declared.oneof_decl.add(name="data")
    pool = DescriptorPool()
    pool.Add(file)
    return dict(GetMessageClassesForFiles([file.name], pool))


def _declare(declared: Any, facts: FieldFacts) -> Any:
    field = declared.field.add(name=facts.name, number=facts.number)
    field.label = field.LABEL_REPEATED if facts.repeated else field.LABEL_OPTIONAL
    field.type = _TYPES.get(facts.kind, _MESSAGE_TYPE)
    if field.type == _MESSAGE_TYPE:
        field.type_name = f".{_PACKAGE}.{facts.kind}"
    if facts.repeated == "+":
        field.options.packed = True
    return field
