"""Read a search file; check its keys, types and ranges."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_io.storage import Place, locate
from off2on.errors import UserError
from off2on.search.ranges import read_dimension
from off2on.search.spec import (
    KEYS,
    LISTED,
    OBJECTIVES,
    OPTIONS,
    SEARCHERS,
    SEEDS,
    STOP_RULES,
    TRIALS_TO_RUN,
    Dimension,
    Search,
)
from off2on.training.located_yaml import LocatedValue, read_yaml
from off2on.training.options import MOST_SEEDS
from off2on.training.options import OPTIONS as RUN_OPTIONS

WORDS = {"maximise": OBJECTIVES, "by": SEARCHERS, "stop_early": STOP_RULES}
MOST = {"seeds": MOST_SEEDS, "trials": 100_000}
"""Largest counts."""

EXAMPLE = {"algorithm": "iql", "data": "toy-pendulum"}


def read(path: Path, given: Mapping[str, LocatedValue] | None = None, address: str | None = None) -> Search:
    """Read a search file.

    Args:
        path: The file.
        given: Values of the command line: keys of the file, or fixed hyperparameters.
        address: An existing Ray cluster.

    Raises:
        UserError: A key, value or range is wrong; has the line.
    """
    located = _with_overrides(read_yaml(path).items, given or {})
    for key, each in located.items():
        if key not in KEYS:
            with each.located():
                raise UserError(f"a search has no '{key}'.", f"All: {' '.join(KEYS)}", given=key, known=KEYS)
    for key in ("algorithm", "data"):
        if key not in located:
            raise UserError(f"{path} has no {key}.", f"Expected a line {key}: NAME", f"{key}: {EXAMPLE[key]}")
    algorithms, strategies = _algorithms(located["algorithm"]), _strategies(located.get("strategy"))
    dimensions = [
        Dimension(key, "one_of", names, False, located[key])
        for key, names in zip(LISTED, (algorithms, strategies), strict=True)
        if len(names) > 1
    ]
    searched = located["search"].items if "search" in located else {}
    dimensions += [read_dimension(name, each, algorithms, strategies) for name, each in searched.items()]
    if not dimensions:
        raise UserError(
            f"{path} has no search dimension.",
            "Expected lines NAME: {between: [LOW, HIGH]} under search, or a list of algorithms.",
            "search: {actor_lr: default}",
        )
    search = Search(
        path=path,
        place=_place(located["out"]) if "out" in located else Path("runs/tune") / path.stem,
        located=located,
        algorithms=algorithms,
        data=tuple(located["data"].texts),
        strategies=strategies,
        options={"threads": 1, **_options(located)},
        fixed={name: each.as_words for name, each in _items(located, "with").items()},
        dimensions=tuple(dimensions),
        seeds=_count(located, "seeds", SEEDS),
        trials=_count(located, "trials", TRIALS_TO_RUN),
        maximise=_word(located, "maximise"),
        by=_word(located, "by"),
        stop_early=_word(located, "stop_early"),
        address=address,
    )
    return _with_whole_grid(search) if search.by == "grid" else search


def _items(located: Mapping[str, LocatedValue], key: str) -> dict[str, LocatedValue]:
    return located[key].items if key in located else {}


def _with_overrides(
    located: dict[str, LocatedValue], given: Mapping[str, LocatedValue]
) -> dict[str, LocatedValue]:
    """Add the values of the command line, which take precedence; they are not searched."""
    keys = {name: _listed(name, each) for name, each in given.items() if name in KEYS}
    fixed = {name: each for name, each in given.items() if name not in KEYS}
    if not fixed:
        return located | keys
    origin = next(iter(fixed.values())).origin
    found = located | keys | {"with": LocatedValue(_items(located, "with") | fixed, origin)}
    if "search" in located:
        left = {name: each for name, each in located["search"].items.items() if name not in fixed}
        found["search"] = LocatedValue(left, located["search"].origin)
    return found


def _listed(name: str, located: LocatedValue) -> LocatedValue:
    """Return names separated by commas as the list that a file would have."""
    if name not in (*LISTED, "data", "track") or "," not in located.text:
        return located
    return LocatedValue(
        [LocatedValue(each, located.origin) for each in located.text.split(",")], located.origin
    )


def _algorithms(located: LocatedValue) -> tuple[str, ...]:
    from off2on.algorithms import find_algorithm

    for name in located.texts:
        with located.located():
            find_algorithm(name)
    return tuple(located.texts)


def _strategies(located: LocatedValue | None) -> tuple[str, ...]:
    from off2on.strategies import find_strategy

    if located is None:
        from off2on.training.plan import Plan

        return (Plan.strategy,)
    for name in located.texts:
        with located.located():
            find_strategy(name)
    return tuple(located.texts)


def _options(located: Mapping[str, LocatedValue]) -> dict[str, Any]:
    return {name: _option(name, located[name]) for name in OPTIONS if name in located}


def _option(name: str, located: LocatedValue) -> Any:
    """Return the value of an option of `off2on train`."""
    known = RUN_OPTIONS[name]
    if known.kind == "count":
        return located.whole(name, known.least or 0)
    if known.kind == "size":
        return located.size(name)
    return tuple(located.texts) if known.kind == "texts" else located.text


def _count(located: Mapping[str, LocatedValue], key: str, default: int) -> int:
    return located[key].whole(key, 1, MOST[key]) if key in located else default


def _place(located: LocatedValue) -> Place:
    with located.located():
        return locate(located.text)


def _word(located: Mapping[str, LocatedValue], key: str) -> str:
    known = WORDS[key]
    if key not in located:
        return known[0]
    text = located[key].text
    if text not in known:
        with located[key].located():
            raise UserError(
                f"{key} cannot be '{text}'.", f"It is one of: {' '.join(known)}", given=text, known=known
            )
    return text


def _with_whole_grid(search: Search) -> Search:
    """Return a grid search with one trial per grid point."""
    for dimension in search.dimensions:
        if dimension.kind != "one_of":
            low, high = dimension.values
            raise dimension.located.wrong(
                f"search.{dimension.name}: a grid needs listed values, not {dimension.kind}.",
                "",
                f"{dimension.name}: {{one_of: [{low}, {high}]}}",
            )
    if (most := math.prod(len(dimension.values) for dimension in search.dimensions)) > MOST["trials"]:
        raise search.dimensions[-1].located.wrong(
            f"the grid has {most:,} points.", f"Expected at most {MOST['trials']:,}: list fewer values."
        )
    count = len(search.grid)
    if "trials" in search.located and search.trials != count:
        raise search.located["trials"].wrong(
            f"the grid has {count} points, but trials is {search.trials}.", "", f"trials: {count}"
        )
    return replace(search, trials=count)
