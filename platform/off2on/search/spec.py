"""The specification of a search, typed, and the plans of a trial.

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

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_io.quantities import number
from datasets_io.storage import Place
from off2on.runs.bucket_mirror import working_folder
from off2on.search.names import OF_ONLINE, OF_STRATEGY, has_setting
from off2on.training.located_yaml import LocatedValue
from off2on.training.options import OPTIONS as RUN_OPTIONS
from off2on.training.options import flag

if TYPE_CHECKING:
    from off2on.training.plan import Plan

OPTIONS = tuple(name for name, option in RUN_OPTIONS.items() if option.in_search)
"""Options of `off2on train` that a file may set."""

KEYS = (
    *("algorithm", "data", "strategy", "search", "with", "maximise", "seeds", "trials", "by", "stop_early"),
    *("out", *OPTIONS),
)
OBJECTIVES = ("final_score", "handover_score", "smallest_drop", "area", "fqe")
SEARCHERS = ("random", "grid", "optuna", "pbt")
STOP_RULES = ("none", "asha")
RANGES = ("between", "log_between", "one_of")
SEEDS, TRIALS_TO_RUN = 3, 16
"""Numbers of runs of a trial on each data set, and of trials, unless the file gives others."""
TRIALS = "trials"
"""Name of the folder that has a folder for each trial."""

LISTED = ("algorithm", "strategy")
"""Keys that are searched if they have a list."""

Values = Mapping[str, object]


@dataclass(frozen=True)
class Dimension:
    """A dimension of the search space.

    Attributes:
        name: Name of a hyperparameter, ``online.NAME``, ``strategy.NAME``, ``algorithm`` or ``strategy``.
        kind: One of `RANGES`.
        values: Two bounds, both included, or the choices.
        whole: True if the values are whole numbers.
        located: The entry in the file.
    """

    name: str
    kind: str
    values: tuple[str, ...]
    whole: bool
    located: LocatedValue

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound; of whole numbers, the first and the last one within the range."""
        low, high = map(number, self.values)
        return (math.ceil(low), math.floor(high)) if self.whole else (low, high)

    def as_text(self, drawn: Any) -> str:
        """Return a drawn value as text, rounded to six digits so that records and runs agree."""
        if self.kind == "one_of":
            return str(drawn)
        if self.whole:
            return str(round(drawn))
        low, high = self.bounds
        return repr(min(max(float(f"{drawn:.6g}"), low), high))


@dataclass(frozen=True)
class Search:
    """A search, as its file describes it.

    Attributes:
        path: The file.
        place: Location of the results: a folder, or one in a bucket (see `bucket_mirror`).
        located: All values of the file, by key.
        algorithms: The algorithms; several are a dimension of the search.
        data: Data sets, over which the score of a trial is the mean.
        strategies: The strategies; several are a dimension of the search.
        options: Options of `off2on train`, typed.
        fixed: Names to values that are the same in all trials.
        dimensions: The dimensions of the search space.
        seeds: Number of runs of a trial on each data set.
        trials: Number of trials; for a grid, the number of its points.
        maximise: One of `OBJECTIVES`.
        by: One of `SEARCHERS`.
        stop_early: One of `STOP_RULES`.
        address: An existing Ray cluster.
    """

    path: Path
    place: Place
    located: Mapping[str, LocatedValue]
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
        """Working folder: the location itself, unless it is in a bucket."""
        return working_folder(self.place)

    @property
    def synchronised(self) -> bool:
        """True if intermediate scores are used, so that the runs of a trial advance in parallel."""
        return self.by == "pbt" or self.stop_early != "none"

    @property
    def concurrent_runs(self) -> int:
        """Number of runs of a trial that advance in parallel."""
        return self.seeds * len(self.data) if self.synchronised else 1

    def processes(self, kind: str) -> int:
        """Return the number of ``learners`` or ``workers`` processes of a trial at a time."""
        return int(self.concurrent_runs * self.options.get(kind, 0))

    @property
    def names(self) -> list[str]:
        """Names of the dimensions."""
        return [dimension.name for dimension in self.dimensions]

    @cached_property
    def grid(self) -> list[dict[str, str]]:
        """All distinct grid points, where every dimension is a list."""
        from itertools import product

        found = (
            self.as_text(dict(zip(self.names, values, strict=True)))
            for values in product(*(dimension.values for dimension in self.dimensions))
        )
        return list({tuple(values.items()): values for values in found}.values())

    def as_text(self, drawn: Values) -> dict[str, str]:
        """Return drawn values as text, without names that algorithm and strategy do not have."""
        who = {key: str(drawn.get(key, first)) for key, first in self._first.items()}
        return {
            d.name: d.as_text(drawn[d.name])
            for d in self.dimensions
            if d.name in LISTED or has_setting(d.name, **who)
        }

    @property
    def _first(self) -> dict[str, str]:
        return {"algorithm": self.algorithms[0], "strategy": self.strategies[0]}

    def plans(self, values: Values, trial: str) -> "list[Plan]":
        """Return the plans of a trial: data sets × seeds.

        Args:
            values: Names of the dimensions to their values.
            trial: Number of the trial, which names its folder.
        """
        from off2on.training.plan import Plan

        who = {key: str(values.get(key, first)) for key, first in self._first.items()}
        given: dict[str, object] = {
            name: value for name, value in self.fixed.items() if has_setting(name, **who)
        }
        given |= {name: value for name, value in values.items() if name not in LISTED}
        origins = {
            name: self.located[name].origin for name in (*OPTIONS, *who, "data") if name in self.located
        }
        origins |= {name: self.located["with"].items[name].origin for name in self.fixed if name in given}
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
        """Return all values with their origins, for search.yaml."""
        values = {
            "algorithm": _one_or_all(self.algorithms),
            "data": _one_or_all(self.data),
            "strategy": _one_or_all(self.strategies),
            **{key: getattr(self, key) for key in ("maximise", "seeds", "trials", "by", "stop_early")},
            **{
                key: list(located) if isinstance(located, tuple) else located
                for key, located in self.options.items()
            },
            "out": str(self.place),
        }

        def with_origin(value: Any, located: LocatedValue | None) -> dict[str, Any]:
            return {"value": value, "origin": "default" if located is None else located.origin}

        found = {key: with_origin(value, self.located.get(key)) for key, value in values.items()}
        fixed = {name: with_origin(self.fixed[name], self.located["with"].items[name]) for name in self.fixed}
        ranges = {d.name: with_origin({d.kind: list(d.values)}, d.located) for d in self.dimensions}
        return {"file": str(self.path), **found, "with": fixed, "search": ranges}


def _one_or_all(names: Sequence[str]) -> Any:
    return names[0] if len(names) == 1 else list(names)


def _command(plan: "Plan", given: Values, options: Mapping[str, Any]) -> str:
    """Return the command line that makes the same run."""
    words = ["off2on", "train", plan.algorithm, plan.data]
    online = plan.online > 0
    words += [
        f"{name}={value}"
        for name, value in given.items()
        if online or not name.startswith((OF_STRATEGY, OF_ONLINE))
    ]
    for name, value in options.items():
        for each in value if name == "track" else (value,):
            words += [flag(name), str(each)]
    words += ["--strategy", plan.strategy] if online else []
    words += ["--seed", str(plan.seed), "--out", plan.out]
    return shlex.join(words)
