"""What a command line of ``off2on train`` asks for: plans, checked."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from off2on.errors import UnknownName, UserError, suggesting
from off2on.recipe.hyperparameters import PRESET
from off2on.training.located_yaml import COMMAND_LINE, read

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)

if TYPE_CHECKING:
    from off2on.training.plan import Plan, ResolvedPlan

ASKED_OF_STRATEGY, OTHERWISE_ONLINE, OF_THE_GUARD = "strategy.", "online.", "guard."
FACTORS = ("warm_up", "utd", "exploration", "asynchronous")
"""The factors of a crossing that have an option of their own."""


class Words(NamedTuple):
    """The arguments of a verb: those that stand alone, and the assignments with their origins."""

    alone: list[str]
    values: dict[str, object]
    origins: dict[str, str]


def split(words: Iterable[str]) -> Words:
    """Tells ``ALGO DATA`` from ``NAME=VALUE`` and ``@file.yaml``; what comes later wins.

    Raises:
        UserError: A word that stands alone after an assignment, or a file that cannot be used.
    """
    alone: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for word in words:
        found = _ASSIGNMENT.fullmatch(word)
        if word.startswith("@"):
            for name, located in read(Path(word[1:])).items.items():
                values[name], origins[name] = located.joined, located.origin
        elif found:
            values[found[1]], origins[found[1]] = found[2], COMMAND_LINE
        elif values:
            raise UserError(
                f"'{word}' comes after NAME=VALUE and is not one.", "Names come first, then NAME=VALUE."
            )
        else:
            alone.append(word)
    return Words(alone, values, origins)


def planned(
    words: Sequence[str], options: Mapping[str, Any], command: str, seeds: int = 1, resume: bool = False
) -> "tuple[list[Plan], ResolvedPlan]":
    """What a command line asks for: a plan for each seed, all checked, and what was found for the first.

    Args:
        words: ALGO DATA NAME=VALUE ….
        options: Options by name; None was not said.
        command: The command line, for the record; its verb is in what is told of mistakes.
        seeds: How many.
        resume: Whether the runs go on.

    Raises:
        UserError: What cannot be; nothing was started.
    """
    given = {name: value for name, value in options.items() if value is not None}
    said = split(words)
    if len(said.alone) > 2:
        raise UserError(f"'{said.alone[2]}' is one word too many.", "Expected ALGO DATA, then NAME=VALUE.")
    asked = dict(zip(("algorithm", "data"), said.alone, strict=False)) | given
    for name in FACTORS:
        if name in asked:
            _not_said_twice(name, said.origins)
            said.values[OTHERWISE_ONLINE + name] = asked.pop(name)
    values, origins = said.values, {**said.origins, **dict.fromkeys(asked, COMMAND_LINE)}
    if "address" not in asked and "RAY_ADDRESS" in os.environ:
        origins["address"] = "$RAY_ADDRESS"
    _goes_online(asked, given, said.origins)
    if "source" in asked:
        asked, values, origins = _from_run(asked, values, origins)
    _names_exist(asked, next(iter(command.split()[1:2]), "train"))
    if "new_data" in asked and "online" not in asked:
        from datasets_io import open_shards

        asked["online"] = open_shards(asked["new_data"]).rows
        origins["online"] = f"all of {asked['new_data']}"
    from off2on.training.plan import Plan

    def of(prefix: str) -> dict[str, object]:
        return {name.removeprefix(prefix): values[name] for name in values if name.startswith(prefix)}

    prefixes = (ASKED_OF_STRATEGY, OTHERWISE_ONLINE, OF_THE_GUARD)
    guard = of(OF_THE_GUARD) if asked.pop("guard", False) or of(OF_THE_GUARD) else None
    plan = Plan(
        **asked,
        hyperparameters={name: value for name, value in values.items() if not name.startswith(prefixes)},
        strategy_options=of(ASKED_OF_STRATEGY),
        online_overrides=of(OTHERWISE_ONLINE),
        guard=guard,
        command=command,
        origins=origins,
    )
    plans = [replace(plan, seed=plan.seed + index) for index in range(seeds)]
    # RLlib's advice on a configuration that users do not write.
    logging.getLogger("ray.rllib.algorithms.algorithm_config").setLevel(logging.ERROR)
    first, *_ = [each.check(resume) for each in plans]  # a last one's mistake must not be found after a night
    return plans, first


def _goes_online(asked: Mapping[str, Any], options: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """That there is an online side, if the command line asks something of it; a file may hold more."""
    if asked.get("online") or "new_data" in asked:
        return
    words = ["--from"] if "source" in asked else []
    words += [_option(name) for name in ("strategy", *FACTORS) if name in options]
    prefixes = (ASKED_OF_STRATEGY, OTHERWISE_ONLINE)
    words += [name for name in origins if name.startswith(prefixes) and origins[name] == COMMAND_LINE]
    if words:
        raise UserError(f"{words[0]} is for the online side, and there is none.", "", "--online 20k")


def _not_said_twice(name: str, origins: Mapping[str, str]) -> None:
    """That a factor is said as an option or as an assignment; an option may overrule a file."""
    if origins.get(OTHERWISE_ONLINE + name) == COMMAND_LINE:
        both = f"{_option(name)} and {OTHERWISE_ONLINE}{name}="
        raise UserError(f"{both} say the same.", "Leave one of them out.")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def idle(plan: "Plan", checked: "ResolvedPlan") -> list[str]:
    """What is said of the online side and does nothing, a line each."""
    settings = checked.online_settings
    return [
        f"{OTHERWISE_ONLINE}{name} has no effect: {other} is {getattr(settings, other)}, not {needed}"
        for name, (other, needed) in settings.without_effect(plan.online_overrides).items()
    ]


def _names_exist(asked: dict[str, Any], verb: str) -> None:
    """Says in half a second what `Plan.check` would say after importing torch and Ray."""
    if "algorithm" not in asked or "data" not in asked:
        missing = "an algorithm" if "algorithm" not in asked else "a data set"
        raise UserError(
            f"{missing} is missing.",
            f"Expected: off2on {verb} ALGO DATA",
            f"off2on {verb} iql toy-pendulum --updates 10k",
        )
    from datasets_io import open_shards
    from off2on.algorithms import CATALOGUE, find_algorithm

    open_shards(asked["data"])
    if asked["algorithm"] not in CATALOGUE:
        with suggesting("off2on algos", UnknownName):
            find_algorithm(asked["algorithm"])


def _from_run(
    asked: dict[str, Any], values: dict[str, object], origins: dict[str, str]
) -> tuple[dict[str, Any], dict[str, object], dict[str, str]]:
    """What was not said is as in the run to start from: its networks fit no other."""
    from off2on.runs.record import find_run

    folder, about = find_run(asked["source"])
    theirs = {
        "algorithm": about["algorithm"],
        "data": about["data"]["pinned"],
        "updates": about["updates"],
        "seed": about["seed"],
    }
    theirs["learners"] = int(about["plan"]["learners"]["value"])
    if (env := about["plan"]["env"]["value"]) != str(None):
        theirs["env"] = env
    said_by_preset = _in_preset(theirs | asked, values)
    settings = {
        name: ",".join(map(str, known["value"])) if isinstance(known["value"], list) else known["value"]
        for name, known in about["hyperparameters"].items()
        if known["value"] != known["default"] and name not in said_by_preset
    }
    where = f"{folder}/run.yaml"
    return (
        theirs | asked | {"source": str(folder)},
        settings | values,
        {**dict.fromkeys({**theirs, **settings}, where), **origins},
    )


def _in_preset(asked: dict[str, Any], values: dict[str, object]) -> Mapping[str, object]:
    """What a preset on the command line says: it is said here, and wins over what another run did."""
    if PRESET not in values:
        return {}
    from off2on.algorithms import find_algorithm

    presets = find_algorithm(asked["algorithm"]).Hyperparameters.presets
    return presets.get(str(values[PRESET]), {})
