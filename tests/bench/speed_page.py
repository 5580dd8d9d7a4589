"""Write the table of updates in platform/docs/speed.md from tests/bench/results/updates.csv.

usage: python tests/bench/speed_page.py     after a measurement; `make bench` calls it
"""

from collections.abc import Sequence
from itertools import groupby

from harness import HERE
from updates import FLOOR, OURS, RATE, RESULTS, Row, read

PAGE = HERE.parents[1] / "platform" / "docs" / "speed.md"
BEGIN = "<!-- updates: written by tests/bench/speed_page.py, do not edit -->"
END = "<!-- updates: end -->"
TITLES = {
    "td3_bc": "TD3+BC, 2×256",
    "iql": "IQL, 2×256",
    "awac": "AWAC, 3×256",
    "rebrac": "ReBRAC, 3×256",
    "cql": "CQL, 3×256, 10 actions",
    "cal_ql": "Cal-QL, 3×256, 10 actions",
    "sac_n": "SAC-10, 3×256",
    "edac": "EDAC-10, 3×256",
    "bc": "BC, 2×256",
}
"""Names of the algorithms on the page."""
MISSING = "Not measured yet on a quiet machine: `make bench BENCH=tests/bench/test_updates.py`."
"""What stands in place of the table while there are no results."""


def text(rows: Sequence[Row], line: str) -> str:
    """Return two tables, of rates and of ratios: a line for each algorithm and number of threads."""
    packages = list(dict.fromkeys(row.package for row in rows if row.unit == RATE))
    ours = [name for name in packages if name.startswith(OURS)]
    rates = [["updates per second", "threads", *packages]]
    ratios = [["", "threads", *(f"{name} / fastest peer" for name in ours), f"{FLOOR} / fastest peer"]]
    ratios[0] += [f"{FLOOR} / {name}" for name in ours]
    for (algorithm, threads), group in groupby(rows, key=lambda row: (row.algorithm, row.threads)):
        found = {row.package: row for row in group}
        fastest = next(name.split(" / ")[1] for name in found if name.startswith(f"{OURS} / "))
        first = [TITLES[algorithm], str(threads)]
        cells = [f"{found[name].median:.3g}" if name in found else "–" for name in packages]
        rates.append([*first, *cells])
        rates[-1][2 + packages.index(fastest)] = f"**{found[fastest].median:.3g}**"
        limit = found[FLOOR].median / found[fastest].median
        ratios.append([*first, *(_ratio(found[f"{name} / {fastest}"]) for name in ours), f"{limit:.2f}"])
        ratios[-1] += [_ratio(found[f"{FLOOR} / {name}"]) for name in ours]
    return "\n".join([f"{line}.", "", *_table(rates), "", *_table(ratios)])


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown; the first line is its head."""
    head, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return [head, "| --- " * len(lines[0]) + "|", *others]


def _ratio(row: Row) -> str:
    return f"{row.median:.2f} [{row.min:.2f}, {row.max:.2f}]"


def page(current: str) -> str:
    """Return the page with the table that the results give between the marks."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = text(*read()) if RESULTS.exists() else MISSING
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
