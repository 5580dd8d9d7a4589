"""The Waymo Open Motion Dataset: records → scenes → episodes, without TensorFlow."""

from datasets_io.waymo.example import decode_example
from datasets_io.waymo.records import decode, read_scenes
from datasets_io.waymo.scenario import decode_scenario
from datasets_io.waymo.source import Waymo

__all__ = ["Waymo", "decode", "decode_example", "decode_scenario", "read_scenes"]
