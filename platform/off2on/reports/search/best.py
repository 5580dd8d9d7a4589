"""The best trial of a search: whether the second can be told from it, and best.yaml to train it again."""

import re
import shlex

import yaml

from off2on.reports.search.record import LISTED, Search

OPTIONS = (
    *("updates", "online", "strategy", "eval_every", "eval_episodes", "learners", "workers", "envs", "env"),
    *("threads", "memory"),
)
"""What `off2on train` takes as --options, and a search as keys."""

OPTIMISTIC = "The highest of {} scores that chance moves is too high; other seeds tell how good it is."


def named(search: Search) -> tuple[str, list[str]]:
    """The algorithm of the best trial, and the data sets."""
    data = search.about.get("data") or "?"
    algorithm = search.finished[0].values.get("algorithm") or search.about.get("algorithm")
    return str(algorithm or "?"), list(map(str, data if isinstance(data, list) else [data]))


def searched(search: Search) -> str:
    """The algorithms among which it is the best."""
    said = search.about.get("algorithm") or "?"
    return ", ".join(map(str, said)) if isinstance(said, list) else str(said)


def verdict(search: Search) -> str:
    """Whether the best can be told from the second, in words."""
    best, *others = search.finished
    if not others:
        return "It is the only trial that finished."
    name = f"the second best, trial {others[0].name} ({others[0].told})"
    if best.interval is None or others[0].interval is None:
        return f"Nothing tells it apart from {name}: with fewer than three seeds there is no interval."
    if best.interval[0] <= others[0].interval[1]:
        return f"Its interval overlaps that of {name}: these seeds do not tell the two apart."
    return f"Its interval is above that of {name}."


def command(search: Search) -> str:
    """What trains the best trial again."""
    algorithm, data = named(search)
    said = {**search.about, **search.finished[0].values}
    words = ["off2on", "train", algorithm, data[0]]
    for name in OPTIONS:
        if said.get(name) not in (None, "") and (name != "strategy" or search.is_online):
            words += [f"--{name.replace('_', '-')}", str(said[name])]
    return shlex.join([*words, f"@{search.folder / 'best.yaml'}"])


def best_yaml(search: Search) -> str:
    """The lines NAME: VALUE of the best trial, and above them what is known of it."""
    best = search.finished[0]
    _, data = named(search)
    comments = [
        f"The best of {len(search.finished)} finished trials of {search.folder}: trial {best.name}, "
        f"{search.objective} {best.told}, seeds: {best.seeds or '?'}.",
        verdict(search),
        OPTIMISTIC.format(len(search.finished)),
        f"Searched: {', '.join(search.names) or 'nothing'}, of {searched(search)} on {', '.join(data)}.",
        f"  {command(search)}",
    ]
    lines = ["# " + "".join(letter if letter.isprintable() else " " for letter in line) for line in comments]
    lines += [f"{_scalar(name)}: {_scalar(value)}" for name, value in _given(search).items()]
    return "\n".join([*lines, ""])


def _given(search: Search) -> dict[str, str]:
    """Names to values of the best trial: what is the same in all trials, and what is searched."""
    best = search.finished[0]
    given = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in (search.about.get("with") or {}).items()
    }
    given |= {name: value for name, value in best.values.items() if value and name not in LISTED}
    if not best.runs or not best.runs[0].about.get("command"):
        return given
    # Of several algorithms and strategies, each has its own names; its runs were told only those.
    told = {word.partition("=")[0] for word in shlex.split(str(best.runs[0].about["command"])) if "=" in word}
    return {name: value for name, value in given.items() if name in told}


def _scalar(text: str) -> str:
    """A value as YAML that `off2on train` reads as the same text."""
    if re.fullmatch(r"[\w.+-]*\w([\w.,:+-]*\w)?", text, re.ASCII):
        return text
    return str(yaml.safe_dump(text, default_style="'", width=10_000, allow_unicode=True)).strip()
