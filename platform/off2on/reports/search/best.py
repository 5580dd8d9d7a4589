"""The best trial of a search: its distance from the second best, and best.yaml to train it again."""

import re
import shlex

import yaml

from off2on.reports.search.record import LISTED, SearchRecord

OPTIONS = (
    *("updates", "online", "strategy", "eval_every", "eval_episodes", "learners", "workers", "envs", "env"),
    *("threads", "memory"),
)
"""Options of `off2on train` that are keys of a search."""

OPTIMISTIC = "The highest of {} noisy scores is biased upwards; evaluate it with other seeds."


def named(search: SearchRecord) -> tuple[str, list[str]]:
    """Return the algorithm of the best trial, and the data sets."""
    data = search.metadata.get("data") or "?"
    algorithm = search.finished[0].values.get("algorithm") or search.metadata.get("algorithm")
    return str(algorithm or "?"), list(map(str, data if isinstance(data, list) else [data]))


def searched(search: SearchRecord) -> str:
    """Return the algorithms of the search, in one text."""
    names = search.metadata.get("algorithm") or "?"
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def verdict(search: SearchRecord) -> str:
    """Return in words whether the intervals separate the best trial from the second."""
    best, *others = search.finished
    if not others:
        return "It is the only trial that finished."
    name = f"the second best, trial {others[0].name} ({others[0].score_text})"
    if best.interval is None or others[0].interval is None:
        return f"It cannot be separated from {name}: with fewer than three seeds there is no interval."
    if best.interval[0] <= others[0].interval[1]:
        return f"Its interval overlaps that of {name}: these seeds do not separate the two."
    return f"Its interval is above that of {name}."


def command(search: SearchRecord) -> str:
    """Return the command that trains the best trial again."""
    algorithm, data = named(search)
    values = {**search.metadata, **search.finished[0].values}
    words = ["off2on", "train", algorithm, data[0]]
    for name in OPTIONS:
        if values.get(name) not in (None, "") and (name != "strategy" or search.is_online):
            words += [f"--{name.replace('_', '-')}", str(values[name])]
    return shlex.join([*words, f"@{search.folder / 'best.yaml'}"])


def best_yaml(search: SearchRecord) -> str:
    """Return the lines NAME: VALUE of the best trial, below comments with the facts about it."""
    best = search.finished[0]
    _, data = named(search)
    comments = [
        f"The best of {len(search.finished)} finished trials of {search.folder}: trial {best.name}, "
        f"{search.objective} {best.score_text}, seeds: {best.seeds or '?'}.",
        verdict(search),
        OPTIMISTIC.format(len(search.finished)),
        f"Searched: {', '.join(search.names) or 'nothing'}, of {searched(search)} on {', '.join(data)}.",
        f"  {command(search)}",
    ]
    lines = ["# " + "".join(letter if letter.isprintable() else " " for letter in line) for line in comments]
    lines += [f"{_scalar(name)}: {_scalar(value)}" for name, value in _given(search).items()]
    return "\n".join([*lines, ""])


def _given(search: SearchRecord) -> dict[str, str]:
    """Return names and values of the best trial: those of all trials, and those that were searched."""
    best = search.finished[0]
    given = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in (search.metadata.get("with") or {}).items()
    }
    given |= {name: value for name, value in best.values.items() if value and name not in LISTED}
    if not best.runs or not best.runs[0].metadata.command:
        return given
    # Algorithms and strategies have different names; a run was given only those of its own.
    try:
        words = shlex.split(best.runs[0].metadata.command)
    except ValueError:  # a quote without its end: somebody changed the file
        return given
    own = {word.partition("=")[0] for word in words if "=" in word}
    return {name: value for name, value in given.items() if name in own}


def _scalar(text: str) -> str:
    """Return a value as YAML that `off2on train` reads as the same text."""
    if re.fullmatch(r"[\w.+-]*\w([\w.,:+-]*\w)?", text, re.ASCII):
        return text
    return str(yaml.safe_dump(text, default_style="'", width=10_000, allow_unicode=True)).strip()
