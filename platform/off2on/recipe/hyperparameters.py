"""Hyperparameters: one line states default, meaning, range and search range.

    expectile: float = hp(0.7, "tau of the value loss: 0.5 is the mean", above=0, below=1)

The line serves the constructor, the range check, the typed parsing of ``expectile=0.9`` from a
command line or YAML (where ``1e-4`` is text), the table of ``off2on algos iql`` and a search.
"""

import dataclasses
import importlib
import math
import typing
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, Self

from off2on.errors import HyperparameterError, nearest

RENAMED = {"expand": "augment", "pull": "regularisation"}
"""Old names of settings, accepted until version 0.3, and the names that replace them."""

PRESET = "preset"
"""The name under which a preset is asked for among hyperparameters."""


@dataclass(frozen=True)
class Rule:
    """What is known of one hyperparameter besides its default and type."""

    meaning: str
    above: float | None = None
    below: float | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    search: tuple[Any, ...] = ()
    form: str = ""
    check: str = ""
    only: tuple[str, object] | None = None

    def range(self) -> str:
        """The allowed values, in words short enough for a table."""
        if self.form:
            return self.form
        if self.choices:
            return " | ".join(self.choices)
        low = (
            f"({self.above:g}"
            if self.above is not None
            else f"[{self.least:g}"
            if self.least is not None
            else ""
        )
        high = (
            f"{self.below:g})"
            if self.below is not None
            else f"{self.most:g}]"
            if self.most is not None
            else ""
        )
        if low and high:
            return f"{low}, {high}"
        if low:
            return f"> {self.above:g}" if self.above is not None else f"≥ {self.least:g}"
        return f"< {self.below:g}" if self.below is not None else f"≤ {self.most:g}" if high else "any"

    def allows(self, value: float | str) -> bool:
        """Whether a single number or word lies in the range."""
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (
            not math.isnan(value)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )


def hp(
    default: Any,
    meaning: str,
    *,
    above: float | None = None,
    below: float | None = None,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    search: tuple[Any, ...] = (),
    form: str = "",
    check: str = "",
    only: tuple[str, object] | None = None,
) -> Any:
    """A dataclass field with its meaning and range.

    Args:
        default: The paper's value; the only place it is written.
        meaning: What it does, with a landmark or two.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        least: Inclusive lower bound.
        most: Inclusive upper bound.
        choices: The allowed words of a text.
        search: What a search tries when it does not say: ``("log", 1e-5, 1e-3)``,
            ``("uniform", 0, 1)`` or ``("choice", a, b, …)``.
        form: What a value looks like, where neither a range nor words say it.
        check: ``module:function`` that refuses wrong values; named, as it may lie on a higher floor.
        only: Another setting and its value, without which this one does nothing.
    """
    rule = Rule(meaning, above, below, least, most, choices, search, form, check, only)
    return dataclasses.field(default=default, metadata={"rule": rule})


def number(text: str) -> float:
    """``"250k"``, ``"1M"``, ``"1e-4"`` as a number."""
    text = text.strip().replace("_", "")
    scale = {"k": 1e3, "M": 1e6}.get(text[-1:], 1.0)
    return float(text[:-1] if scale > 1 else text) * scale


def current_names(values: Mapping[str, object]) -> dict[str, object]:
    """Return settings under their current names; each name of `RENAMED` gives a FutureWarning."""
    for name in RENAMED.keys() & values:
        warnings.warn(f"'{name}' is now '{RENAMED[name]}'.", FutureWarning, stacklevel=3)
    return {RENAMED.get(name, name): value for name, value in values.items()}


def _convert(value: object, kind: Any) -> Any:
    """A value, possibly text, as the annotated type; ValueError if it cannot be."""
    if isinstance(kind, UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        (kind,) = (option for option in typing.get_args(kind) if option is not NoneType)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        return words.get(str(value).lower()) if str(value).lower() in words else _refuse(value)
    if typing.get_origin(kind) is tuple:
        text = isinstance(value, str)
        parts = [part.strip(" '") for part in str(value).strip("()[] ").split(",")] if text else value
        if not isinstance(parts, list | tuple):
            return _refuse(value)
        return tuple(_convert(part, typing.get_args(kind)[0]) for part in parts if part != "")
    if kind is str:
        return value if isinstance(value, str) else _refuse(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _refuse(value)
    parsed = number(value) if isinstance(value, str) else float(value)
    if kind is int:
        return int(parsed) if parsed == int(parsed) else _refuse(value)
    return parsed


def _refuse(value: object) -> typing.NoReturn:
    raise ValueError(value)


@dataclass(frozen=True)
class Settings:
    """Frozen, hashable, comparable by value; every field is declared by `hp` and checked."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, rule = getattr(self, field.name), field.metadata["rule"]
            parts = value if isinstance(value, tuple) else (value,)
            allowed = all(part is None or isinstance(part, bool) or rule.allows(part) for part in parts)
            if not allowed or (not parts and field.default):  # a list may be empty if its default is
                raise HyperparameterError(
                    f"{field.name} must be {_phrase(rule)}: got {value}.", f"It is: {rule.meaning}."
                )
            if rule.check and value:
                module, _, function = rule.check.partition(":")
                getattr(importlib.import_module(module), function)(value)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """Name to values: what the paper uses where it differs from the defaults, by family of data."""

    @classmethod
    def parse(cls, values: Mapping[str, object], owner: str) -> Self:
        """Build from names and values, either typed or as text.

        Args:
            values: Hyperparameter names to values; text is converted to the annotated type. ``preset``
                names values to take for those that are not given.
            owner: The name of the algorithm or strategy, for messages.

        Raises:
            HyperparameterError: An unknown name, a value of the wrong type or out of range.
        """
        kinds = typing.get_type_hints(cls)
        rules = cls.rules()
        values = cls._with_preset(current_names(values), owner)
        typed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in rules:
                raise HyperparameterError(
                    f"{owner} has no hyperparameter '{name}'.",
                    f"{nearest(name, rules)}All: {' '.join(rules)}",
                )
            try:
                typed[name] = _convert(value, kinds[name])
            except (ValueError, OverflowError):
                kind = getattr(kinds[name], "__name__", str(kinds[name]))
                raise HyperparameterError(
                    f"{name} must be of type {kind} and {_phrase(rules[name])}: got {value!r}.",
                    f"It is: {rules[name].meaning}.",
                ) from None
        return cls(**typed)

    @classmethod
    def _with_preset(cls, values: Mapping[str, object], owner: str) -> dict[str, object]:
        """The values, and those of the preset they name."""
        given = {name: value for name, value in values.items() if name != PRESET}
        if PRESET not in values:
            return given
        asked = values[PRESET]
        if asked not in cls.presets:
            raise HyperparameterError(
                f"{owner} has no preset '{asked}'.",
                f"{nearest(str(asked), cls.presets)}All: {' '.join(cls.presets) or 'none'}",
            )
        return {**cls.presets[str(asked)], **given}

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Name to rule, in the order of declaration."""
        return {field.name: field.metadata["rule"] for field in dataclasses.fields(cls)}

    def idle(self, names: Collection[str]) -> dict[str, tuple[str, object]]:
        """Those of the names that do nothing here, each with the setting and the value that it would need."""
        needs = {name: rule.only for name, rule in self.rules().items() if name in names and rule.only}
        return {name: need for name, need in needs.items() if getattr(self, need[0]) != need[1]}

    def as_dict(self) -> dict[str, Any]:
        """Name to value."""
        return {name: getattr(self, name) for name in self.rules()}


NORMALISE = "use (s - mean) / (std + 0.001) of the data, offline and online"
REWARDS = (
    "raw", "return_scale", "return_range", "standardise", "minus_one", "ten_minus_five", "ten_plus_five"
)  # fmt: skip
REWARD = (
    "transform of the reward, offline and online: return_scale is r * 1000 / largest |return|, "
    "return_range r * 1000 / (largest - smallest return), standardise (r - mean) / std, "
    "minus_one r - 1, ten_minus_five 10 r - 5, ten_plus_five 10 r + 5"
)
AUGMENT = "more, or better, out of the same data, in this order; for example top:0.5,noise:0.003"


@dataclass(frozen=True)
class Hyperparameters(Settings):
    """What every algorithm has."""

    batch_size: int = hp(256, "transitions per update, over all learners", least=1)
    discount: float = hp(0.99, "gamma, per step", least=0, most=1)
    polyak: float = hp(0.005, "share of the networks the targets take over per update", least=0, most=1)
    actor_lr: float = hp(3e-4, "Adam's step size for the policy", above=0, search=("log", 3e-5, 1e-3))
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1)
    normalise_obs: bool = hp(False, NORMALISE)
    reward: str = hp("raw", REWARD, choices=REWARDS)
    augment: tuple[str, ...] = hp(
        (), AUGMENT, form="NAME:NUMBER,…", check="off2on.replay.augmentation.catalogue:check"
    )

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Name to rule, the algorithm's own hyperparameters first."""
        shared = {field.name for field in dataclasses.fields(Hyperparameters)}
        rules = super().rules()
        return dict(sorted(rules.items(), key=lambda item: item[0] in shared))


def _phrase(rule: Rule) -> str:
    if rule.form:
        return f"of the form {rule.form}"
    return f"one of {rule.range()}" if rule.choices else f"in the range {rule.range()}"
