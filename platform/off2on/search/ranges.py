"""What varies of a name, and in which range: said in the file, or the hyperparameter's own."""

import math
from typing import Any

from datasets_io.quantities import number
from off2on.errors import UserError
from off2on.search.names import owners, rule_of, type_of, unknown_name
from off2on.search.spec import RANGES, Dimension
from off2on.training.located_yaml import LocatedValue

KINDS = {"log": "log_between", "uniform": "between", "choice": "one_of"}
"""A hyperparameter's own search range to the word for it in a file."""

OWN_RANGE = "default"


def varied(
    name: str, said: LocatedValue, algorithms: tuple[str, ...], strategies: tuple[str, ...]
) -> Dimension:
    """What is searched of a name; its range is checked for being one."""
    pairs = [(algorithm, strategy) for algorithm in algorithms for strategy in strategies]
    owners = [pair for pair in pairs if rule_of(name, *pair) is not None]
    if not owners:
        with said.blamed():
            raise unknown_name(name, algorithms, strategies)
    kind, values = _range(name, said, owners)
    annotated = {type_of(name, *pair) for pair in owners}
    numeric = any(t in (int, float, float | None, int | None) for t in annotated)
    if kind != "one_of" and not numeric:
        raise said.wrong(
            f"search.{name} takes no numbers, so that nothing lies between two of its values.",
            "Expected a list of them.",
            f"{name}: {{one_of: [{_default(name, owners[0])}, …]}}",
        )
    if kind != "one_of":
        _check_bounds(name, kind, values, said)
    elif len(set(values)) < len(values):
        raise said.wrong(f"search.{name} lists a value twice: {', '.join(values)}.")
    return Dimension(name, kind, values, bool(annotated & {int, int | None}), said)


def _range(name: str, said: LocatedValue, owners: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """The word for the range and its values."""
    if said.value == OWN_RANGE:
        return _own_range(name, said, owners)
    if not isinstance(said.value, dict) or len(said.value) != 1:
        raise said.wrong(
            f"search.{name} is not one range.",
            f"Expected one of: {'  '.join(f'{{{word}: […]}}' for word in RANGES)}  {OWN_RANGE}",
            f"{name}: {{between: [LOW, HIGH]}}",
        )
    ((word, values),) = said.value.items()
    if word not in RANGES:
        with said.blamed():
            raise UserError(
                f"search.{name} has no '{word}'.", f"All: {' '.join(RANGES)}", given=word, known=RANGES
            )
    if not isinstance(values.value, list):
        first = values.value if isinstance(values.value, str) else "LOW"
        raise said.wrong(f"search.{name}.{word} is no list.", "", f"{name}: {{{word}: [{first}, …]}}")
    with said.blamed():
        return word, tuple(values.texts)


def _own_range(name: str, said: LocatedValue, owners: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """The hyperparameter's own search range, on which all algorithms must agree."""
    rules = {pair[0]: rule_of(name, *pair) for pair in owners}
    found = {rule.search for rule in rules.values()}
    if len(found) > 1:
        told = "; ".join(
            f"{owner}: {' '.join(map(str, rule.search)) or 'none'}" for owner, rule in rules.items()
        )
        raise said.wrong(f"search.{name}: the search ranges of these algorithms differ.", told)
    ((kind, *values),) = found if found != {()} else {("", "")}
    if not kind:
        rule = next(iter(rules.values()))
        raise said.wrong(
            f"search.{name} has no search range of its own; it may be {rule.range()}.",
            f"It is: {rule.meaning}.",
            f"{name}: {{one_of: [{_default(name, owners[0])}, …]}}",
        )
    return KINDS[kind], tuple(map(str, values))


def _check_bounds(name: str, kind: str, values: tuple[str, ...], said: LocatedValue) -> None:
    where = f"search.{name}.{kind}"
    try:
        numbers = [number(value) for value in values]
    except ValueError:
        numbers = [math.nan]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        raise said.wrong(
            f"{where} must be two numbers: got {', '.join(values)}.", "", f"{name}: {{{kind}: [LOW, HIGH]}}"
        )
    low, high = numbers
    if low >= high:
        raise said.wrong(
            f"{where} must rise: got {values[0]}, {values[1]}.",
            "",
            f"{name}: {{{kind}: [{values[1]}, {values[0]}]}}",
        )
    if kind == "log_between" and low <= 0:
        above = f"{high / 100:g}" if high > 0 else "LOW"
        raise said.wrong(
            f"{where} starts at {values[0]}, and a logarithm cannot.",
            "",
            f"{name}: {{{kind}: [{above}, {values[1]}]}}",
        )


def _default(name: str, owner: tuple[str, str]) -> Any:
    """What the first owner has if nothing is said."""
    kind, rest = owners(name, *owner)[0]
    value = getattr(kind(), rest)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
