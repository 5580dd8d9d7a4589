"""Search ranges: from the file, or the default range of the hyperparameter."""

import math
from typing import Any

from datasets_io.quantities import number
from off2on.errors import UserError
from off2on.search.names import owners, rule_of, type_of, unknown_name
from off2on.search.spec import RANGES, Dimension
from off2on.training.located_yaml import LocatedValue

KINDS = {"log": "log_between", "uniform": "between", "choice": "one_of"}
"""Kinds of default search ranges to the words for them in a search file."""

OWN_RANGE = "default"


def read_dimension(
    name: str, located: LocatedValue, algorithms: tuple[str, ...], strategies: tuple[str, ...]
) -> Dimension:
    """Return the search dimension of a name, with its range checked."""
    pairs = [(algorithm, strategy) for algorithm in algorithms for strategy in strategies]
    owners = [pair for pair in pairs if rule_of(name, *pair) is not None]
    if not owners:
        with located.located():
            raise unknown_name(name, algorithms, strategies)
    kind, values = _range(name, located, owners)
    annotated = {type_of(name, *pair) for pair in owners}
    numeric = any(t in (int, float, float | None, int | None) for t in annotated)
    if kind != "one_of" and not numeric:
        raise located.wrong(
            f"search.{name} takes no numbers, and a range needs them.",
            "Expected a list of them.",
            f"{name}: {{one_of: [{_default(name, owners[0])}, …]}}",
        )
    whole = bool(annotated & {int, int | None})
    if kind != "one_of":
        _check_bounds(name, kind, values, whole, located)
    elif len(set(values)) < len(values):
        raise located.wrong(f"search.{name} lists a value twice: {', '.join(values)}.")
    return Dimension(name, kind, values, whole, located)


def _range(name: str, located: LocatedValue, owners: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """Return the kind of the range and its values."""
    if located.value == OWN_RANGE:
        return _own_range(name, located, owners)
    if not isinstance(located.value, dict) or len(located.value) != 1:
        raise located.wrong(
            f"search.{name} is not one range.",
            f"Expected one of: {'  '.join(f'{{{word}: […]}}' for word in RANGES)}  {OWN_RANGE}",
            f"{name}: {{between: [LOW, HIGH]}}",
        )
    ((word, values),) = located.value.items()
    if word not in RANGES:
        with located.located():
            raise UserError(
                f"search.{name} has no '{word}'.", f"All: {' '.join(RANGES)}", given=word, known=RANGES
            )
    if not isinstance(values.value, list):
        first = values.value if isinstance(values.value, str) else "LOW"
        raise located.wrong(f"search.{name}.{word} is not a list.", "", f"{name}: {{{word}: [{first}, …]}}")
    with located.located():
        return word, tuple(values.texts)


def _own_range(
    name: str, located: LocatedValue, owners: list[tuple[str, str]]
) -> tuple[str, tuple[str, ...]]:
    """Return the default search range, which must be the same for all algorithms."""
    rules = {pair[0]: rule_of(name, *pair) for pair in owners}
    found = {rule.search for rule in rules.values()}
    if len(found) > 1:
        ranges = "; ".join(
            f"{owner}: {' '.join(map(str, rule.search)) or 'none'}" for owner, rule in rules.items()
        )
        raise located.wrong(f"search.{name}: the search ranges of these algorithms differ.", ranges)
    ((kind, *values),) = found if found != {()} else {("", "")}
    if not kind:
        rule = next(iter(rules.values()))
        raise located.wrong(
            f"search.{name} has no default search range; its values are {rule.range()}.",
            f"It is: {rule.meaning}.",
            f"{name}: {{one_of: [{_default(name, owners[0])}, …]}}",
        )
    return KINDS[kind], tuple(map(str, values))


def _check_bounds(name: str, kind: str, values: tuple[str, ...], whole: bool, located: LocatedValue) -> None:
    where = f"search.{name}.{kind}"
    try:
        numbers = [number(value) for value in values]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise located.wrong(
            f"{where} must be two numbers: got {', '.join(values)}.", "", f"{name}: {{{kind}: [LOW, HIGH]}}"
        )
    low, high = numbers
    if low >= high:
        raise located.wrong(
            f"{where} must rise: got {values[0]}, {values[1]}.",
            "",
            f"{name}: {{{kind}: [{values[1]}, {values[0]}]}}",
        )
    if whole and math.ceil(low) > math.floor(high):
        raise located.wrong(
            f"{where} has no whole number: got {values[0]}, {values[1]}.",
            "",
            f"{name}: {{{kind}: [LOW, HIGH]}}",
        )
    if kind == "log_between" and low <= 0:
        above = f"{high / 100:g}" if high > 0 else "LOW"
        raise located.wrong(
            f"{where} starts at {values[0]}, and a logarithm cannot.",
            "",
            f"{name}: {{{kind}: [{above}, {values[1]}]}}",
        )


def _default(name: str, owner: tuple[str, str]) -> Any:
    """Return the default value in the first settings class that has the name."""
    kind, rest = owners(name, *owner)[0]
    value = getattr(kind(), rest)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
