import dataclasses
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from datasets_io.quantities import number
from off2on import strategies
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.errors import HyperparameterError
from off2on.recipe.hyperparameters import Hyperparameters, Rule, Settings, hp
from off2on.strategies import find_strategy

KINDS = {f"algorithm {name}": find_algorithm(name).Hyperparameters for name in CATALOGUE} | {
    f"strategy {name}": find_strategy(name).Options for name in strategies.CATALOGUE
}


@dataclass(frozen=True)
class Example(Hyperparameters):
    tau: float = hp(0.7, "a share", above=0, below=1)
    count: int = hp(3, "how many", least=1, most=10)
    flag: bool = hp(False, "on or off")
    entropy: float | None = hp(None, "none is automatic")
    form: str = hp("log", "which loss", choices=("log", "alpha"))
    widths: tuple[int, ...] = hp((8, 8), "layers", least=1)


def allowed(rule: Rule, default: Any, kind: Any) -> st.SearchStrategy[Any]:
    """Values within a rule, of the default's type."""
    if kind == str | None:
        return st.sampled_from((None, "here", "there/it.pt"))
    if rule.choices:
        return st.sampled_from(rule.choices)
    if isinstance(default, bool):
        return st.booleans()
    if rule.validator:
        return st.lists(st.sampled_from(("noise:0.003", "top", "bootstrap:0.5"))).map(tuple)
    if isinstance(default, tuple):
        same = {"min_size": len(default), "max_size": len(default)}  # two tuples may have to match
        return st.lists(st.integers(1, 4096), **same).map(tuple)
    low = rule.above if rule.above is not None else rule.least
    high = rule.below if rule.below is not None else rule.most
    whole = st.integers(math.ceil(low or 0), int(high or 10**9))
    if kind == int | None:
        return st.none() | whole
    if isinstance(default, int):
        return whole
    bounds = {"exclude_min": rule.above is not None, "exclude_max": rule.below is not None}
    floats = st.floats(low, high, allow_nan=False, allow_infinity=False, **bounds)
    return floats if default is not None else st.none() | floats


@st.composite
def settings_of(draw: Callable[[st.SearchStrategy[Any]], Any], kind: type[Settings]) -> Settings:
    fields = dataclasses.fields(kind)
    kinds = typing.get_type_hints(kind)
    values = {one.name: draw(allowed(one.metadata["rule"], one.default, kinds[one.name])) for one in fields}
    try:
        return kind(**values)
    except HyperparameterError:  # each may be allowed, and all of them together not
        reject()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_any_allowed_settings_survive_yaml_and_text(kind: type[Settings], data: st.DataObject):
    drawn = data.draw(settings_of(kind))
    assert kind.parse(yaml.safe_load(yaml.safe_dump(drawn.as_dict())), "it") == drawn
    as_text = {name: str(value) for name, value in drawn.as_dict().items()}
    again = kind.parse(as_text, "it")
    assert again == drawn
    assert hash(again) == hash(drawn)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_setting_says_what_it_means_and_its_default_is_allowed(kind: type[Settings]):
    assert kind.parse({}, "it") == kind()
    for field in dataclasses.fields(kind):
        assert len(field.metadata["rule"].meaning) > 3, field.name
        parts = field.default if isinstance(field.default, tuple) else (field.default,)
        assert all(
            part is None or isinstance(part, bool) or field.metadata["rule"].allows(part) for part in parts
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [("250k", 250_000), ("1M", 1_000_000), ("1e-4", 1e-4), (" 1_000 ", 1000), ("-2.5k", -2500)],
)
def test_numbers_as_people_write_them(text: str, value: float):
    assert number(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("tau", "0.9", 0.9),
        ("tau", "1e-4", 1e-4),
        ("count", "4", 4),
        ("count", 4.0, 4),
        ("batch_size", "1k", 1000),
        ("flag", "yes", True),
        ("flag", "False", False),
        ("flag", True, True),
        ("entropy", "none", None),
        ("entropy", None, None),
        ("entropy", "-3", -3.0),
        ("form", "alpha", "alpha"),
        ("widths", "64,32", (64, 32)),
        ("widths", "(64, 32)", (64, 32)),
        ("widths", [64, 32], (64, 32)),
    ],
)
def test_text_and_yaml_become_the_declared_type(name: str, given: object, value: object):
    parsed = getattr(Example.parse({name: given}, "example"), name)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("tau", 1.0, "(0, 1)"),
        ("tau", 0.0, "(0, 1)"),
        ("tau", "nan", "(0, 1)"),
        ("tau", float("nan"), "(0, 1)"),
        ("tau", "high", "float"),
        ("tau", True, "float"),
        ("tau", None, "float"),
        ("tau", [0.5], "float"),
        ("count", 0, "[1, 10]"),
        ("count", 11, "[1, 10]"),
        ("count", "2.5", "int"),
        ("count", "inf", "int"),
        ("flag", "maybe", "bool"),
        ("form", "exp", "log | alpha"),
        ("form", 3, "log | alpha"),
        ("widths", "64,0", "≥ 1"),
        ("widths", "", "≥ 1"),
        ("widths", [], "≥ 1"),
        ("widths", "64,wide", "≥ 1"),
        ("widths", 64, "≥ 1"),
        ("discount", 1.01, "[0, 1]"),
    ],
)
def test_a_wrong_value_is_refused_with_its_range_and_meaning(name: str, given: object, says: str):
    with pytest.raises(HyperparameterError) as refusal:
        Example.parse({name: given}, "example")
    assert name in refusal.value.what
    assert says in refusal.value.what
    assert Example.rules()[name].meaning in refusal.value.expected


def test_an_unknown_name_is_refused_with_the_nearest_and_the_list():
    with pytest.raises(HyperparameterError) as refusal:
        Example.parse({"beta_size": 1}, "example")
    assert "example has no hyperparameter 'beta_size'" in refusal.value.what
    assert refusal.value.nearest == "batch_size"
    assert "widths" in refusal.value.expected


def test_the_constructor_checks_ranges_too():
    with pytest.raises(HyperparameterError, match="tau"):
        Example(tau=1.5)


def test_settings_are_values():
    assert Example(tau=0.5) == Example(tau=0.5) != Example(tau=0.6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().tau = 0.5  # type: ignore[misc]


def test_an_algorithms_own_hyperparameters_come_first():
    names = list(Example.rules())
    assert names[:2] == ["tau", "count"]
    assert set(names[-8:]) == {field.name for field in dataclasses.fields(Hyperparameters)}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("", above=0), "> 0"),
        (Rule("", least=0), "≥ 0"),
        (Rule("", below=1), "< 1"),
        (Rule("", most=1), "≤ 1"),
        (Rule("", above=0, most=1), "(0, 1]"),
        (Rule("", least=0, below=1), "[0, 1)"),
        (Rule(""), "any"),
        (Rule("", choices=("a", "b")), "a | b"),
    ],
)
def test_a_range_in_words(rule: Rule, words: str):
    assert rule.range() == words


def test_every_search_range_lies_in_the_allowed_one():
    for kind in KINDS.values():
        for name, rule in kind.rules().items():
            if rule.search:
                shape, *points = rule.search
                assert shape in ("log", "uniform", "choice"), name
                assert all(rule.allows(point) for point in points), name
