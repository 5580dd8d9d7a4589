"""That a search can be: every value of every name tried in a plan before the first process starts."""

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
from off2on.runs.curve import EARLY
from off2on.search.names import OF_ONLINE, OF_STRATEGY, applies, owners, unknown_name
from off2on.search.spec import KEYS, LISTED, Dimension, Search
from off2on.training.located_yaml import LocatedValue
from off2on.training.trackers import check_trackers

ONLINE_MEASURES = ("smallest_drop", "area")
ROWS = ("normalise_obs", "reward", "augment", "preset")
"""What says what the rows are, not what the networks are."""


def check(search: Search, jobs: int = 1) -> None:
    """Everything that can be known before it starts.

    Args:
        search: The search.
        jobs: Trials at a time.

    Raises:
        UserError: What cannot be, and in which line it is asked for.
    """
    _check_machine(search, jobs)
    _check_online(search)
    _check_fixed(search)
    _check_ways(search)
    if "track" in search.said:
        with search.said["track"].blamed():
            check_trackers(search.options["track"])
    for name in search.data:
        from datasets_io import open_shards

        with search.said["data"].blamed():
            open_shards(name)
    _check_plans(search)


def marks(search: Search) -> tuple[int, int]:
    """Evaluations of a run, and how many of them come before the first that has a score."""
    offline, online = search.plans(first(search), "0")[0].evaluations()
    every = len(offline) + (1 + len(online) if online else 0)
    unscored = {"fqe": every - 1, "smallest_drop": len(offline), "area": len(offline)}
    return every, unscored.get(search.maximise, 0)


def first(search: Search) -> dict[str, str]:
    """The first value of everything that is searched."""
    return search.settled({d.name: _ends(d)[0] for d in search.dimensions})


def _ends(dimension: Dimension) -> list[Any]:
    """What is to be tried of a dimension: all that is listed, or both bounds."""
    return list(dimension.values) if dimension.kind == "one_of" else list(dimension.bounds)


def _check_machine(search: Search, jobs: int) -> None:
    """Learners have a core each, and so have trials; of a cluster, `room` finds out."""
    if search.address is not None:
        return
    cores = os.cpu_count() or 1
    learners = search.processes("learners")
    if learners > cores:
        raise search.said["learners"].wrong(
            f"{learners} learners need {learners} cores; this machine has {cores}.",
            f"Runs of a trial that go forward together: {search.abreast}, with as many learners each.",
            "learners: 0",
        )
    if (threads := search.options["threads"]) > cores:
        raise search.said["threads"].wrong(
            f"{threads} threads need {threads} cores; this machine has {cores}.", "", "threads: 1"
        )
    if jobs * max(1, learners) > cores:
        raise UserError(
            f"--jobs {jobs} needs {jobs * max(1, learners)} cores; this machine has {cores}.",
            "A trial takes one, or one for each of its learners.",
            f"off2on tune {search.path} --jobs {max(1, cores // max(1, learners))}",
        )


def _check_online(search: Search) -> None:
    """What matters online only, needs an online side."""
    if search.options.get("online", 0):
        return
    if search.maximise in ONLINE_MEASURES:
        raise search.said["maximise"].wrong(
            f"{search.maximise} is of the online side, and there is none.", "", "online: 20k"
        )
    asked = {d.name: d.said for d in search.dimensions}
    asked |= {name: search.said["with"].items[name] for name in search.fixed}
    for name, said in asked.items():
        if name == "strategy" or name.startswith((OF_ONLINE, OF_STRATEGY)):
            raise said.wrong(f"{name} matters online, and there is no online side.", "", "online: 20k")


def _check_fixed(search: Search) -> None:
    """What is under `with` is known to somebody, and not searched too."""
    pairs = [(algorithm, strategy) for algorithm in search.algorithms for strategy in search.strategies]
    for name in search.fixed:
        said = search.said["with"].items[name]
        if name in search.names:
            raise said.wrong(
                f"'{name}' is both fixed and searched.", "Leave it out under with, or under search."
            )
        if not any(applies(name, *pair) for pair in pairs):
            with said.blamed():
                keys = () if ":" in said.origin else KEYS  # said on the command line
                raise unknown_name(name, search.algorithms, search.strategies, keys)


def _check_ways(search: Search) -> None:
    """The way of searching, what ends trials early, and what is maximised go together."""
    early = search.said.get("stop_early", LocatedValue("", str(search.path)))
    if search.maximise == "fqe" and search.stop_early == "asha":
        raise early.wrong(
            "an estimate is made of the policy at the end, so that no trial can be stopped before.",
            "",
            "stop_early: none",
        )
    if search.by == "pbt":
        if search.stop_early != "none":
            raise early.wrong(
                "pbt replaces what does badly; nothing else can stop it.", "", "stop_early: none"
            )
        _check_population(search)
    if len(search.data) > 1 and search.maximise == "fqe":
        raise search.said["data"].wrong(
            "estimates on different data sets have no common scale.",
            "Expected one data set.",
            f"data: {search.data[0]}",
        )
    if search.maximise == "smallest_drop":
        _check_drop(search)
    every, unscored = marks(search)
    if every - unscored < 2 and (search.stop_early == "asha" or search.by == "pbt"):
        said = early if search.stop_early == "asha" else search.said["by"]
        raise said.wrong(
            f"with one evaluation of {search.maximise} there is nothing to go by before the end.",
            "Expected several, or fewer updates between two.",
            f"eval_every: {max(1, search.options.get('updates', 1_000_000) // 10)}",
        )


def _check_drop(search: Search) -> None:
    """A drop is looked for early, and can be seen only where the policy is evaluated after updates."""
    plan = search.plans(first(search), "checked")[0]
    early = EARLY * plan.online
    if not any(1 < step <= early for step in plan.evaluations()[1]):
        raise search.said["maximise"].wrong(
            f"a drop is looked for in the first {early:g} environment steps, and nothing is evaluated there.",
            "Every trial would have the same: none.",
            f"eval_every: {max(1, plan.online // 20)}",
        )


def _check_population(search: Search) -> None:
    """PBT gives a trial the networks of another: what is searched may not change what they are."""
    if isinstance(search.place, Location):
        raise search.said["out"].wrong(
            f"pbt copies runs within a folder, and {search.place} is a bucket.",
            "",
            "by: random",
        )
    if search.maximise == "fqe":
        raise search.said["maximise"].wrong(
            "pbt needs scores on the way, and an estimate is made at the end."
        )
    if search.trials < 4:
        raise search.said.get("trials", search.said["by"]).wrong(
            f"a population of {search.trials} has no better quarter to copy.", "", "trials: 8"
        )
    for d in search.dimensions:
        if (
            d.name in LISTED
            or d.name.startswith((OF_ONLINE, OF_STRATEGY))
            or not _keeps_networks(search, d.name)
        ):
            raise d.said.wrong(
                f"pbt cannot search {d.name}: what was learned with one value of it fits no other.",
                "A member of the population goes on from the checkpoint of another.",
                "by: random",
            )


def _keeps_networks(search: Search, name: str) -> bool:
    """Whether the networks have the same shapes whatever the value, and read the same rows."""
    import gymnasium as gym
    import numpy as np

    if name in ROWS:
        return False
    recipe = find_algorithm(search.algorithms[0])
    spaces = {"continuous": gym.spaces.Box(-1, 1, (2,)), "discrete": gym.spaces.Discrete(3)}
    (dimension,) = (d for d in search.dimensions if d.name == name)
    fixed = {n: v for n, v in search.fixed.items() if applies(n, search.algorithms[0], search.strategies[0])}
    fixed = {n: v for n, v in fixed.items() if not n.startswith((OF_ONLINE, OF_STRATEGY))}

    def shapes(value: object) -> list[tuple[str, tuple[int, ...]]]:
        with dimension.said.blamed():
            hp = recipe.Hyperparameters.parse(fixed | {name: value}, search.algorithms[0])
        nets = recipe.build_nets(gym.spaces.Box(-np.inf, np.inf, (3,)), spaces[recipe.actions], hp)
        return [(key, tuple(value.shape)) for key, value in nets.state_dict().items()]

    first, *others = map(shapes, _ends(dimension))
    return all(other == first for other in others)


def _check_plans(search: Search) -> None:
    """Every value alone, then in a plan with the first of all others, for each algorithm and strategy."""
    base = {d.name: _ends(d)[0] for d in search.dimensions}
    varied = [(d, value) for d in search.dimensions if d.name not in LISTED for value in _ends(d)]
    pairs = [(algorithm, strategy) for algorithm in search.algorithms for strategy in search.strategies]
    for pair in pairs:
        for name, value in search.fixed.items():
            with search.said["with"].items[name].blamed():
                _parse(name, value, *pair)
        for dimension, value in varied:
            with dimension.said.blamed():
                _parse(dimension.name, dimension.settled(value), *pair)
    for pair in pairs:
        who = dict(zip(LISTED, pair, strict=True))
        _check_plan(search, search.settled(base | who), None)
        for dimension, value in varied:
            values = search.settled(base | who | {dimension.name: value})
            if dimension.name in values:
                _check_plan(search, values, dimension.said)


def _parse(name: str, value: str, algorithm: str, strategy: str) -> None:
    """That a single value has its type and lies in its range, if the name means anything here."""
    if name == PRESET:
        find_algorithm(algorithm).Hyperparameters.parse({PRESET: value}, algorithm)
    for kind, rest in owners(name, algorithm, strategy)[:1]:
        kind.parse({rest: value}, strategy if name.startswith(OF_STRATEGY) else algorithm)


def _check_plan(search: Search, values: dict[str, str], said: LocatedValue | None) -> None:
    for plan in search.plans(values, "checked")[:: search.seeds]:
        try:
            resolved = plan.check()
        except UserError as error:
            with (said or _to_blame(search, error)).blamed():
                raise
        if search.maximise == "fqe":
            continue
        if resolved.env is None:
            raise _said(search, "maximise", "data").wrong(
                f"{plan.data} has no simulator, so that no policy has a {search.maximise}.",
                "An offline estimate needs none.",
                "maximise: fqe",
            )
        if (
            len(search.data) > 1
            and reference(key_of(resolved.shards.manifest, resolved.env, resolved.env_options)) is None
        ):
            raise search.said["data"].wrong(
                f"no returns are known that count as 0 and 100 for {plan.data}: its scores have no mean "
                "with those of others.",
                "Search on one data set at a time.",
                f"data: {plan.data}",
            )


def _to_blame(search: Search, error: UserError) -> LocatedValue:
    """The line that a complaint about the whole plan belongs to."""
    option = error.given.removeprefix("--").replace("-", "_")
    if error.given.startswith("--") and option in search.said:
        return search.said[option]
    if isinstance(error, MissingColumn | DataError):
        return search.said["data"]
    if isinstance(error, SimulatorError):
        return _said(search, "env", "online", "data")
    if isinstance(error, OnlineSettingsError):
        return _said(search, "strategy", "with", "algorithm")
    return search.said["algorithm"]


def _said(search: Search, *keys: str) -> LocatedValue:
    return next(search.said[key] for key in keys if key in search.said)
