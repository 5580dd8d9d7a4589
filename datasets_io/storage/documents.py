"""Read small files at rest, JSON and YAML, through a schema, with limits on their size and depth.

A schema is a type that pydantic validates: a dataclass, a model, or a type such as ``dict[str, float]``.
Types are strict: a text is no number. Nothing that a file names is imported or called.
"""

import json
from functools import cache
from typing import Any, TypeVar

import yaml

from datasets_io.errors import Corrupt, UserError
from datasets_io.storage.places import Place, is_file, locate, open_input, size

T = TypeVar("T")

MAX_JSON_BYTES = 256 * 2**20
MAX_YAML_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
MAX_DEPTH = 100
"""Deepest nesting of lists and mappings in YAML; pydantic's own limit for JSON is 200."""


def read_json(where: str | Place, schema: type[T], refusal: type[UserError] = Corrupt) -> T:
    """Read a JSON file and return an object of the schema.

    Args:
        where: The file.
        schema: Type of the result.
        refusal: Class of the error.

    Raises:
        UserError: Of class `refusal`: it is no file, is too large, is not JSON, or does not fit the schema.
    """
    return parse_json(read_content(where, MAX_JSON_BYTES, refusal), schema, where, refusal)


def read_yaml(where: str | Place, schema: type[T], refusal: type[UserError] = Corrupt) -> T:
    """Read a YAML file and return an object of the schema; arguments and errors are those of `read_json`."""
    return parse_yaml(read_content(where, MAX_YAML_BYTES, refusal), schema, where, refusal)


def parse_json(
    text: str | bytes, schema: type[T], where: object = "the text", refusal: type[UserError] = Corrupt
) -> T:
    """Parse JSON text that was read from `where`; see `read_json`."""
    found: T = _validated(text, schema, where, "JSON", refusal)
    return found


def parse_yaml(
    text: str | bytes, schema: type[T], where: object = "the text", refusal: type[UserError] = Corrupt
) -> T:
    """Parse YAML text that was read from `where`; see `read_yaml`."""
    try:
        check_yaml(text)
        plain = yaml.load(text, Loader=yaml.CSafeLoader)
        # The strict rules for JSON are those wanted here: a list fits a tuple, a text fits no number.
        as_json = json.dumps(plain, default=str)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise refusal(f"{where} cannot be read as YAML.", _one_line(error)) from None
    found: T = _validated(as_json, schema, where, "YAML", refusal)
    return found


def check_yaml(text: str | bytes) -> None:
    """Check that YAML text has no alias and is not nested too deeply, before objects are made of it.

    A few lines of aliases can stand for more values than fit into memory.

    Raises:
        yaml.YAMLError: It has an alias, is nested deeper than `MAX_DEPTH`, or is not YAML; has the line where
            it is known.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _at(event, f"aliases are not allowed: *{event.anchor}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH} levels")


def _at(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, event.start_mark)


def dump_yaml(value: Any) -> str:
    """Return plain values as YAML in their order, without aliases, which `check_yaml` refuses."""
    return str(yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True))


class _PlainDumper(yaml.SafeDumper):
    """Dumper that writes a list that occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_content(where: str | Place, most: int, refusal: type[UserError] = Corrupt) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        UserError: Of class `refusal`: it is no regular file, is too large, or cannot be read.
    """
    place = locate(where)
    if not is_file(place):
        raise refusal(f"{place} is not a file.", "Expected a regular file.")
    if (found := size(place)) > most:
        raise refusal(f"{place} has {found:,} bytes.", f"Expected at most {most:,}.")
    content = bytearray()  # read in pieces: a buffer of `most` bytes would be taken for a small file, too
    try:
        with open_input(place) as file:
            while len(content) <= most and (piece := file.read(PIECE_BYTES)):
                content += piece
    except OSError as error:
        raise refusal(f"{place} cannot be read: {error.strerror}.") from None
    if len(content) > most:
        raise refusal(f"{place} has more than {most:,} bytes.")  # the size of a special file may be 0
    return bytes(content)


def _validated(text: str | bytes, schema: Any, where: object, kind: str, refusal: type[UserError]) -> Any:
    from pydantic import ValidationError  # imported late, because `off2on --help` needs none of it

    try:
        return validator(schema).validate_json(text, strict=True)
    except ValidationError as error:
        raise _refuse(error, where, kind, refusal) from None


@cache
def validator(schema: Any) -> Any:
    """Return pydantic's TypeAdapter of a schema, which takes about a millisecond to make."""
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def _refuse(error: Any, where: object, kind: str, refusal: type[UserError]) -> UserError:
    first, *others = error.errors(include_url=False)
    more = f" ({len(others)} more like this)" if others else ""
    if first["type"] == "json_invalid":
        return refusal(f"{where} cannot be read as {kind}.", _one_line(first["msg"]))
    field = _path(first["loc"])
    if first["type"] == "missing":
        return refusal(f"{where} lacks {field}{more}.")
    given = repr(first["input"])
    given = given if len(given) <= 60 else f"{given[:57]}..."
    return refusal(f"{where}: {field or 'the content'} is {given}{more}.", f"{_one_line(first['msg'])}.")


def _path(location: tuple[int | str, ...]) -> str:
    """Return a location as text: ``files[0].rows``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())
