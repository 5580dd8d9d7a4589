"""``off2on algos``: the catalogue of algorithms, and the page of one of them."""

import csv
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from off2on.commands.output import print_json, print_wrapped_table

OTHERS = "other packages"
"""Family name of algorithms from other packages."""


@click.command(short_help="List algorithms, or describe one.")
@click.argument("name", required=False)
@click.option("--json", "json_", is_flag=True)
def algos(name: str | None, json_: bool) -> None:
    """List the algorithms.

    With NAME, describe that algorithm: equations, hyperparameters, presets, comparison with reference
    implementations, and augmentations. NAME is one of the list, or package.module:Class.
    """
    if name is not None:
        page = _page(name)
        print_json(page) if json_ else _show(page)
        return
    rows = _catalogue()
    if json_:
        print_json(rows)
        return
    name_width, paper_width = (max(len(row[key]) for row in rows) for key in ("name", "paper"))
    click.echo(f"  {'name':<{name_width}}  lines  {'paper':<{paper_width}}  summary")
    for family, group in groupby(rows, key=lambda row: row["family"]):
        click.echo(family)
        print_wrapped_table(
            [
                f"  {row['name']:<{name_width}}",
                f"{row['lines'] or '–':>5}",
                f"{row['paper']:<{paper_width}}",
                row["summary"],
            ]
            for row in group
        )
    click.echo("\nDescribe one algorithm: off2on algos NAME")


def _catalogue() -> list[dict[str, Any]]:
    """Return the catalogue, then the algorithms of other packages, without importing any of them."""
    from importlib.metadata import entry_points

    from off2on.algorithms import CATALOGUE

    rows: list[dict[str, Any]] = [
        {"name": name, "family": entry.family, "lines": _lines(entry.target), "paper": entry.paper}
        | {"summary": entry.summary, "target": entry.target}
        for name, entry in CATALOGUE.items()
    ]
    rows += [
        {"name": point.name, "family": OTHERS, "lines": _lines(point.value), "paper": "–"}
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


def _page(name: str) -> dict[str, Any]:
    """Return the description of an algorithm as plain values."""
    from off2on.algorithms import CATALOGUE, find_algorithm
    from off2on.recipe.histories import context_of

    kind = find_algorithm(name)
    entry = CATALOGUE.get(name)
    rules, defaults = kind.Hyperparameters.rules(), kind.Hyperparameters().as_dict()
    module = sys.modules[kind.__module__]
    paper_options = entry.paper_options if entry else ""
    data = "toy-cartpole" if kind.actions == "discrete" else "toy-pendulum"
    words = [paper_options] if "--updates" in paper_options else ["--updates 10k"]
    words += ["--online 5k"] if context_of(kind.Hyperparameters()) == 0 else []
    return {
        "name": name,
        "family": entry.family if entry else None,
        "paper": entry.paper if entry else None,
        "summary": entry.summary if entry else None,
        "when": _when(name),
        "paper_options": paper_options,
        "file": os.path.relpath(inspect.getsourcefile(kind) or ""),
        "lines": _lines(kind.__module__),
        "actions": kind.actions,
        "try": " ".join(["off2on train", name, data, *words]),
        "description": inspect.getdoc(module) or inspect.getdoc(kind) or "",
        "hyperparameters": {
            key: {
                "default": defaults[key],
                "range": rule.range(),
                "meaning": rule.meaning,
                "search": rule.search,
            }
            for key, rule in rules.items()
        },
        "presets": {preset: dict(values) for preset, values in kind.Hyperparameters.presets.items()},
        "fidelity": _fidelity(name),
        "augmentations": _augmentations(kind),
    }


def _when(name: str) -> str | None:
    """Return when to use an algorithm of the catalogue."""
    return next((row["when"] for row in _rows("when.csv") if row["name"] == name), None)


def _fidelity(name: str) -> list[dict[str, str]]:
    """Return the comparisons of an algorithm's losses with reference implementations."""
    return [
        {key: value for key, value in row.items() if key != "algorithm"}
        for row in _rows("fidelity.csv")
        if row["algorithm"] == name
    ]


def _rows(table: str) -> list[dict[str, str]]:
    """Return the rows of a table beside the algorithms, none if it does not exist."""
    from importlib.resources import files

    file = files("off2on.algorithms") / table
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines())) if file.is_file() else []


def _augmentations(kind: Any) -> list[dict[str, Any]]:
    """Return the augmentations that an algorithm can use with its default hyperparameters."""
    from off2on.errors import HyperparameterError
    from off2on.replay.augmentation.catalogue import CATALOGUE, parse_entry
    from off2on.rllib.data_checks import check_rows

    found = []
    for name, (_, summary) in CATALOGUE.items():
        hp = kind.Hyperparameters(augment=(name,))
        try:
            check_rows(kind, hp, hp)
        except HyperparameterError:
            continue
        augmentation = parse_entry(name)[0]
        number = augmentation.number
        found.append(
            {"name": name, "summary": summary, "number": number.meaning, "range": number.range()}
            | {"default": augmentation.default}
        )
    return found


def _show(page: dict[str, Any]) -> None:
    """Print the page of an algorithm."""
    click.echo(page["description"])
    click.echo()
    if page["when"]:
        print_wrapped_table([("when", page["when"])])
        click.echo()
    known = page["hyperparameters"]
    head = ("hyperparameter", "default", "range", "search", "meaning")
    print_wrapped_table([head, *((key, *hyperparameter(setting)) for key, setting in known.items())])
    if page["presets"]:
        click.echo()
        presets = [
            (preset, " ".join(f"{key}={plain(value)}" for key, value in values.items()))
            for preset, values in page["presets"].items()
        ]
        print_wrapped_table([("preset=", "values"), *presets])
    if page["fidelity"]:
        click.echo()
        head = ("loss", "loss error", "gradient error", "relation", "reference")
        keys = ("loss", "loss_error", "gradient_error", "relation", "reference")
        print_wrapped_table([head, *([row[key] or "–" for key in keys] for row in page["fidelity"])])
    click.echo()
    words = [
        (f"{word['name']}:{word['default']:g}", word["range"], f"{word['summary']}; {word['number']}")
        for word in page["augmentations"]
    ]
    print_wrapped_table([("augment=", "range", "meaning"), *words])
    click.echo(f"\nfile  {page['file']}" + (f" ({page['lines']} lines)" if page["lines"] else ""))
    click.echo(f"try   {page['try']}")
    if page["paper_options"]:
        click.echo(f"online phase of the paper: {page['paper_options']}")


def hyperparameter(setting: Mapping[str, Any]) -> tuple[str, ...]:
    """Return default, range, search range and meaning as texts; the first three are short."""
    default, allowed, meaning = setting["default"], setting["range"], setting["meaning"]
    if isinstance(default, bool):
        allowed = "True | False"
    elif len(allowed) > len("NAME:NUMBER,…"):
        allowed, meaning = "text", f"{allowed}: {meaning}"
    return plain(default) or "none", allowed, _search(setting["search"]), meaning


def _search(search: Sequence[Any]) -> str:
    """Return a search range as a short text."""
    if not search:
        return "–"
    shape, *points = search
    values = ",".join(map(plain, points))
    return values if shape == "choice" else f"{values.replace(',', '…')} ({shape})"


def plain(value: Any) -> str:
    """Return the value of a hyperparameter as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
