"""The options of a run, each declared once.

A field of `RunOptions` states its type, default, unit, range and help. The options of ``off2on train``,
``plan`` and ``compare``, the keys of a search file, the checks before a start, the checks of ``--resume`` and
the options in run.yaml are made from it. Importing this module loads neither torch nor Ray.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from off2on.errors import UserError

KEPT_OFFLINE, KEPT_ONLINE = "offline", "online"

MOST_SEEDS = 1_000
"""Largest number of seeds of a run, a variant or a trial."""
MOST_PROCESSES = 100_000
"""Largest number of processes, threads or environments, far beyond any cluster's."""


@dataclass(frozen=True)
class Option:
    """Declaration of an option, besides its name, type and default.

    Attributes:
        help: One sentence for the command line.
        kind: ``count`` (a whole number such as 20k), ``number``, ``size`` (bytes, such as 4G), ``text``,
            ``texts`` (may be repeated) or ``flag``.
        metavar: Placeholder of the value.
        default: Text for the default, where the value does not show it.
        least, most: The smallest and the largest value.
        flag: The option on the command line, if its name differs.
        kept: Phase from which on a run that is resumed, or started from another, must have the same value;
            None if it may change.
        in_search: True if a search file may set it.
    """

    help: str
    kind: str = "count"
    metavar: str = "N"
    default: str | None = None
    least: int | None = None
    most: int | None = None
    flag: str | None = None
    kept: str | None = None
    in_search: bool = False


def option(value: Any, help: str, **more: Any) -> Any:  # noqa: A002 - click's name
    """Declare a field of `RunOptions` with its default value; the other arguments are those of `Option`."""
    return dataclasses.field(default=value, metadata={"option": Option(help, **more)})


@dataclass(frozen=True)
class RunOptions:
    """Options of one run.

    Attributes:
        algorithm: A name of the catalogue, or ``package.module:Class``.
        data: Name or folder of a data set.
        hyperparameters: Names to values, which may be text.
        strategy_options: Options of the strategy, by name; values may be text.
        online_overrides: Online settings, and hyperparameters with another value online, by name; values may
            be text.
        guard: Settings of the guard; None runs without it.
        command: The command line, for the record.
        origins: Names to where their values come from, if they are not the defaults.
    """

    algorithm: str
    data: str
    hyperparameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    updates: int = option(
        1_000_000,
        "Gradient updates before the handover.",
        default="1M",
        least=0,
        kept=KEPT_OFFLINE,
        in_search=True,
    )
    online: int = option(
        0,
        "Environment steps after the handover; 0: offline only.",
        least=0,
        kept=KEPT_ONLINE,
        in_search=True,
    )
    strategy: str = option(
        "symmetric",
        "Fine-tuning strategy: how online batches are composed; see `off2on strategies`.",
        kind="text",
        metavar="NAME",
        kept=KEPT_ONLINE,
    )
    strategy_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    new_data: str | None = option(
        None,
        "Learn from new recorded data instead of an environment; NAME@1+: episodes added since.",
        kind="text",
        metavar="NAME",
        kept=KEPT_ONLINE,
    )
    source: str | None = option(
        None, "Start from the handover of another run.", kind="text", metavar="RUN", flag="--from"
    )
    seed: int = option(0, "Seed of all random numbers.", least=0, most=2**32 - 1)
    learners: int = option(
        0,
        "Learner processes; 0: learn in this process.",
        least=0,
        most=MOST_PROCESSES,
        kept=KEPT_OFFLINE,
        in_search=True,
    )
    workers: int = option(
        0,
        "Processes that step environments; 0: step in this process.",
        least=0,
        most=MOST_PROCESSES,
        kept=KEPT_ONLINE,
        in_search=True,
    )
    envs: int = option(
        1, "Environments per worker.", least=1, most=MOST_PROCESSES, kept=KEPT_ONLINE, in_search=True
    )
    env: str | None = option(
        None,
        "Environment to use instead of that of the data; module:Id imports the module.",
        kind="text",
        metavar="ID",
        kept=KEPT_ONLINE,
        in_search=True,
    )
    eval_every: int | None = option(
        None,
        "Updates (online: steps) between evaluations; online also after 1, 1k, 2k, 5k and 10k steps.",
        default="5 %",
        least=1,
        kept=KEPT_ONLINE,
        in_search=True,
    )
    eval_episodes: int = option(10, "Episodes per evaluation.", least=1, kept=KEPT_ONLINE, in_search=True)
    keep_policies: bool = option(
        False, "Keep the policy of every evaluation, for --checkpoint UPDATES of other commands.", kind="flag"
    )
    out: str = option("runs", "Folder for runs; s3://BUCKET/FOLDER is possible.", kind="text", metavar="DIR")
    memory: int = option(
        0,
        "Memory for the data of a learner; larger data are streamed.",
        kind="size",
        metavar="SIZE",
        default="a quarter of this machine's",
        kept=KEPT_ONLINE,
        in_search=True,
    )
    threads: int | None = option(
        None, "CPU threads per learner.", default="measured", least=1, most=MOST_PROCESSES, in_search=True
    )
    compile: str = option(
        "auto",
        "Compile the updates: auto (in a long run, if a measurement says it is faster), on or off.",
        kind="text",
        metavar="MODE",
        in_search=True,
    )
    precision: str = option(
        "float32",
        "Number format of the updates' matrix products: float32 or bfloat16 (faster, less exact).",
        kind="text",
        metavar="FORMAT",
        kept=KEPT_ONLINE,
        in_search=True,
    )
    address: str | None = option(
        None, "Ray cluster to join.", kind="text", metavar="HOST:PORT", default="$RAY_ADDRESS"
    )
    wait: int = option(0, "Minutes to wait for the cluster to have free capacity.", least=0)
    online_overrides: Mapping[str, object] = dataclasses.field(default_factory=dict)
    guard: Mapping[str, object] | None = None
    track: Sequence[str] = option(
        (),
        "Report to wandb or mlflow as well; can be repeated.",
        kind="texts",
        metavar="NAME",
        in_search=True,
    )
    command: str = ""
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the type of every option; NumPy's and whole numbers such as 1e4 become int, paths text.

        Raises:
            UserError: A value is of another kind than its declaration says.
        """
        for name, known in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or getattr(RunOptions, name) is not None:
                object.__setattr__(self, name, _of_kind(known.kind, name, value))

    def check_bounds(self) -> None:
        """Check that every value is within its range.

        Raises:
            UserError: A value is too small or too large.
        """
        for name, known in OPTIONS.items():
            value = getattr(self, name)
            if known.least is not None and value is not None and value < known.least:
                raise UserError(f"{flag(name)} must be at least {known.least}: got {value}.")
            if known.most is not None and value is not None and value > known.most:
                raise UserError(f"{flag(name)} must be at most {known.most:,}: got {value:,}.")


def _of_kind(kind: str, name: str, value: Any) -> Any:
    """Return the value of an option in the type of its kind."""
    if kind in ("count", "size"):
        expected = "a whole number"
        whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
        if whole and not isinstance(value, bool):
            return int(value)
    elif kind == "flag":
        expected = "True or False"
        if isinstance(value, bool):
            return value
    elif kind == "texts":
        expected = "a list of texts"
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return value
    else:
        expected = "text"
        if isinstance(value, str | Path):
            return str(value)
    raise UserError(f"{name} must be {expected}: got {value!r}.")


OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(RunOptions) if field.metadata
}
"""All options by name, in the order of declaration."""

ONLINE_SHORTCUTS = {
    "warm_up": Option("Environment steps with the policy of the handover, before updates.", default="0"),
    "utd": Option("Gradient updates per environment step.", kind="number", metavar="X", default="1.0"),
    "exploration": Option(
        "Exploration: own, noisy, optimistic or expansion.", kind="text", metavar="NAME", default="own"
    ),
    "asynchronous": Option("Collect while the learner updates; needs workers.", kind="flag"),
}
"""Online settings (`online.settings.OnlineSettings`) with an option of their own: ``--utd 2`` sets
``online.utd=2``."""


def flag(name: str) -> str:
    """Return the command-line option of a name: ``eval_every`` → ``--eval-every``."""
    known = OPTIONS.get(name)
    return known.flag if known is not None and known.flag else f"--{name.replace('_', '-')}"


def default_text(name: str) -> str:
    """Return the default of an option for its help; empty if there is none."""
    known = {**OPTIONS, **ONLINE_SHORTCUTS}[name]
    value = getattr(RunOptions, name, None)
    return known.default or ("" if value is None or value is False or value == () else str(value))


def kept_options(phase: str) -> list[str]:
    """Return the names of the options that must stay the same from a phase on, or from an earlier one."""
    kept = (KEPT_OFFLINE,) if phase == KEPT_OFFLINE else (KEPT_OFFLINE, KEPT_ONLINE)
    return [name for name, known in OPTIONS.items() if known.kept in kept]
