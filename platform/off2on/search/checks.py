"""Check a search before it starts: every value of every dimension is checked in a plan."""

import os
from typing import Any

from datasets_io.scores import key_of, reference
from datasets_io.storage.buckets import Location
from off2on.algorithms import find_algorithm
from off2on.errors import (
    DataError,
    MissingColumn,
    OnlineSettingsError,
    SimulatorError,
    UserError,
)
from off2on.recipe.hyperparameters import PRESET
from off2on.recipe.presets import AUTO
from off2on.runs.curve import EARLY
from off2on.search.names import OF_ONLINE, OF_STRATEGY, has_setting, owners, unknown_name
from off2on.search.scoring import check_estimable
from off2on.search.spec import KEYS, LISTED, Dimension, Search
from off2on.training.located_yaml import LocatedValue
from off2on.training.trackers import check_trackers

ONLINE_MEASURES = ("smallest_drop", "area")
ROWS = ("normalise_obs", "reward", "augment", "preset")
"""Settings that change the transitions and not the networks."""


def check(search: Search, jobs: int = 1) -> None:
    """Check everything that can be checked before the search starts.

    Args:
        search: The search.
        jobs: Trials at a time.

    Raises:
        UserError: A setting is wrong; has the line of the file.
    """
    _check_machine(search, jobs)
    _check_online(search)
    _check_fixed(search)
    _check_ways(search)
    if "track" in search.located:
        with search.located["track"].located():
            check_trackers(search.options["track"])
    for name in search.data:
        from datasets_io import open_shards

        with search.located["data"].located():
            open_shards(name)
    _check_plans(search)


def count_evaluations(search: Search) -> tuple[int, int]:
    """Return the number of planned evaluations of a run, and how many come before the first with a score."""
    offline, online = search.plans(first(search), "0")[0].evaluations()
    every = len(offline) + (1 + len(online) if online else 0)
    unscored = {"fqe": every - 1, "smallest_drop": len(offline), "area": len(offline)}
    return every, unscored.get(search.maximise, 0)


def first(search: Search) -> dict[str, str]:
    """Return the first value of every dimension."""
    return search.as_text({d.name: _extremes(d)[0] for d in search.dimensions})


def _extremes(dimension: Dimension) -> list[Any]:
    """Return the values of a dimension to check: all listed ones, or both bounds."""
    return list(dimension.values) if dimension.kind == "one_of" else list(dimension.bounds)


def _check_machine(search: Search, jobs: int) -> None:
    """Check that learners and trials have a core each; `resources` checks a cluster."""
    if search.address is not None:
        return
    cores = os.cpu_count() or 1
    learners = search.processes("learners")
    if learners > cores:
        raise search.located["learners"].wrong(
            f"{learners} learners need {learners} cores; this machine has {cores}.",
            f"Runs of a trial in parallel: {search.concurrent_runs}, each with its learners.",
            "learners: 0",
        )
    if (threads := search.options["threads"]) > cores:
        raise search.located["threads"].wrong(
            f"{threads} threads need {threads} cores; this machine has {cores}.", "", "threads: 1"
        )
    if jobs * max(1, learners) > cores:
        raise UserError(
            f"--jobs {jobs} needs {jobs * max(1, learners)} cores; this machine has {cores}.",
            "A trial needs one core, or one for each of its learners.",
            f"off2on tune {search.path} --jobs {max(1, cores // max(1, learners))}",
        )


def _check_online(search: Search) -> None:
    """Check that settings of the online phase have one."""
    if search.options.get("online", 0):
        return
    if search.maximise in ONLINE_MEASURES:
        raise search.located["maximise"].wrong(
            f"{search.maximise} needs an online phase, and there is none.", "", "online: 20k"
        )
    asked = {d.name: d.located for d in search.dimensions}
    asked |= {name: search.located["with"].items[name] for name in search.fixed}
    for name, located in asked.items():
        if name == "strategy" or name.startswith((OF_ONLINE, OF_STRATEGY)):
            raise located.wrong(f"{name} applies to the online phase, and there is none.", "", "online: 20k")


def _check_fixed(search: Search) -> None:
    """Check that fixed values are known to an algorithm or strategy, and are not searched too."""
    pairs = [(algorithm, strategy) for algorithm in search.algorithms for strategy in search.strategies]
    for name in search.fixed:
        located = search.located["with"].items[name]
        if name in search.names:
            raise located.wrong(
                f"'{name}' is both fixed and searched.", "Remove it under with or under search."
            )
        if not any(has_setting(name, *pair) for pair in pairs):
            with located.located():
                keys = () if ":" in located.origin else KEYS  # given on the command line
                raise unknown_name(name, search.algorithms, search.strategies, keys)


def _check_ways(search: Search) -> None:
    """Check that the search method, the rule for early stopping and the objective are compatible."""
    early = search.located.get("stop_early", LocatedValue("", str(search.path)))
    if search.maximise == "fqe" and search.stop_early == "asha":
        raise early.wrong(
            "an offline estimate needs the final policy, so no trial can be stopped early.",
            "",
            "stop_early: none",
        )
    if search.by == "pbt":
        if search.stop_early != "none":
            raise early.wrong(
                "pbt replaces bad trials itself and cannot be combined with stop_early.",
                "",
                "stop_early: none",
            )
        _check_population(search)
    if len(search.data) > 1 and search.maximise == "fqe":
        raise search.located["data"].wrong(
            "estimates on different data sets have no common scale.",
            "Expected one data set.",
            f"data: {search.data[0]}",
        )
    if search.maximise == "smallest_drop":
        _check_drop(search)
    every, unscored = count_evaluations(search)
    if every - unscored < 2 and (search.stop_early == "asha" or search.by == "pbt"):
        located = early if search.stop_early == "asha" else search.located["by"]
        raise located.wrong(
            f"with one evaluation of {search.maximise} no trial can be compared before its end.",
            "Expected several, or fewer updates between two.",
            f"eval_every: {max(1, search.options.get('updates', 1_000_000) // 10)}",
        )


def _check_drop(search: Search) -> None:
    """Check that there is an evaluation in the steps in which a drop is measured."""
    plan = search.plans(first(search), "checked")[0]
    early = EARLY * plan.online
    if not any(1 < step <= early for step in plan.evaluations()[1]):
        raise search.located["maximise"].wrong(
            f"the first {early:g} environment steps, in which the drop is measured, have no evaluation.",
            "All trials would have the same drop, 0.",
            f"eval_every: {max(1, plan.online // 20)}",
        )


def _check_population(search: Search) -> None:
    """Check that every dimension of PBT may change in a run, because trials copy runs from each other."""
    if isinstance(search.place, Location):
        raise search.located["out"].wrong(
            f"pbt copies runs within a folder, and {search.place} is a bucket.",
            "",
            "by: random",
        )
    if search.maximise == "fqe":
        raise search.located["maximise"].wrong(
            "pbt needs intermediate scores, and an offline estimate is made at the end."
        )
    if search.trials < 4:
        raise search.located.get("trials", search.located["by"]).wrong(
            f"a population of {search.trials} has no better quarter to copy.", "", "trials: 8"
        )
    for d in search.dimensions:
        if d.name in LISTED or d.name.startswith((OF_ONLINE, OF_STRATEGY)) or not _may_change(search, d.name):
            raise d.located.wrong(
                f"pbt cannot search {d.name}: a run that began with one value cannot go on with another.",
                "A member of the population continues from the checkpoint of another.",
                "by: random",
            )


def _may_change(search: Search, name: str) -> bool:
    """Return True if a hyperparameter defines neither the networks, the optimisers nor the transitions."""
    import gymnasium as gym
    import numpy as np

    recipe = find_algorithm(search.algorithms[0])
    if name in ROWS or name in recipe.Hyperparameters.built():
        return False
    spaces = {"continuous": gym.spaces.Box(-1, 1, (2,)), "discrete": gym.spaces.Discrete(3)}
    (dimension,) = (d for d in search.dimensions if d.name == name)
    fixed = {
        n: v for n, v in search.fixed.items() if has_setting(n, search.algorithms[0], search.strategies[0])
    }
    fixed = {n: v for n, v in fixed.items() if not n.startswith((OF_ONLINE, OF_STRATEGY))}

    def shapes(value: object) -> list[tuple[str, tuple[int, ...]]]:
        with dimension.located.located():
            hp = recipe.Hyperparameters.parse(fixed | {name: value}, search.algorithms[0])
        nets = recipe.build_nets(gym.spaces.Box(-np.inf, np.inf, (3,)), spaces[recipe.actions], hp)
        return [(key, tuple(value.shape)) for key, value in nets.state_dict().items()]

    first, *others = map(shapes, _extremes(dimension))
    return all(other == first for other in others)


def _check_plans(search: Search) -> None:
    """Check every value alone, then in a plan with the first of all others, per algorithm and strategy."""
    base = {d.name: _extremes(d)[0] for d in search.dimensions}
    read_dimension = [(d, value) for d in search.dimensions if d.name not in LISTED for value in _extremes(d)]
    pairs = [(algorithm, strategy) for algorithm in search.algorithms for strategy in search.strategies]
    for pair in pairs:
        for name, value in search.fixed.items():
            with search.located["with"].items[name].located():
                _parse(name, value, *pair)
        for dimension, value in read_dimension:
            with dimension.located.located():
                _parse(dimension.name, dimension.as_text(value), *pair)
    for pair in pairs:
        who = dict(zip(LISTED, pair, strict=True))
        _check_plan(search, search.as_text(base | who), None)
        for dimension, value in read_dimension:
            values = search.as_text(base | who | {dimension.name: value})
            if dimension.name in values:
                _check_plan(search, values, dimension.located)


def _parse(name: str, value: str, algorithm: str, strategy: str) -> None:
    """Check type and range of a single value, if the algorithm or strategy has the name."""
    if name == PRESET and value != AUTO:  # which one that is depends on the data
        find_algorithm(algorithm).Hyperparameters.parse({PRESET: value}, algorithm)
    for kind, rest in owners(name, algorithm, strategy)[:1]:
        kind.convert({rest: value}, strategy if name.startswith(OF_STRATEGY) else algorithm)


def _check_plan(search: Search, values: dict[str, str], located: LocatedValue | None) -> None:
    for plan in search.plans(values, "checked")[:: search.seeds]:
        try:
            resolved = plan.check()
        except UserError as error:
            with (located or _location_of(search, error)).located():
                raise
        if search.maximise == "fqe":
            check_estimable(resolved.settings.hp, search.located["maximise"])
            continue
        if resolved.env is None:
            raise _first_located(search, "maximise", "data").wrong(
                f"{plan.data} has no simulator, so {search.maximise} cannot be measured.",
                "An offline estimate needs none.",
                "maximise: fqe",
            )
        if (
            len(search.data) > 1
            and reference(key_of(resolved.shards.manifest, resolved.env, resolved.env_options)) is None
        ):
            raise search.located["data"].wrong(
                f"no returns for the scores 0 and 100 are known for {plan.data}: its scores have no mean "
                "with those of other data sets.",
                "Search on one data set at a time.",
                f"data: {plan.data}",
            )


def _location_of(search: Search, error: UserError) -> LocatedValue:
    """Return the entry of the file that causes an error of a whole plan."""
    option = error.given.removeprefix("--").replace("-", "_")
    if error.given.startswith("--") and option in search.located:
        return search.located[option]
    if isinstance(error, MissingColumn | DataError):
        return search.located["data"]
    if isinstance(error, SimulatorError):
        return _first_located(search, "env", "online", "data")
    if isinstance(error, OnlineSettingsError):
        return _first_located(search, "strategy", "with", "algorithm")
    return search.located["algorithm"]


def _first_located(search: Search, *keys: str) -> LocatedValue:
    return next(search.located[key] for key in keys if key in search.located)
