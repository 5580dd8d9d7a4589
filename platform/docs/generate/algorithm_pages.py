"""Write the page of an algorithm from its class and the tables of comparisons and scores."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from command_output import described
from equations import with_equations
from links import ROOT
from logged_metrics import logged_metrics
from markdown_text import code, escape, fence, table

from datasets_io.quantities import whole_number
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.commands.algos import algos, hyperparameter, plain

HERE = Path(__file__).parent
SCORES = ROOT / "tests" / "learning" / "scores.csv"
UNPUBLISHED = "halfcheetah-medium"
"""Data set of the scores that is a file of the maintainers."""


def read(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


FAMILIES = {row["family"]: row["when"] for row in read(HERE / "families.csv")}
"""When to use the algorithms of a family."""
METRICS = {row["metric"]: row["meaning"] for row in read(HERE / "metrics.csv")}
"""Meanings of the metrics that algorithms log."""


def algorithm_page(name: str) -> str:
    """Return the page of an algorithm of the catalogue."""
    page, entry = described(algos, name), CATALOGUE[name]
    _, _, text = page["description"].partition("\n")
    method, difference, differences = text.partition("\nDifferences")
    parts = [
        f"# {name}",
        f"**{escape(entry.summary[:1].upper() + entry.summary[1:])}.** {escape(entry.paper)}. "
        f"Family: {entry.family}; actions: {page['actions']}. "
        f"[Source file](../source/platform/off2on/algorithms/{name}.py.md).",
        "## When to use it",
        _when(name, page),
        "## Use",
        _use(name, page),
        "## Method",
        with_equations(method),
    ]
    if difference:
        parts += ["## Differences from the paper", with_equations(_capital(differences))]
    parts += ["## Hyperparameters", settings_table("hyperparameter", page["hyperparameters"])]
    if page["presets"]:
        parts += ["### Presets", _presets(page)]
    parts += ["## Objectives and logged metrics", _objectives(name)]
    parts += ["## Comparison with references", _fidelity(name, page), "## Scores", _scores(name)]
    parts += ["## Augmentations", _augmentations(page)]
    return "\n\n".join(parts) + "\n"


def _capital(text: str) -> str:
    text = text.lstrip(":").strip()
    return text[:1].upper() + text[1:]


def _when(name: str, page: Mapping[str, Any]) -> str:
    lines = [
        escape(page["when"]),
        f"*The family:* {FAMILIES[CATALOGUE[name].family]} See [choosing an algorithm](../choosing.md).",
    ]
    if page["paper_options"]:
        lines.append(f"The paper's online phase: `{page['paper_options']}`.")
    return "\n\n".join(lines)


def _use(name: str, page: Mapping[str, Any]) -> str:
    kind = CATALOGUE[name].target.partition(":")[2]
    data, *words = page["try"].split()[3:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    updates = f"{whole_number(options['--updates']):_}"
    strategy = f', strategy="{options["--strategy"]}"' if "--strategy" in options else ""
    steps = f"{whole_number(options['--online']):_}" if "--online" in options else ""
    online = f".online({steps}{strategy})" if steps else ""
    shell = f"off2on data add {data} --if-missing\n{page['try']}"
    python = (
        f"from off2on.algorithms.{name} import {kind}\n\n"
        f'config = {kind}.configure("{data}").offline({updates}){online}\n'
        "with config.build_algo() as algo:\n    while not algo.finished:\n        algo.train()"
    )
    return fence(shell) + "\n\n" + fence(python, "python")


def settings_table(head: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of hyperparameters or options: default, range, search range and meaning."""
    rows = []
    for key, setting in settings.items():
        given, allowed, search, meaning = hyperparameter(setting)
        rows.append([code(key), code(given), escape(allowed), escape(search), escape(meaning)])
    return table([head, "default", "range", "search range", "meaning"], rows)


def _presets(page: Mapping[str, Any]) -> str:
    rows = [
        [code(preset), " ".join(code(f"{key}={plain(given)}") for key, given in values.items())]
        for preset, values in page["presets"].items()
    ]
    return table(["preset", "values"], rows)


def _objectives(name: str) -> str:
    kind = find_algorithm(name)
    order = []
    for objective in kind.objectives_in_order():
        often = "" if objective.every == 1 else f" (every {objective.every} updates)"
        order.append(f"`{objective.name}`{often}")
    losses = [f"`{objective.name}/loss`" for objective in kind.objectives_in_order()]
    rows = [[code(metric), escape(_meaning(metric))] for metric in logged_metrics(kind)]
    text = f"Each update trains, in this order: {', '.join(order)}. `metrics.csv` has {', '.join(losses)}"
    if not rows:
        return f"{text}."
    text += ", and (some only with certain hyperparameters)"
    return f"{text}:\n\n{table(['metric', 'meaning: a mean over the batch'], rows)}"


def _meaning(metric: str) -> str:
    if metric not in METRICS:
        raise LookupError(f"'{metric}' has no meaning in platform/docs/generate/metrics.csv")
    return METRICS[metric]


def _fidelity(name: str, page: Mapping[str, Any]) -> str:
    if not page["fidelity"]:
        return "Not compared yet."
    keys = ("loss", "reference", "relation", "loss_error", "gradient_error")
    rows = [[escape(row[key]) for key in keys] for row in page["fidelity"]]
    text = (
        "Largest relative errors of the losses and their gradients, with the same weights, batch and random "
        f"numbers. Command: `make fidelity`; `pytest tests/fidelity -k {name}` compares only algorithms "
        "whose names contain this one."
    )
    return f"{text}\n\n{table(['loss', 'reference', 'relation', 'loss error', 'gradient error'], rows)}"


def _scores(name: str) -> str:
    rows = [row for row in read(SCORES) if row["algorithm"] == name]
    if not rows:
        return "Not measured. `make learn` measures the scores that are missing."
    text = (
        "Return after a short offline training: interquartile mean of the seeds with its 95 % bootstrap "
        "interval. Such short runs rank algorithms by how fast they begin to learn, not by their final "
        f"score. Command: `pytest -m learning -s tests/learning/test_scores.py -k {_only(name)}`, or `make "
        "learn`."
    )
    if any(row["data"] == UNPUBLISHED for row in rows):
        text += (
            f" {UNPUBLISHED} is [not published](../algorithms.md#the-data-of-the-scores): without its file "
            "the test skips that row."
        )
    cells = [
        [
            row["data"],
            row["updates"],
            code(row["settings"]),
            row["data_return"],
            f"{row['iqm']} ({row['low']} to {row['high']})",
            ", ".join(row["seeds"].split()),
        ]
        for row in rows
    ]
    head = ["data", "updates", "settings", "mean return of the data", "score", "each seed"]
    return f"{text}\n\n{table(head, cells)}"


def _only(name: str) -> str:
    """Return the choice of pytest for an algorithm, without others whose names contain its name."""
    others = [other for other in CATALOGUE if name in other and other != name]
    return f'"{name} and not ({" or ".join(others)})"' if others else name


def _augmentations(page: Mapping[str, Any]) -> str:
    rows = [
        [
            code(f"{each['name']}:{each['default']:g}"),
            escape(each["range"]),
            escape(f"{each['summary']}; {each['number']}"),
        ]
        for each in page["augmentations"]
    ]
    return table(["`augment=`", "range", "meaning"], rows)
