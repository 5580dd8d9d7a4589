import json
from typing import Any

import yaml
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given
from pydantic import TypeAdapter

from datasets_io.errors import Corrupt
from datasets_io.storage.documents import parse_json, parse_yaml

VALID = {"name": "a", "rows": [1, 2, 3], "score": {"mean": 0.5, "of": None}}
SCHEMA = dict[str, str | list[int] | dict[str, float | None]]


def check(found: Any) -> None:
    assert isinstance(found, Corrupt) or TypeAdapter(SCHEMA).validate_python(found) == found


@fuzz
@given(content=damaged(json.dumps(VALID).encode()))
def test_damaged_json(content: bytes):
    check(read_or_refused(lambda: parse_json(content, SCHEMA)))


@fuzz
@given(content=damaged(yaml.safe_dump(VALID).encode()))
def test_damaged_yaml(content: bytes):
    check(read_or_refused(lambda: parse_yaml(content, SCHEMA)))


@fuzz
@given(value=changed(VALID))
def test_changed_values(value: Any):
    check(read_or_refused(lambda: parse_json(json.dumps(value), SCHEMA)))
