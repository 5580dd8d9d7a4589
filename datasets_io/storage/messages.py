"""Create classes of protobuf messages at run time, from the names, numbers and types of their fields.

No compiled schema and no package of the format's authors is needed. A message is declared as text:
name=number:type; * repeated, + repeated and packed; the fields after | exclude each other. Enumerations are
declared as int32, their encoding, so that no value is unknown.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Numbers of FieldDescriptorProto.Type; anything else is a message.
_TYPES = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE_TYPE = 11


class FieldFacts(NamedTuple):
    """Declaration of a field; `repeated` is `*`, `+` (repeated and packed) or empty."""

    name: str
    number: int
    kind: str
    repeated: str


def parse_fields(text: str) -> tuple[FieldFacts, ...]:
    """Return the fields of a message that is declared as text."""
    return tuple(_facts(word) for word in text.split() if word != "|")


def make_classes(package: str, messages: Mapping[str, str]) -> dict[str, Any]:
    """Return the classes of messages, by their name without the package.

    Args:
        package: Package of protobuf.
        messages: Declaration of each message by its name.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClassesForFiles

    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, text in messages.items():
        declared = file.message_type.add(name=name)
        plain, _, exclusive = text.partition("|")
        for word in plain.split():
            _declare(declared, _facts(word), package)
        for word in exclusive.split():
            _declare(declared, _facts(word), package).oneof_index = 0
        if exclusive:
            declared.oneof_decl.add(name="data")
    pool = DescriptorPool()
    pool.Add(file)
    classes = GetMessageClassesForFiles([file.name], pool)
    return {name.removeprefix(f"{package}."): found for name, found in classes.items()}


def _facts(word: str) -> FieldFacts:
    name, number, kind = word.replace("=", ":").split(":")
    base = kind.rstrip("*+")
    return FieldFacts(name, int(number), base, kind[len(base) :])


def _declare(declared: Any, facts: FieldFacts, package: str) -> Any:
    field = declared.field.add(name=facts.name, number=facts.number)
    field.label = field.LABEL_REPEATED if facts.repeated else field.LABEL_OPTIONAL
    field.type = _TYPES.get(facts.kind, _MESSAGE_TYPE)
    if field.type == _MESSAGE_TYPE:
        field.type_name = f".{package}.{facts.kind}"
    if facts.repeated == "+":
        field.options.packed = True
    return field
