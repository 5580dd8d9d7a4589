from dataclasses import dataclass
from pathlib import Path

import pytest

from datasets_io.errors import Corrupt, UserError
from datasets_io.storage.documents import MAX_DEPTH, parse_json, parse_yaml, read_json, read_yaml


@dataclass(frozen=True)
class Part:
    name: str
    rows: int


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    box: tuple[float, float]


def test_both_kinds_give_the_same_object(tmp_path: Path):
    expected = Whole([Part("a", 3)], (0.0, 1.5))
    (tmp_path / "x.json").write_text('{"parts": [{"name": "a", "rows": 3}], "box": [0, 1.5]}')
    (tmp_path / "x.yaml").write_text("parts:\n- {name: a, rows: 3}\nbox: [0, 1.5]\n")
    assert read_json(tmp_path / "x.json", Whole) == expected
    assert read_yaml(tmp_path / "x.yaml", Whole) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"parts": [{"name": "a", "rows": "3"}], "box": [0, 1]}', ["parts[0].rows", "'3'"]),
        ('{"parts": [{"name": "a"}], "box": [0, 1]}', ["lacks parts[0].rows"]),
        ('{"parts": [], "box": [0, 1, 2]}', ["box"]),
        ("[]", ["the content is []"]),
        ("null", ["the content is None"]),
    ],
)
def test_what_does_not_fit_is_named(text: str, named: list[str]):
    for parse in (parse_json, parse_yaml):
        with pytest.raises(Corrupt) as refused:
            parse(text, Whole, "x.json")
        assert all(part in str(refused.value) for part in [*named, "x.json"])


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\x00", b"{", b"[" * 100_000, '{"a": 1' * 5000])
def test_text_that_is_no_json_is_refused(text: bytes | str):
    with pytest.raises(Corrupt, match="JSON"):
        parse_json(text, dict[str, int])


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00",
        b"a: [",
        b"a: 'b",
        b"[" * 100_000,
        b"? [a, b]\n: 1",
        "!!python/object/apply:os.system ['true']",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    ],
)
def test_text_that_is_no_plain_yaml_is_refused(text: bytes | str):
    with pytest.raises(Corrupt, match="YAML"):
        parse_yaml(text, dict[str, int])


def test_aliases_are_refused_before_they_are_expanded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(Corrupt, match="aliases"):
        parse_yaml("\n".join(lines), dict[str, list])


def test_the_caller_chooses_the_class_of_the_error(tmp_path: Path):
    with pytest.raises(UserError) as refused:
        read_yaml(tmp_path, dict, UserError)
    assert type(refused.value) is UserError
    assert "not a file" in str(refused.value)
