"""Read the descriptions of a data set of TensorFlow Datasets: dataset_info.json and features.json."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field

from datasets_io.episode import is_image
from datasets_io.errors import MissingColumn, UserError
from datasets_io.sources.column_checks import ROW_BYTES
from datasets_io.storage import Place
from datasets_io.storage.documents import read_json

INFO, FEATURES = "dataset_info.json", "features.json"
STEPS = "steps"
TFRECORD = "tfrecord"

Digits = Annotated[str, Field(pattern=r"^-?\d{1,15}$")]
"""A whole number, which JSON of protobuf writes as text."""


@dataclass(frozen=True)
class Split:
    """The fields of a split that are read: its name, and the number of records of each file."""

    name: str
    shard_lengths: Annotated[list[Digits], Field(alias="shardLengths")] = field(default_factory=list)


@dataclass(frozen=True)
class RLDSInfo:
    """The fields of dataset_info.json that are read."""

    name: str
    splits: list[Split]
    file_format: Annotated[str, Field(alias="fileFormat")] = TFRECORD


@dataclass(frozen=True)
class Shape:
    """Shape of a tensor; -1 is a dimension of any length."""

    dimensions: list[Digits] = field(default_factory=list)


@dataclass(frozen=True)
class Tensor:
    """An array of numbers, or of text."""

    dtype: str
    encoding: str = "none"
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True)
class RLDSFeatures:
    """Features by name."""

    features: "Mapping[str, RLDSFeature]"


@dataclass(frozen=True)
class Sequence:
    """A feature with any number of values."""

    feature: "RLDSFeature"


@dataclass(frozen=True)
class RLDSFeature:
    """One of: features by name, a sequence, a tensor, or something that is not read (images, text)."""

    children: Annotated[RLDSFeatures | None, Field(alias="featuresDict")] = None
    sequence: Sequence | None = None
    tensor: Tensor | None = None


class Leaf(NamedTuple):
    """A tensor of numbers that each step has.

    Attributes:
        key: Its key in a record: ``steps/observation/arm/joints``.
        shape: Shape of one step's value.
        is_whole: True if it holds whole numbers or flags.
    """

    key: str
    shape: tuple[int, ...]
    is_whole: bool


class StepFeatures(NamedTuple):
    """Features of a step: those to read by name (``observation.arm.joints``), and names of the others."""

    leaves: dict[str, Leaf]
    skipped: list[str]


def read_info(folder: Place) -> RLDSInfo:
    """Read dataset_info.json.

    Raises:
        Corrupt: It is damaged, or lacks a field.
        UserError: The records are in files of another format.
    """
    info = read_json(folder / INFO, RLDSInfo)
    if info.file_format != TFRECORD:
        raise UserError(
            f"{folder} has files of the format {info.file_format[:40]!r}.",
            f"Expected: {TFRECORD}; write the data set again with file_format='tfrecord'.",
        )
    return info


def read_features(folder: Place) -> StepFeatures:
    """Read features.json.

    Raises:
        Corrupt: It is damaged.
        MissingColumn: It describes no steps: the data set is not in the form of RLDS.
    """
    top = read_json(folder / FEATURES, RLDSFeature)
    names = {} if top.children is None else top.children.features
    steps = names[STEPS].sequence if STEPS in names else None
    if steps is None or steps.feature.children is None:
        raise MissingColumn(
            f"{folder / FEATURES} describes no episodes of RLDS: it has no sequence {STEPS!r}.",
            f"There are: {' '.join([*names][:50])}",
        )
    found = StepFeatures({}, [])
    for path, feature in _walk(steps.feature, ()):
        name, leaf = ".".join(path), _leaf("/".join((STEPS, *path)), feature.tensor)
        if leaf is None:
            found.skipped.append(name)
        else:
            found.leaves[name] = leaf
    return found


def _walk(feature: RLDSFeature, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], RLDSFeature]]:
    """Yield the features that hold no others by name, with their paths."""
    if feature.children is None:
        yield above, feature
        return
    for name, child in feature.children.features.items():
        yield from _walk(child, (*above, name))


def _leaf(key: str, tensor: Tensor | None) -> Leaf | None:
    """Return the leaf of a tensor of numbers with a fixed shape; None if it is an image or something else."""
    if tensor is None or tensor.encoding not in ("none", ""):
        return None
    is_whole = tensor.dtype.startswith(("int", "uint", "bool"))
    shape = tuple(map(int, tensor.shape.dimensions))
    if not (is_whole or "float" in tensor.dtype) or any(size < 1 for size in shape):
        return None
    if is_image(shape, tensor.dtype) or math.prod(shape) * 4 > ROW_BYTES:
        return None
    return Leaf(key, shape, is_whole)
