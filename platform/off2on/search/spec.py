"""What a search is: what its file says, typed, and the plans of a trial.

algorithm: iql                      data: hopper-medium-v2          a list of algorithms is searched,
updates: 300k                       online: 100k                    a list of data is averaged over
seeds: 3                            trials: 32
maximise: final_score               by: optuna                      stop_early: asha
with: {hidden: [256, 256]}                                          the same in every trial
search:
  expectile: {between: [0.5, 0.95]}
  beta: {log_between: [0.5, 10]}
  actor_lr: default                 the hyperparameter's own search range
  online.utd: {one_of: [1, 2]}
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_io.quantities import number
from datasets_io.storage import Place
from off2on.runs.bucket_mirror import working_folder
from off2on.search.names import OF_ONLINE, OF_STRATEGY, applies
from off2on.training.located_yaml import LocatedValue

if TYPE_CHECKING:
    from off2on.training.plan import Plan

NUMBERS = ("updates", "online", "learners", "workers", "envs", "eval_every", "eval_episodes", "threads")
OPTIONS = (*NUMBERS, "memory", "env", "track")
"""The options of `off2on train` that a file may set."""

KEYS = (
    *("algorithm", "data", "strategy", "search", "with", "maximise", "seeds", "trials", "by", "stop_early"),
    *("out", *OPTIONS),
)
MEASURES = ("final_score", "handover_score", "smallest_drop", "area", "fqe")
WAYS = ("random", "grid", "optuna", "pbt")
STOPS = ("none", "asha")
RANGES = ("between", "log_between", "one_of")
TRIALS = "trials"
"""Where the trials are, each in a folder of its own."""

LISTED = ("algorithm", "strategy")
"""Keys of which a list is searched."""

Values = Mapping[str, object]


@dataclass(frozen=True)
class Dimension:
    """A name whose value is searched.

    Attributes:
        name: Of a hyperparameter, ``online.NAME``, ``strategy.NAME``, ``algorithm`` or ``strategy``.
        kind: One of `RANGES`.
        values: Two bounds, both included, or what there is to choose from.
        whole: Whether it takes whole numbers only.
        said: Where it is asked for.
    """

    name: str
    kind: str
    values: tuple[str, ...]
    whole: bool
    said: LocatedValue

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper."""
        low, high = map(number, self.values)
        return low, high

    def settled(self, drawn: Any) -> str:
        """A drawn value as text, with six digits: what is run is what is written down."""
        if self.kind == "one_of":
            return str(drawn)
        low, high = self.bounds
        if self.whole:
            return str(round(drawn))
        return repr(min(max(float(f"{drawn:.6g}"), low), high))


@dataclass(frozen=True)
class Search:
    """A search, as its file describes it.

    Attributes:
        path: The file.
        place: Where everything goes: a folder, or one in a bucket (see `mirror`).
        said: All that is said, by key.
        algorithms: One, or those that are searched.
        data: One, or those over which a trial's score is the mean.
        strategies: One, or those that are searched.
        options: Those of `off2on train`, typed.
        fixed: Names to values that are the same in all trials.
        dimensions: What is searched.
        seeds: Runs of a trial on each data set.
        trials: How many; of a grid, all.
        maximise: One of `MEASURES`.
        by: One of `WAYS`.
        stop_early: One of `STOPS`.
        address: An existing Ray cluster.
    """

    path: Path
    place: Place
    said: Mapping[str, LocatedValue]
    algorithms: tuple[str, ...]
    data: tuple[str, ...]
    strategies: tuple[str, ...]
    options: Mapping[str, Any]
    fixed: Mapping[str, str]
    dimensions: tuple[Dimension, ...]
    seeds: int
    trials: int
    maximise: str
    by: str
    stop_early: str
    address: str | None = None

    @property
    def folder(self) -> Path:
        """Where it works: at its place, unless that is in a bucket."""
        return working_folder(self.place)

    @property
    def goes_together(self) -> bool:
        """Whether somebody acts on scores on the way, so that the runs of a trial go forward together."""
        return self.by == "pbt" or self.stop_early != "none"

    @property
    def abreast(self) -> int:
        """Runs of a trial that go forward at the same time."""
        return self.seeds * len(self.data) if self.goes_together else 1

    def processes(self, kind: str) -> int:
        """How many a trial has at a time, besides its own: ``learners`` or ``workers``."""
        return int(self.abreast * self.options.get(kind, 0))

    @property
    def names(self) -> list[str]:
        """What is searched."""
        return [dimension.name for dimension in self.dimensions]

    @cached_property
    def grid(self) -> list[dict[str, str]]:
        """Every setting there is, each once, where all that is searched is listed."""
        from itertools import product

        found = (
            self.settled(dict(zip(self.names, values, strict=True)))
            for values in product(*(dimension.values for dimension in self.dimensions))
        )
        return list({tuple(values.items()): values for values in found}.values())

    def settled(self, drawn: Values) -> dict[str, str]:
        """Drawn values as text, without what the trial's algorithm and strategy do not know."""
        who = {key: str(drawn.get(key, first)) for key, first in self._first.items()}
        return {
            d.name: d.settled(drawn[d.name])
            for d in self.dimensions
            if d.name in LISTED or applies(d.name, **who)
        }

    @property
    def _first(self) -> dict[str, str]:
        return {"algorithm": self.algorithms[0], "strategy": self.strategies[0]}

    def plans(self, values: Values, trial: str) -> "list[Plan]":
        """The runs of a trial: data sets × seeds.

        Args:
            values: Name to value of what is searched.
            trial: Its number, which is its folder's name.
        """
        from off2on.training.plan import Plan

        who = {key: str(values.get(key, first)) for key, first in self._first.items()}
        given: dict[str, object] = {name: value for name, value in self.fixed.items() if applies(name, **who)}
        given |= {name: value for name, value in values.items() if name not in LISTED}
        origins = {name: self.said[name].origin for name in (*OPTIONS, *who, "data") if name in self.said}
        origins |= {name: self.said["with"].items[name].origin for name in self.fixed if name in given}
        origins |= dict.fromkeys(values, f"trial {trial}")
        online = self.options.get("online", 0)

        def of(prefix: str) -> dict[str, object]:
            return {name.removeprefix(prefix): given[name] for name in given if name.startswith(prefix)}

        plan = Plan(
            algorithm=who["algorithm"],
            strategy=who["strategy"],
            data=self.data[0],
            hyperparameters={n: given[n] for n in given if not n.startswith((OF_STRATEGY, OF_ONLINE))},
            strategy_options=of(OF_STRATEGY) if online else {},
            online_overrides=of(OF_ONLINE) if online else {},
            out=str(self.place / TRIALS / trial),
            address=self.address,
            origins=origins,
            **self.options,
        )
        return [
            replace(each, command=_command(each, given, self.options))
            for data in self.data
            for seed in range(self.seeds)
            for each in [replace(plan, data=data, seed=seed)]
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything with its origin, for search.yaml."""
        told = {
            "algorithm": _one_or_all(self.algorithms),
            "data": _one_or_all(self.data),
            "strategy": _one_or_all(self.strategies),
            **{key: getattr(self, key) for key in ("maximise", "seeds", "trials", "by", "stop_early")},
            **{key: list(said) if isinstance(said, tuple) else said for key, said in self.options.items()},
            "out": str(self.place),
        }

        def with_origin(value: Any, said: LocatedValue | None) -> dict[str, Any]:
            return {"value": value, "origin": "default" if said is None else said.origin}

        found = {key: with_origin(value, self.said.get(key)) for key, value in told.items()}
        fixed = {name: with_origin(self.fixed[name], self.said["with"].items[name]) for name in self.fixed}
        ranges = {d.name: with_origin({d.kind: list(d.values)}, d.said) for d in self.dimensions}
        return {"file": str(self.path), **found, "with": fixed, "search": ranges}


def _one_or_all(names: Sequence[str]) -> Any:
    return names[0] if len(names) == 1 else list(names)


def _command(plan: "Plan", given: Values, options: Mapping[str, Any]) -> str:
    """The same run as a command line."""
    words = ["off2on", "train", plan.algorithm, plan.data]
    online = plan.online > 0
    words += [
        f"{name}={value}"
        for name, value in given.items()
        if online or not name.startswith((OF_STRATEGY, OF_ONLINE))
    ]
    for name, value in options.items():
        for each in value if name == "track" else (value,):
            words += [f"--{name.replace('_', '-')}", str(each)]
    words += ["--strategy", plan.strategy] if online else []
    words += ["--seed", str(plan.seed), "--out", plan.out]
    return shlex.join(words)
