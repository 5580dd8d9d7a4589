"""The archive of a policy file: its members, and the sizes of the tensors in it.

Sizes are compared with the content before anything of that size is allocated.
"""

import io
import math
import pickle
import re
import struct
import zipfile
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field

from datasets_io.storage.documents import parse_json

MAX_JSON_BYTES = 2**24
"""Largest description of a graph or of its weights."""

MAX_INPUT_BYTES = 2**20
"""Largest sample inputs."""

MODEL, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = {
    "weight": "data/weights/model_weights_config.json",
    "tensor": "data/constants/model_constants_config.json",
}
ARCHIVE = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id")
PAYLOAD = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")

T = TypeVar("T")

DAMAGED = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions of zip, JSON and torch on content that they cannot read."""


class RefusedPolicyError(Exception):
    """Reason why a file is not given to torch."""


Length = Annotated[int, Field(ge=0, le=2**40)]


@dataclass(frozen=True)
class _Number:
    as_int: Length


@dataclass(frozen=True)
class _TensorLayout:
    """Type, shape and place of a tensor in its payload."""

    dtype: int
    sizes: list[_Number]
    strides: list[_Number]
    storage_offset: _Number

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        # Imported here: it takes a second, in every process that imports a policy.
        from torch._export.serde.schema import ScalarType
        from torch._export.serde.serialize import deserialize_scalar_type

        return deserialize_scalar_type(ScalarType(self.dtype)).itemsize

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(size.as_int for size in self.sizes)

    @property
    def extent(self) -> int:
        """Number of elements of the payload from its start to the tensor's last element."""
        if not self.elements:
            return 0
        steps = zip(self.sizes, self.strides, strict=True)
        return self.storage_offset.as_int + sum((n.as_int - 1) * step.as_int for n, step in steps) + 1


@dataclass(frozen=True)
class _Payload:
    """A tensor of the archive."""

    path_name: str
    use_pickle: Literal[False]
    tensor_meta: _TensorLayout


@dataclass(frozen=True)
class _Payloads:
    """The tensors of the archive, by name."""

    config: dict[str, _Payload]


def parse_member(members: dict[str, bytes], name: str, schema: type[T]) -> T:
    """Return a JSON member as an object of the schema."""
    if len(members[name]) > MAX_JSON_BYTES:
        raise RefusedPolicyError(f"{name} has {len(members[name]):,} bytes")
    return parse_json(members[name], schema, name)


def check_payloads(kind: str, members: dict[str, bytes]) -> None:
    """Check that every payload of a kind is there and has the size that its tensors need.

    Raises:
        RefusedPolicyError: One is missing, or is too short or too long.
    """
    payloads = parse_member(members, CONFIGS[kind], _Payloads)
    folder = CONFIGS[kind].rpartition("/")[0]
    needed: dict[str, int] = {}
    for name, payload in payloads.config.items():
        layout, file = payload.tensor_meta, f"{folder}/{payload.path_name}"
        if not re.fullmatch(rf"{kind}_\d+", payload.path_name):
            raise RefusedPolicyError(f"{name} refers to {payload.path_name!r}, expected {kind}_N")
        if file not in members:
            raise RefusedPolicyError(f"it lacks {file}, the values of {name}")
        if layout.elements > layout.extent:
            raise RefusedPolicyError(f"{name} has more elements than {file}")
        needed[file] = max(needed.get(file, 0), layout.extent * layout.item_bytes)
    for file, count in needed.items():
        if len(members[file]) != count:
            raise RefusedPolicyError(f"{file} has {len(members[file]):,} bytes, expected {count:,}")


def check_inputs(content: bytes) -> None:
    """Check that the sample inputs hold tensors only.

    Raises:
        RefusedPolicyError: They are too large, or compressed.
        Exception: Any of `DAMAGED`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _check_sizes(archive, MAX_INPUT_BYTES)
    torch.load(io.BytesIO(content), weights_only=True)


def _check_sizes(archive: zipfile.ZipFile, most: int) -> None:
    """Check that members are not compressed, and together not larger than `most`, before they are read.

    Raises:
        RefusedPolicyError: They are.
    """
    members = archive.infolist()
    if compressed := [info.filename for info in members if info.compress_type != zipfile.ZIP_STORED]:
        raise RefusedPolicyError(f"{compressed[0]!r} is compressed")
    if (total := sum(info.file_size for info in members)) > most:
        raise RefusedPolicyError(f"its members have {total:,} bytes")


def read_members(content: bytes) -> dict[str, bytes]:
    """Return the members of the archive by name, without the name of its top folder.

    Raises:
        RefusedPolicyError: A member is missing, or is not one of an exported policy.
    """
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _check_sizes(archive, len(content))
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            known = name in (MODEL, INPUTS, *CONFIGS.values(), *ARCHIVE) or PAYLOAD.fullmatch(name)
            if not known or name in members:
                raise RefusedPolicyError(f"it holds {info.filename!r}, which is not part of a policy file")
            members[name] = archive.read(info)
    if lacks := {MODEL, INPUTS, *CONFIGS.values()} - set(members):
        raise RefusedPolicyError(f"it lacks {sorted(lacks)[0]}")
    return members
