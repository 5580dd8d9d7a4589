"""From a file to a `Search`: every key known, every value of its type, every range a range."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from off2on.errors import HyperparameterError, UserError, nearest
from off2on.hyperparameters import number
from off2on.search import file
from off2on.search.file import Said
from off2on.search.spec import (
    KEYS,
    LISTED,
    MEASURES,
    NUMBERS,
    RANGES,
    STOPS,
    WAYS,
    Dimension,
    Search,
    homes,
    nobody_has,
    rule_of,
    type_of,
)

WORDS = {"maximise": MEASURES, "by": WAYS, "stop_early": STOPS}
LEAST = {"seeds": 1, "trials": 1, "envs": 1, "eval_every": 1, "eval_episodes": 1, "threads": 1}
"""The smallest of a number; of the others it is 0."""

KINDS = {"log": "log_between", "uniform": "between", "choice": "one_of"}
"""A hyperparameter's own search range to the word for it in a file."""

OWN_RANGE = "default"
EXAMPLE = {"algorithm": "iql", "data": "toy-pendulum"}


def read(path: Path, given: Mapping[str, Said] | None = None, address: str | None = None) -> Search:
    """Reads a search's file.

    Args:
        path: The file.
        given: What is said on the command line: keys of the file, or hyperparameters that are fixed.
        address: An existing Ray cluster.

    Raises:
        UserError: It says something that cannot be; names the line.
    """
    said = _with_given(file.read(path).items, given or {})
    for key, each in said.items():
        if key not in KEYS:
            with each.blamed():
                raise UserError(f"a search has no '{key}'.", f"{nearest(key, KEYS)}All: {' '.join(KEYS)}")
    for key in ("algorithm", "data"):
        if key not in said:
            raise UserError(f"{path} has no {key}.", f"Expected a line {key}: NAME", f"{key}: {EXAMPLE[key]}")
    algorithms, strategies = _algorithms(said["algorithm"]), _strategies(said.get("strategy"))
    dimensions = [
        Dimension(key, "one_of", names, False, said[key])
        for key, names in zip(LISTED, (algorithms, strategies), strict=True)
        if len(names) > 1
    ]
    searched = said["search"].items if "search" in said else {}
    dimensions += [_dimension(name, each, algorithms, strategies) for name, each in searched.items()]
    if not dimensions:
        raise UserError(
            f"{path} varies nothing.",
            "Expected lines NAME: {between: [LOW, HIGH]} under search, or a list of algorithms.",
            "search: {actor_lr: default}",
        )
    search = Search(
        path=path,
        folder=Path(said["out"].text) if "out" in said else Path("runs/tune") / path.stem,
        said=said,
        algorithms=algorithms,
        data=tuple(said["data"].texts),
        strategies=strategies,
        options={"threads": 1, **_options(said)},
        fixed={name: each.joined for name, each in _items(said, "with").items()},
        dimensions=tuple(dimensions),
        seeds=_whole(said, "seeds", 3),
        trials=_whole(said, "trials", 16),
        maximise=_word(said, "maximise"),
        by=_word(said, "by"),
        stop_early=_word(said, "stop_early"),
        address=address,
    )
    return _with_whole_grid(search) if search.by == "grid" else search


def _items(said: Mapping[str, Said], key: str) -> dict[str, Said]:
    return said[key].items if key in said else {}


def _with_given(said: dict[str, Said], given: Mapping[str, Said]) -> dict[str, Said]:
    """What the command line says wins; a hyperparameter that it names is not searched."""
    keys = {name: _listed(name, each) for name, each in given.items() if name in KEYS}
    fixed = {name: each for name, each in given.items() if name not in KEYS}
    if not fixed:
        return said | keys
    origin = next(iter(fixed.values())).origin
    found = said | keys | {"with": Said(_items(said, "with") | fixed, origin)}
    if "search" in said:
        left = {name: each for name, each in said["search"].items.items() if name not in fixed}
        found["search"] = Said(left, said["search"].origin)
    return found


def _listed(name: str, said: Said) -> Said:
    """Names with commas as the list that they are in a file."""
    if name not in (*LISTED, "data", "track") or "," not in said.text:
        return said
    return Said([Said(each, said.origin) for each in said.text.split(",")], said.origin)


def _algorithms(said: Said) -> tuple[str, ...]:
    from off2on.algorithms import find_algorithm

    for name in said.texts:
        with said.blamed():
            find_algorithm(name)
    return tuple(said.texts)


def _strategies(said: Said | None) -> tuple[str, ...]:
    from off2on.strategies import find_strategy

    if said is None:
        from off2on.plan import Plan

        return (Plan.strategy,)
    for name in said.texts:
        with said.blamed():
            find_strategy(name)
    return tuple(said.texts)


def _options(said: Mapping[str, Said]) -> dict[str, Any]:
    options: dict[str, Any] = {key: _whole(said, key) for key in NUMBERS if key in said}
    if "env" in said:
        options["env"] = said["env"].text
    if "memory" in said:
        options["memory"] = _size(said["memory"])
    if "track" in said:
        options["track"] = tuple(said["track"].texts)
    return options


def _whole(said: Mapping[str, Said], key: str, default: int = 0) -> int:
    """A whole number: 20000, 20k or 1M."""
    if key not in said:
        return default
    text, least = said[key].text, LEAST.get(key, 0)
    try:
        parsed = number(text)
        right = parsed == int(parsed) and parsed >= least
    except (ValueError, OverflowError):
        right = False
    if not right:
        raise said[key].wrong(f"{key} must be a whole number from {least} on, such as 20k: got {text}.")
    return int(parsed)


def _size(said: Said) -> int:
    """Bytes: 500M or 4G, in powers of 1024."""
    found = re.fullmatch(r"(\d+\.?\d*)([KMGT]?)", said.text)
    if found is None:
        raise said.wrong(f"memory must be a size, such as 500M or 4G: got {said.text}.")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def _word(said: Mapping[str, Said], key: str) -> str:
    known = WORDS[key]
    if key not in said:
        return known[0]
    text = said[key].text
    if text not in known:
        with said[key].blamed():
            raise UserError(
                f"{key} cannot be '{text}'.", f"{nearest(text, known)}It is one of: {' '.join(known)}"
            )
    return text


def _dimension(name: str, said: Said, algorithms: tuple[str, ...], strategies: tuple[str, ...]) -> Dimension:
    """What is searched of a name; its range is checked for being one."""
    pairs = [(algorithm, strategy) for algorithm in algorithms for strategy in strategies]
    owners = [pair for pair in pairs if rule_of(name, *pair) is not None]
    if not owners:
        with said.blamed():
            raise HyperparameterError(*nobody_has(name, algorithms, strategies))
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


def _range(name: str, said: Said, owners: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
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
                f"search.{name} has no '{word}'.", f"{nearest(word, RANGES)}All: {' '.join(RANGES)}"
            )
    if not isinstance(values.value, list):
        raise said.wrong(f"search.{name}.{word} is no list.", "", f"{name}: {{{word}: [{values.value}, …]}}")
    with said.blamed():
        return word, tuple(values.texts)


def _own_range(name: str, said: Said, owners: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
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


def _check_bounds(name: str, kind: str, values: tuple[str, ...], said: Said) -> None:
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
    kind, rest = homes(name, *owner)[0]
    value = getattr(kind(), rest)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _with_whole_grid(search: Search) -> Search:
    """A grid, with as many trials as it has places."""
    for dimension in search.dimensions:
        if dimension.kind != "one_of":
            low, high = dimension.values
            raise dimension.said.wrong(
                f"search.{dimension.name}: a grid tries what is listed, and {dimension.kind} lists nothing.",
                "",
                f"{dimension.name}: {{one_of: [{low}, {high}]}}",
            )
    count = len(search.grid)
    if "trials" in search.said and search.trials != count:
        raise search.said["trials"].wrong(
            f"the grid has {count} places: {search.trials} trials are not all of it.", "", f"trials: {count}"
        )
    return replace(search, trials=count)
