"""The documentation's table of algorithms, made of the catalogue, the table of fidelity and the scores."""

import csv
from itertools import groupby
from pathlib import Path

from off2on.algorithms import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "platform" / "docs" / "algorithms.md"
FIDELITY = ROOT / "platform" / "off2on" / "algorithms" / "fidelity.csv"
SCORES = ROOT / "tests" / "learning" / "scores.csv"
BEGIN, END = "<!-- algorithms: make fidelity -->", "<!-- end of algorithms -->"
HEAD = """| name | paper | held against | largest error: loss / gradient | toy data | halfcheetah-medium |
|---|---|---|---|---|---|"""


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV, none if it is not there."""
    if not file.exists():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def table() -> str:
    """The whole block, markers included."""
    compared, scores = read(FIDELITY), read(SCORES)
    lines = [BEGIN, HEAD]
    for family, group in groupby(CATALOGUE.items(), key=lambda item: item[1].family):
        lines.append(f"| **{family}** | | | | | |")
        for name, entry in group:
            rows = [row for row in compared if row["algorithm"] == name]
            file = entry.target.partition(":")[0].replace(".", "/")
            lines.append(
                f"| [`{name}`](../{file}.py) | {entry.paper} | {_references(rows)} | {_errors(rows)} "
                f"| {_score(scores, name, 'toy')} | {_score(scores, name, 'halfcheetah-medium')} |"
            )
    return "\n".join([*lines, END])


def _references(rows: list[dict[str, str]]) -> str:
    kinds = dict.fromkeys("d3rlpy" if "d3rlpy" in row["reference"] else "paper" for row in rows)
    return ", ".join(kinds) or "–"


def _errors(rows: list[dict[str, str]]) -> str:
    def largest(column: str) -> str:
        found = [float(row[column]) for row in rows if row[column]]
        return f"{max(found):.0e}".replace("e-0", "e-").replace("0e+00", "0") if found else "–"

    return f"{largest('loss_error')} / {largest('gradient_error')}"


def _score(scores: list[dict[str, str]], name: str, data: str) -> str:
    for row in scores:
        if row["algorithm"] == name and row["data"].startswith(data):
            numbers = [f"{float(row[key]):,.0f}".replace("-", "−") for key in ("iqm", "low", "high")]
            return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
    return "–"


def embed(text: str) -> str:
    """A text with the block between its markers brought up to date."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + table() + after
