"""``off2on algos``: the catalogue, and the page of one algorithm."""

import inspect
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from off2on.commands.screen import as_json, table


@click.command(short_help="The catalogue; with NAME, that algorithm's page.")
@click.argument("name", required=False)
@click.option("--json", "json_", is_flag=True)
def algos(name: str | None, json_: bool) -> None:
    """The catalogue; with NAME: its paper, losses, hyperparameters and file.

    NAME is one of the catalogue, or package.module:Class.
    """
    if name is not None:
        _page(name, json_)
        return
    rows = _catalogue()
    if json_:
        as_json(rows)
        return
    heads = ("name", "family", "lines", "paper", "summary")
    named = {"summary": "one line"}
    table(
        [[named.get(head, head) for head in heads], *([row[head] for head in heads] for row in rows)],
        right=(2,),
    )


def _catalogue() -> list[dict[str, Any]]:
    """What is known without importing an algorithm: ours, then those of other packages."""
    from importlib.metadata import entry_points

    from off2on.algorithms import CATALOGUE

    rows: list[dict[str, Any]] = [
        {"name": name, "family": entry.family, "lines": _lines(entry.target), "paper": entry.paper}
        | {"summary": entry.summary, "target": entry.target}
        for name, entry in CATALOGUE.items()
    ]
    rows += [
        {"name": point.name, "family": "–", "lines": _lines(point.value), "paper": "–"}
        | {"summary": f"from {point.value.partition(':')[0]}", "target": point.value}
        for point in entry_points(group="off2on.algorithms")
    ]
    return rows


def _lines(target: str) -> int | None:
    try:
        spec = find_spec(target.partition(":")[0])
    except ImportError:
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return len(Path(spec.origin).read_text(encoding="utf-8").splitlines())


def _page(name: str, json_: bool) -> None:
    from off2on.algorithms import find_algorithm

    kind = find_algorithm(name)
    rules, defaults = kind.Hyperparameters.rules(), kind.Hyperparameters().as_dict()
    module = sys.modules[kind.__module__]
    file = os.path.relpath(inspect.getsourcefile(kind) or "")
    described = inspect.getdoc(module) or inspect.getdoc(kind) or ""
    if json_:
        listed = {
            key: {
                "default": defaults[key],
                "range": rule.range(),
                "meaning": rule.meaning,
                "search": rule.search,
            }
            for key, rule in rules.items()
        }
        page = {"name": name, "file": file, "description": described, "hyperparameters": listed}
        as_json(page | {"presets": kind.Hyperparameters.presets})
        return
    click.echo(f"{described}\n")
    rows = [("hyperparameter", "default", "range", "meaning")]
    rows += [(key, plain(defaults[key]), rule.range(), rule.meaning) for key, rule in rules.items()]
    table(rows)
    if presets := kind.Hyperparameters.presets:
        click.echo()
        table([("preset", "says"), *((f"preset={one}", _said(values)) for one, values in presets.items())])
    click.echo(f"\nfile  {file}")
    click.echo(f"try   off2on train {name} toy-pendulum --updates 10k --online 5k")


def _said(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={plain(value)}" for name, value in values.items())


def plain(value: Any) -> str:
    """A hyperparameter's value as it would be typed."""
    if isinstance(value, tuple):
        return ",".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
