"""Hyperparameters: one line declares the default, meaning, range and search range.

    expectile: float = hp(0.7, "tau of the value loss: 0.5 is the mean", above=0, below=1)

The constructor, the range check, the typed parsing of ``expectile=0.9`` from a command line or YAML
(where ``1e-4`` is text), the table of ``off2on algos iql`` and a search are made from this line.
"""

import dataclasses
import math
import typing
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from datasets_io.imports import import_object
from off2on.errors import HyperparameterError
from off2on.recipe.typed_values import convert_text

RENAMED = {"expand": "augment", "pull": "regularisation"}
"""Deprecated names of settings, accepted until version 0.3, to the names that replace them."""

PRESET = "preset"
"""Key that selects a preset among hyperparameters."""


@dataclass(frozen=True)
class Rule:
    """Meaning and allowed values of one hyperparameter; its default and type are those of the field.

    The attributes are the arguments of `hp`.
    """

    meaning: str
    above: float | None = None
    below: float | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    search: tuple[Any, ...] = ()
    syntax: str = ""
    validator: str = ""
    only: tuple[str, object] | None = None
    built: bool = False
    limit: str | None = None

    def range(self) -> str:
        """Return the allowed values as a short text for a table, such as ``(0, 1]`` or ``a | b``."""
        if self.syntax:
            return self.syntax
        if self.choices:
            return " | ".join(self.choices)
        low = least = high = most = ""
        if self.above is not None:
            low, least = f"({self.above:g}", f"> {self.above:g}"
        elif self.least is not None:
            low, least = f"[{self.least:g}", f"≥ {self.least:g}"
        if self.below is not None:
            high, most = f"{self.below:g})", f"< {self.below:g}"
        elif self.most is not None or self.limit:
            largest = self.limit or f"{self.most:g}"
            high, most = f"{largest}]", f"≤ {largest}"
        return f"{low}, {high}" if low and high else least or most or "any"

    def allows(self, value: float | str) -> bool:
        """Return True if a single number or text is an allowed value."""
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
    syntax: str = "",
    validator: str = "",
    only: tuple[str, object] | None = None,
    built: bool = False,
    limit: str | None = None,
) -> Any:
    """Declare a field of `Settings` with its default, meaning and range.

    Args:
        default: Default value, usually the paper's.
        meaning: Effect of the value, its symbol in the paper and its unit, with one or two landmarks.
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        least: Inclusive lower bound.
        most: Inclusive upper bound.
        choices: Allowed values of a text.
        search: Default search space: ``("log", 1e-5, 1e-3)``, ``("uniform", 0, 1)`` or
            ``("choice", a, b, …)``; empty if there is none.
        syntax: Form of a value, such as ``NAME:NUMBER,…``, where a range or choices cannot describe it.
        validator: Function ``module:function`` that raises `UserError` on a wrong value. It is a name because
            this module must not import the layers above it.
        only: Name and value of another setting; with any other value of it, this setting has no effect.
        built: True if it defines networks, optimisers or a model that is fitted before the first update, so
            that it cannot change later. A subclass that declares the setting again need not repeat it.
        limit: Name of another setting; its value is the inclusive upper bound.
    """
    rule = Rule(meaning, above, below, least, most, choices, search, syntax, validator, only, built, limit)
    return dataclasses.field(default=default, metadata={"rule": rule})


def current_names(values: Mapping[str, object]) -> dict[str, object]:
    """Return settings under their current names; warn with FutureWarning of each name in `RENAMED`."""
    for name in RENAMED.keys() & values:
        warnings.warn(f"'{name}' is now '{RENAMED[name]}'.", FutureWarning, stacklevel=3)
    return {RENAMED.get(name, name): value for name, value in values.items()}


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    """Check a single value of a field of `Settings`.

    Raises:
        HyperparameterError: It is not allowed.
    """
    rule = field.metadata["rule"]
    parts = value if isinstance(value, tuple) else (value,)
    allowed = all(part is None or isinstance(part, bool) or rule.allows(part) for part in parts)
    if not allowed or (not parts and field.default):  # a list may be empty if its default is
        raise HyperparameterError(
            f"{field.name} must be {_phrase(rule)}: got {value}.", f"{field.name}: {rule.meaning}."
        )
    if rule.validator and value:
        import_object(rule.validator)(value)


@dataclass(frozen=True)
class Settings:
    """Frozen, hashable settings, compared by value; every field is declared by `hp` and checked.

    Raises:
        HyperparameterError: A value is out of range.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    """Preset names to values: the paper's values for a family of data sets, where they differ from the
    defaults."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, rule = getattr(self, field.name), field.metadata["rule"]
            _check(field, value)
            limit = getattr(self, rule.limit) if rule.limit else None
            if limit is not None and value is not None and value > limit:
                raise HyperparameterError(
                    f"{field.name} must be at most {rule.limit}, {limit}: got {value}.",
                    f"{field.name}: {rule.meaning}.",
                )

    @classmethod
    def parse(cls, values: Mapping[str, object], owner: str) -> Self:
        """Build settings from names and values, see `convert`, and the defaults of the others.

        Raises:
            HyperparameterError: A value is wrong, or two values do not fit each other.
        """
        return cls(**cls.convert(values, owner))

    @classmethod
    def convert(cls, values: Mapping[str, object], owner: str) -> dict[str, Any]:
        """Return values, either typed or as text, in the types of the settings, each checked alone.

        Args:
            values: Names to values; text is converted to the annotated type. The key ``preset`` selects
                a preset, which provides the values that are not given.
            owner: Name of the algorithm or strategy, for messages.

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
                    f"All: {' '.join(rules)}",
                    given=name,
                    known=rules,
                )
            try:
                typed[name] = convert_text(value, kinds[name])
            except (ValueError, OverflowError):
                kind = getattr(kinds[name], "__name__", str(kinds[name]))
                raise HyperparameterError(
                    f"{name} must be of type {kind} and {_phrase(rules[name])}: got {value!r}.",
                    f"{name}: {rules[name].meaning}.",
                ) from None
        for field in dataclasses.fields(cls):
            if field.name in typed:
                _check(field, typed[field.name])
        return typed

    @classmethod
    def _with_preset(cls, values: Mapping[str, object], owner: str) -> dict[str, object]:
        """Return the values, together with those of the preset that they select."""
        given = {name: value for name, value in values.items() if name != PRESET}
        if PRESET not in values:
            return given
        preset = str(values[PRESET])
        if preset not in cls.presets:
            raise HyperparameterError(
                f"{owner} has no preset '{preset}'.",
                f"All: {' '.join(cls.presets) or 'none'}",
                given=preset,
                known=cls.presets,
            )
        return {**cls.presets[preset], **given}

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Return the rule of every setting by name, in the order of declaration."""
        return {field.name: field.metadata["rule"] for field in dataclasses.fields(cls)}

    @classmethod
    def built(cls) -> set[str]:
        """Return the names of the settings that cannot change after the first update."""
        kinds = filter(dataclasses.is_dataclass, cls.__mro__)
        declared = [field for kind in kinds for field in dataclasses.fields(kind)]
        return {field.name for field in declared if field.metadata["rule"].built}

    def without_effect(self, names: Collection[str]) -> dict[str, tuple[str, object]]:
        """Return the settings among `names` that have no effect.

        Returns:
            Their names to the name and value of the other setting that each of them needs.
        """
        needs = {name: rule.only for name, rule in self.rules().items() if name in names and rule.only}
        return {name: need for name, need in needs.items() if getattr(self, need[0]) != need[1]}

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {name: getattr(self, name) for name in self.rules()}


NORMALISE = "normalise observations to (s - mean) / (std + 0.001) of the data set, offline and online"
REWARDS = (
    "raw", "return_scale", "return_range", "standardise", "minus_one", "four_minus_two", "ten_minus_five",
    "ten_plus_five", "times_ten",
)  # fmt: skip
REWARD = (
    "transform of the reward, offline and online: return_scale is r * 1000 / largest |return|, "
    "return_range r * 1000 / (largest - smallest return), standardise (r - mean) / std, "
    "minus_one r - 1, four_minus_two 4 r - 2, ten_minus_five 10 r - 5, ten_plus_five 10 r + 5, "
    "times_ten 10 r"
)
AUGMENT = "augmentations of the data, applied in this order, such as top:0.5,noise:0.003"
AUGMENT_SYNTAX, AUGMENT_VALIDATOR = "NAME:NUMBER,…", "off2on.replay.augmentation.catalogue:check"


@dataclass(frozen=True)
class Hyperparameters(Settings):
    """Hyperparameters of every algorithm."""

    batch_size: int = hp(256, "transitions per gradient update, over all learners", least=1)
    discount: float = hp(0.99, "gamma, the discount per environment step", least=0, most=1)
    polyak: float = hp(0.005, "tau: per update, target <- (1 - tau) target + tau network", least=0, most=1)
    actor_lr: float = hp(3e-4, "learning rate of the policy (Adam)", above=0, search=("log", 3e-5, 1e-3))
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1, built=True)
    normalise_obs: bool = hp(False, NORMALISE)
    reward: str = hp("raw", REWARD, choices=REWARDS)
    augment: tuple[str, ...] = hp((), AUGMENT, syntax=AUGMENT_SYNTAX, validator=AUGMENT_VALIDATOR)

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Return the rules by name, those of the algorithm itself before those of every algorithm."""
        shared = {field.name for field in dataclasses.fields(Hyperparameters)}
        rules = super().rules()
        return dict(sorted(rules.items(), key=lambda item: item[0] in shared))


def _phrase(rule: Rule) -> str:
    if rule.syntax:
        return f"of the form {rule.syntax}"
    return f"one of {rule.range()}" if rule.choices else f"in the range {rule.range()}"
