"""Read the Waymo Open Motion Dataset: records to scenes to episodes, without TensorFlow."""

from datasets_io.waymo.example import decode_example
from datasets_io.waymo.records import decode, read_scenes
from datasets_io.waymo.scenario import decode_scenario
from datasets_io.waymo.source import Waymo

__all__ = ["Waymo", "decode", "decode_example", "decode_scenario", "read_scenes"]
