"""Options are declared once: the command line, resuming, and run.yaml follow from the declaration."""

import dataclasses

import click
import pytest

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
        assert known.kind in ("count", "size", "text", "texts")


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


def test_what_a_resumed_run_must_keep():
    assert kept_options(KEPT_OFFLINE) == ["updates", "learners"]
    may_change = {"source", "seed", "out", "threads", "address", "wait", "track"}
    assert {*kept_options(KEPT_ONLINE)} == OPTIONS.keys() - may_change


def test_run_yaml_has_every_option():
    described = {name: (value, origin) for name, value, origin in Plan("iql", "toy", memory=2**20).describe()}
    assert described.keys() == {"algorithm", "data", *OPTIONS}
    assert described["updates"] == ("1000000", "default")
