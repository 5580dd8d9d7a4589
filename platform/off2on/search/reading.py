"""From a file to a `Search`: every key known, every value of its type, every range a range."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_io.storage import Place, locate
from off2on.errors import UserError
from off2on.search.ranges import varied
from off2on.search.spec import KEYS, LISTED, MEASURES, NUMBERS, STOPS, WAYS, Dimension, Search
from off2on.training.located_yaml import LocatedValue
from off2on.training.located_yaml import read as read_file

WORDS = {"maximise": MEASURES, "by": WAYS, "stop_early": STOPS}
LEAST = {"seeds": 1, "trials": 1, "envs": 1, "eval_every": 1, "eval_episodes": 1, "threads": 1}
"""The smallest of a number; of the others it is 0."""

EXAMPLE = {"algorithm": "iql", "data": "toy-pendulum"}


def read(path: Path, given: Mapping[str, LocatedValue] | None = None, address: str | None = None) -> Search:
    """Reads a search's file.

    Args:
        path: The file.
        given: What is said on the command line: keys of the file, or hyperparameters that are fixed.
        address: An existing Ray cluster.

    Raises:
        UserError: It says something that cannot be; names the line.
    """
    said = _with_given(read_file(path).items, given or {})
    for key, each in said.items():
        if key not in KEYS:
            with each.blamed():
                raise UserError(f"a search has no '{key}'.", f"All: {' '.join(KEYS)}", given=key, known=KEYS)
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
    dimensions += [varied(name, each, algorithms, strategies) for name, each in searched.items()]
    if not dimensions:
        raise UserError(
            f"{path} varies nothing.",
            "Expected lines NAME: {between: [LOW, HIGH]} under search, or a list of algorithms.",
            "search: {actor_lr: default}",
        )
    search = Search(
        path=path,
        place=_place(said["out"]) if "out" in said else Path("runs/tune") / path.stem,
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


def _items(said: Mapping[str, LocatedValue], key: str) -> dict[str, LocatedValue]:
    return said[key].items if key in said else {}


def _with_given(said: dict[str, LocatedValue], given: Mapping[str, LocatedValue]) -> dict[str, LocatedValue]:
    """What the command line says wins; a hyperparameter that it names is not searched."""
    keys = {name: _listed(name, each) for name, each in given.items() if name in KEYS}
    fixed = {name: each for name, each in given.items() if name not in KEYS}
    if not fixed:
        return said | keys
    origin = next(iter(fixed.values())).origin
    found = said | keys | {"with": LocatedValue(_items(said, "with") | fixed, origin)}
    if "search" in said:
        left = {name: each for name, each in said["search"].items.items() if name not in fixed}
        found["search"] = LocatedValue(left, said["search"].origin)
    return found


def _listed(name: str, said: LocatedValue) -> LocatedValue:
    """Names with commas as the list that they are in a file."""
    if name not in (*LISTED, "data", "track") or "," not in said.text:
        return said
    return LocatedValue([LocatedValue(each, said.origin) for each in said.text.split(",")], said.origin)


def _algorithms(said: LocatedValue) -> tuple[str, ...]:
    from off2on.algorithms import find_algorithm

    for name in said.texts:
        with said.blamed():
            find_algorithm(name)
    return tuple(said.texts)


def _strategies(said: LocatedValue | None) -> tuple[str, ...]:
    from off2on.strategies import find_strategy

    if said is None:
        from off2on.training.plan import Plan

        return (Plan.strategy,)
    for name in said.texts:
        with said.blamed():
            find_strategy(name)
    return tuple(said.texts)


def _options(said: Mapping[str, LocatedValue]) -> dict[str, Any]:
    options: dict[str, Any] = {key: _whole(said, key) for key in NUMBERS if key in said}
    if "env" in said:
        options["env"] = said["env"].text
    if "memory" in said:
        options["memory"] = said["memory"].size("memory")
    if "track" in said:
        options["track"] = tuple(said["track"].texts)
    return options


def _whole(said: Mapping[str, LocatedValue], key: str, default: int = 0) -> int:
    return said[key].whole(key, LEAST.get(key, 0)) if key in said else default


def _place(said: LocatedValue) -> Place:
    with said.blamed():
        return locate(said.text)


def _word(said: Mapping[str, LocatedValue], key: str) -> str:
    known = WORDS[key]
    if key not in said:
        return known[0]
    text = said[key].text
    if text not in known:
        with said[key].blamed():
            raise UserError(
                f"{key} cannot be '{text}'.", f"It is one of: {' '.join(known)}", given=text, known=known
            )
    return text


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
