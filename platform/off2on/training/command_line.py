"""Make checked plans from the arguments of ``off2on train``: ALGO DATA, NAME=VALUE, @FILE.yaml, options."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from datasets_io.imports import KNOWN_PACKAGES, names_code
from off2on.errors import UnknownName, UserError, suggesting
from off2on.recipe.hyperparameters import PRESET, RENAMED
from off2on.training.located_yaml import COMMAND_LINE, read_yaml
from off2on.training.options import ONLINE_SHORTCUTS, flag

if TYPE_CHECKING:
    from off2on.training.plan import Plan, ResolvedPlan

STRATEGY, ONLINE, GUARD = "strategy.", "online.", "guard."
"""Prefixes of the names of strategy options, online overrides and settings of the guard."""

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


class Arguments(NamedTuple):
    """The arguments of a command: positional ones, and assignments with their origins."""

    positional: list[str]
    values: dict[str, object]
    origins: dict[str, str]


def split_arguments(words: Iterable[str]) -> Arguments:
    """Separate ``ALGO DATA`` from ``NAME=VALUE`` and ``@FILE.yaml``; a later value replaces an earlier one.

    Raises:
        UserError: A positional argument after an assignment, or a file that cannot be read.
    """
    positional: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for word in words:
        found = _ASSIGNMENT.fullmatch(word)
        if word.startswith("@"):
            for name, located in read_yaml(Path(word[1:])).items.items():
                values[name], origins[name] = located.as_words, located.origin
        elif found:
            values[found[1]], origins[found[1]] = found[2], COMMAND_LINE
        elif values:
            raise UserError(
                f"'{word}' comes after NAME=VALUE and is not one.", "Names come first, then NAME=VALUE."
            )
        else:
            positional.append(word)
    return Arguments(positional, values, origins)


def make_plans(
    words: Sequence[str], options: Mapping[str, Any], command: str, seeds: int = 1, resume: bool = False
) -> "tuple[list[Plan], ResolvedPlan]":
    """Return a plan for each seed, all checked, and the first one resolved.

    Args:
        words: ALGO DATA NAME=VALUE ….
        options: Options by name; None where an option was not given.
        command: The command line, for the record; messages name its first word.
        seeds: Number of runs.
        resume: Continue runs that have begun.

    Raises:
        UserError: The runs cannot work as requested; nothing was started.
    """
    given = {name: value for name, value in options.items() if value is not None}
    arguments = split_arguments(words)
    if len(arguments.positional) > 2:
        raise UserError(
            f"unexpected argument '{arguments.positional[2]}'.", "Expected ALGO DATA, then NAME=VALUE."
        )
    values, origins = _with_current_names(arguments)
    requested = dict(zip(("algorithm", "data"), arguments.positional, strict=False)) | given
    _check_online_phase(requested, given, origins)
    for name in ONLINE_SHORTCUTS.keys() & requested:
        _check_given_once(name, origins)
        values[ONLINE + name] = requested.pop(name)
        origins[ONLINE + name] = COMMAND_LINE
    origins |= dict.fromkeys(requested, COMMAND_LINE)
    if "address" not in requested and "RAY_ADDRESS" in os.environ:
        origins["address"] = "$RAY_ADDRESS"
    if "source" in requested:
        requested, values, origins = with_settings_of_run(requested, values, origins)
    _check_names(requested, next(iter(command.split()[1:2]), "train"))
    if "new_data" in requested and "online" not in requested:
        from datasets_io import open_shards

        requested["online"] = open_shards(requested["new_data"]).rows
        origins["online"] = f"all of {requested['new_data']}"
    from off2on.training.plan import Plan

    guard = (
        _with_prefix(GUARD, values) if requested.pop("guard", False) or _with_prefix(GUARD, values) else None
    )
    prefixes = (STRATEGY, ONLINE, GUARD)
    plan = Plan(
        **requested,
        hyperparameters={name: value for name, value in values.items() if not name.startswith(prefixes)},
        strategy_options=_with_prefix(STRATEGY, values),
        online_overrides=_with_prefix(ONLINE, values),
        guard=guard,
        command=command,
        origins=origins,
    )
    plans = [replace(plan, seed=plan.seed + index) for index in range(seeds)]
    first, *_ = [
        each.check(resume) for each in plans
    ]  # before the first run starts; the last may start hours later
    return plans, first


def unused_settings(plan: "Plan", resolved: "ResolvedPlan") -> list[str]:
    """Return a line for each online setting that was given and has no effect."""
    settings = resolved.settings.online
    return [
        f"{ONLINE}{name} has no effect: {other} is {getattr(settings, other)}, not {needed}"
        for name, (other, needed) in settings.without_effect(plan.online_overrides).items()
    ]


def unmade_environment(resolved: "ResolvedPlan") -> list[str]:
    """Return a line if the data have an environment in which the policy is not evaluated."""
    if resolved.env is not None or (env := resolved.shards.env_id) is None:
        return []
    from datasets_io.environments import may_make

    why = "cannot be made here" if may_make(env) else "is in a module that only the data name"
    return [f"no evaluation: the environment {env} {why}; --env {env} evaluates in it"]


def renamed_settings(words: Iterable[str]) -> list[str]:
    """Return a line for each old name of a setting among the arguments."""
    names = {name: name.rpartition(".")[2] for name in split_arguments(words).values}
    return [
        f"'{name}' is now '{name.removesuffix(old)}{RENAMED[old]}'; the old name is removed in version 0.3"
        for name, old in names.items()
        if old in RENAMED
    ]


def _with_current_names(arguments: Arguments) -> tuple[dict[str, object], dict[str, str]]:
    """Return the assignments and their origins under the current names of settings."""

    def current(name: str) -> str:
        prefix, dot, rest = name.rpartition(".")
        return f"{prefix}{dot}{RENAMED.get(rest, rest)}"

    values = {current(name): value for name, value in arguments.values.items()}
    return values, {current(name): origin for name, origin in arguments.origins.items()}


def _with_prefix(prefix: str, values: Mapping[str, object]) -> dict[str, object]:
    return {name.removeprefix(prefix): values[name] for name in values if name.startswith(prefix)}


def _check_online_phase(
    requested: Mapping[str, Any], options: Mapping[str, Any], origins: Mapping[str, str]
) -> None:
    """Check that there is an online phase if the command line sets something for it; a file may set more."""
    if requested.get("online") or "new_data" in requested:
        return
    words = ["--from"] if "source" in requested else []
    words += [flag(name) for name in ("strategy", *ONLINE_SHORTCUTS) if name in options]
    words += [
        name for name in origins if name.startswith((STRATEGY, ONLINE)) and origins[name] == COMMAND_LINE
    ]
    if words:
        raise UserError(f"{words[0]} is for the online phase, and there is none.", "", "--online 20k")


def _check_given_once(name: str, origins: Mapping[str, str]) -> None:
    """Check that an online setting is not given as an option and as an assignment; a file may have it."""
    if origins.get(ONLINE + name) == COMMAND_LINE:
        raise UserError(f"{flag(name)} and {ONLINE}{name}= set the same.", "Leave out one of them.")


def _check_names(requested: Mapping[str, Any], command: str) -> None:
    """Check the names early, in half a second; `Plan.check` first has to import torch and Ray."""
    if "algorithm" not in requested or "data" not in requested:
        missing = "an algorithm" if "algorithm" not in requested else "a data set"
        raise UserError(
            f"{missing} is missing.",
            f"Expected: off2on {command} ALGO DATA",
            f"off2on {command} iql toy-pendulum --updates 10k",
        )
    from datasets_io import open_shards
    from off2on.algorithms import CATALOGUE, find_algorithm

    open_shards(requested["data"])
    if requested["algorithm"] not in CATALOGUE:
        with suggesting("off2on algos", UnknownName):
            find_algorithm(requested["algorithm"])


def with_settings_of_run(
    requested: dict[str, Any], values: dict[str, object], origins: dict[str, str]
) -> tuple[dict[str, Any], dict[str, object], dict[str, str]]:
    """Copy settings that are not given from the source run, because its networks need the same settings.

    Args:
        requested: Options of a plan that are given, with `source`.
        values: Hyperparameters that are given.
        origins: Origins of both, by name.

    Returns:
        The three, with those of the source run: algorithm, data, updates, seed, learners, environment, and
        hyperparameters that are not the defaults.

    Raises:
        UserError: There is no such run, or it names code that only its run.yaml names.
    """
    from off2on.runs.record import find_run

    folder, metadata = find_run(requested["source"])
    inherited = {
        "algorithm": requested.get("algorithm") or metadata.known_algorithm(),
        "data": requested.get("data") or metadata.training_data().pinned,
        "updates": metadata.updates,
        "seed": metadata.seed,
    }
    inherited["learners"] = metadata.option("learners").count("plan.learners")
    if (env := metadata.option("env").value) != str(None):
        inherited["env"] = requested.get("env") or replace(metadata, env=str(env)).known_env()
    in_preset = _preset_values(inherited | requested, values)
    settings = {
        RENAMED.get(name, name): (
            ",".join(map(str, known.value)) if isinstance(known.value, list) else known.value
        )
        for name, known in metadata.hyperparameters.items()
        if known.value != known.default and name not in in_preset
    }
    _refuse_code(folder, {name: value for name, value in settings.items() if name not in values})
    return (
        inherited | requested | {"source": str(folder)},
        settings | values,
        {**dict.fromkeys({**inherited, **settings}, f"{folder}/run.yaml"), **origins},
    )


def _refuse_code(folder: Path, settings: Mapping[str, object]) -> None:
    """Check that no hyperparameter of another run names a module that only its run.yaml names."""
    for name, value in settings.items():
        for part in str(value).split(","):
            if names_code(part) and part.partition(".")[0].partition(":")[0] not in KNOWN_PACKAGES:
                raise UserError(
                    f"{folder}/run.yaml sets {name} to {part}: its module would be imported.",
                    f"A module is imported only if it is named on the command line: add {name}={value}",
                )


def _preset_values(requested: Mapping[str, Any], values: Mapping[str, object]) -> Mapping[str, object]:
    """Return the values of a preset on the command line: they replace those of another run."""
    if PRESET not in values:
        return {}
    from datasets_io import open_shards
    from off2on.algorithms import find_algorithm
    from off2on.recipe.presets import with_preset_of_data

    kind, algorithm = find_algorithm(requested["algorithm"]).Hyperparameters, str(requested["algorithm"])
    given = with_preset_of_data(kind, values, open_shards(requested["data"]).name, algorithm)
    return kind.presets.get(str(given[PRESET]), {})
