"""Decode records of either format; the format is detected from the first byte."""

from collections.abc import Iterator

from datasets_io.driving.scene import Scene
from datasets_io.storage import Place
from datasets_io.storage.tf_example import EXAMPLE
from datasets_io.storage.tfrecord import read_records
from datasets_io.waymo.example import decode_example
from datasets_io.waymo.scenario import decode_scenario


def decode(data: bytes) -> Scene:
    """Decode a record of either format.

    Raises:
        Corrupt: The record is in neither format, or inconsistent.
    """
    return decode_example(data) if data[:1] == EXAMPLE else decode_scenario(data)


def read_scenes(path: str | Place) -> Iterator[Scene]:
    """Yield the scenes of a TFRecord file.

    Raises:
        UnknownName: The file does not exist.
        Corrupt: A record cannot be read.
    """
    return (decode(data) for _, data in read_records(path))
