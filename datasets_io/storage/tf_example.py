"""Read the features of a tf.Example as arrays, without TensorFlow."""

from functools import cache
from typing import Any

import numpy as np

from datasets_io.episode import Array
from datasets_io.errors import Corrupt
from datasets_io.storage.messages import make_classes

# The map of features is encoded as a list of keys with values.
_MESSAGES = {
    "Example": "features=1:Features",
    "Features": "feature=1:Entry*",
    "Entry": "key=1:string value=2:Feature",
    "Feature": "| bytes_list=1:BytesList float_list=2:FloatList int64_list=3:Int64List",
    "BytesList": "value=1:bytes*",
    "FloatList": "value=1:float+",
    "Int64List": "value=1:int64+",
}
EXAMPLE = b"\x0a"
"""First byte of a tf.Example, the tag of its only field."""


@cache
def message(name: str) -> Any:
    """Return the class of a message of TensorFlow, such as `Example`."""
    return make_classes("tensorflow", _MESSAGES)[name]


class Features:
    """Features of a tf.Example by name.

    Args:
        data: Serialised record.

    Raises:
        Corrupt: The data are not a tf.Example.
    """

    def __init__(self, data: bytes) -> None:
        from google.protobuf.message import DecodeError

        try:
            record = message("Example").FromString(data)
            self._features = {entry.key: entry.value for entry in record.features.feature}
        except (DecodeError, UnicodeDecodeError):
            raise Corrupt("it is not a tf.Example.") from None

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def floats(self, name: str) -> Array:
        """Return a feature of numbers as float32 [n].

        Raises:
            Corrupt: The feature is missing or of another type.
        """
        return np.asarray(self._values(name, "float_list"), np.float32)

    def integers(self, name: str) -> Array:
        """Return a feature of integers as int64 [n].

        Raises:
            Corrupt: The feature is missing or of another type.
        """
        return np.asarray(self._values(name, "int64_list"), np.int64)

    def numbers(self, name: str) -> Array:
        """Return a feature of either kind of numbers as int64 or float32 [n]; an empty one has none.

        Raises:
            Corrupt: The feature is missing or of another type.
        """
        if name in self._features and self._features[name].WhichOneof("data") in ("int64_list", None):
            values = self._features[name].int64_list.value
            return np.asarray(values, np.int64)
        return self.floats(name)

    def text(self, name: str) -> str:
        """Return the first text of a feature.

        Raises:
            Corrupt: The feature is missing, empty or of another type.
        """
        texts = self._values(name, "bytes_list")
        if not texts:
            raise Corrupt(f"its feature {name!r} is empty.")
        return str(texts[0].decode(errors="replace"))

    def _values(self, name: str, kind: str) -> Any:
        if name not in self._features:
            raise Corrupt(f"it has no feature {name!r}.")
        there = self._features[name].WhichOneof("data")
        if there != kind:
            raise Corrupt(f"its feature {name!r} is of {there}, not of {kind}.")
        return getattr(self._features[name], kind).value
