"""Options are declared once: the command line, resuming, and run.yaml follow from the declaration."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from command import off2on

from datasets_io.quantities import number, parse_size, whole_number
from off2on.commands.arguments import parse_count, parse_memory, parse_number
from off2on.commands.train import COMMAND_ONLY, train
from off2on.errors import UserError
from off2on.online.settings import OnlineSettings
from off2on.training.options import (
    KEPT_OFFLINE,
    KEPT_ONLINE,
    ONLINE_SHORTCUTS,
    OPTIONS,
    RunOptions,
    default_text,
    flag,
    kept_options,
)
from off2on.training.plan import Plan


def test_train_takes_every_declared_option():
    taken = {parameter.name: parameter for parameter in train.params if isinstance(parameter, click.Option)}
    assert taken.keys() - {*COMMAND_ONLY} == {*OPTIONS, *ONLINE_SHORTCUTS, "guard"}
    for name, known in {**OPTIONS, **ONLINE_SHORTCUTS}.items():
        assert taken[name].opts == [flag(name)]
        assert known.help in (taken[name].help or "")
        assert f"[{default_text(name)}]" in taken[name].help or not default_text(name)
    context = train.make_context("train", ["iql", "toy"])
    assert all(context.params[name] is None for name in OPTIONS)  # a value means that it was given


def test_every_declaration_has_a_type_and_a_default():
    fields = {field.name: field for field in dataclasses.fields(RunOptions)}
    for name, known in OPTIONS.items():
        assert fields[name].default is not dataclasses.MISSING
        assert known.kind in ("count", "size", "text", "texts", "flag")


@pytest.mark.parametrize("name", ONLINE_SHORTCUTS)
def test_a_shortcut_is_an_online_setting_with_the_same_default(name: str):
    default = getattr(OnlineSettings(), name)
    assert ONLINE_SHORTCUTS[name].default == (None if default is False else str(default))


@pytest.mark.parametrize("name", [name for name, known in OPTIONS.items() if known.least is not None])
def test_a_value_below_the_range_is_refused(name: str):
    least = OPTIONS[name].least
    assert least is not None
    RunOptions("iql", "toy", **{name: least}).check_bounds()
    with pytest.raises(UserError, match=f"{flag(name)} must be at least {least}: got {least - 1}"):
        RunOptions("iql", "toy", **{name: least - 1}).check_bounds()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("updates", True),
        ("updates", 1.5),
        ("updates", float("inf")),
        ("updates", None),
        ("seed", [1]),
        ("eval_every", 50.5),
        ("threads", "2"),
        ("memory", "4G"),
        ("out", 5),
        ("env", True),
        ("track", "wandb"),
        ("keep_policies", 1),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object):
    with pytest.raises(UserError, match=rf"^{name} must be .*: got {re.escape(repr(value))}\.$"):
        RunOptions("iql", "toy", **{name: value})


def test_whole_numbers_and_paths_may_have_other_types(tmp_path: Path):
    given = {"updates": 1e4, "seed": np.int64(1), "eval_every": np.float32(50), "out": tmp_path}
    options = RunOptions("iql", "toy", **given)
    taken = {name: getattr(options, name) for name in given}
    assert taken == {"updates": 10_000, "seed": 1, "eval_every": 50, "out": str(tmp_path)}
    assert [type(value) for value in taken.values()] == [int, int, int, str]


def test_what_a_resumed_run_must_keep():
    assert kept_options(KEPT_OFFLINE) == ["updates", "learners"]
    may_change = {"source", "seed", "out", "keep_policies", "threads", "compile", "address", "wait", "track"}
    assert {*kept_options(KEPT_ONLINE)} == OPTIONS.keys() - may_change


def test_run_yaml_has_every_option():
    described = {name: (value, origin) for name, value, origin in Plan("iql", "toy", memory=2**20).describe()}
    assert described.keys() == {"algorithm", "data", *OPTIONS}
    assert described["updates"] == ("1000000", "default")


@pytest.mark.parametrize(
    ("name", "most"), [(name, known.most) for name, known in OPTIONS.items() if known.most is not None]
)
def test_a_value_above_the_range_is_refused(name: str, most: int):
    RunOptions("iql", "toy", **{name: most}).check_bounds()
    with pytest.raises(UserError, match=f"{flag(name)} must be at most"):
        RunOptions("iql", "toy", **{name: most + 1}).check_bounds()


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e309", "1e400000000", "1e9999999999999999999", "", "k", "x"]
)
@pytest.mark.parametrize("parse", [number, whole_number, parse_size, parse_count, parse_memory, parse_number])
def test_no_number_is_infinite(parse: Callable[[str], object], text: str):
    with pytest.raises((ValueError, click.BadParameter)):
        parse(text)


def test_numbers_are_exact():
    for text, whole in (
        ("20k", 20_000),
        ("1.1M", 1_100_000),
        ("1e-3k", 1),
        ("-0", 0),
        (" 7 ", 7),
        (f"{2**53}", 2**53),
    ):
        assert whole_number(text) == whole
    assert str(number("-0")) == "0.0"
    assert number("2.5k") == 2500
    assert parse_size("1.5 GiB") == 3 * 2**29
    for text in ("0.5", "1e300", f"{2**53 + 1}", "9" * 500):
        with pytest.raises(ValueError, match=text[:9]):
            whole_number(text)
    for text in ("0", "0.1", "9" * 500 + "G"):
        with pytest.raises(ValueError, match="size"):
            parse_size(text)


@pytest.mark.parametrize(
    "words", [["--seed", "-1"], ["--seed", str(2**32)], ["--updates", "1e300"], ["--utd", "nan"]]
)
def test_a_wrong_number_on_the_command_line_is_named(words: list[str], data_root: Path, tmp_path: Path):
    online = ["--online", "20"] if "--utd" in words else []
    done = off2on(tmp_path, "train", "td3_bc", "toy-pendulum", *online, *words, OFF2ON_DATA=data_root)
    assert done.returncode == 2
    assert words[0] in done.stderr
    assert words[1].lstrip("-") in done.stderr.replace(",", "")
