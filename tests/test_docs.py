"""Links between the pages of the documentation lead to files that exist."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / "docker" / "README.md",
    *(ROOT / "platform" / "docs").glob("*.md"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    ("name", "columns", "count", "shown"),
    [
        ("ogbench.csv", ("algorithm", "options", "seed", "updates"), 10, range(10, 101, 10)),
        (
            "ogbench_online.csv",
            ("algorithm", "strategy", "seed", "env_steps"),
            12,
            (0, 1, 2, 5, 10, 20, 30, 40, 50),
        ),
    ],
)
def test_the_shares_of_successes_are_those_of_the_file(
    name: str, columns: tuple[str, str, str, str], count: int, shown: Sequence[int]
):
    page = (ROOT / "platform" / "docs" / "results.md").read_text(encoding="utf-8")
    *run, when = columns
    assert f"| {' | '.join([*run, *map(str, shown)])} |" in page
    shares: dict[tuple[str, ...], dict[int, str]] = {}
    with (ROOT / "tests" / "learning" / name).open(newline="") as file:
        for row in csv.DictReader(file):
            share = f"{int(row['successes']) / int(row['episodes']):.0%}".replace("%", " %")
            shares.setdefault(tuple(row[column] for column in run), {})[int(row[when])] = share
    assert len(shares) == count
    for (algorithm, variant, seed), found in shares.items():
        given = f" `{variant}` " if variant else " "
        row_of_page = " | ".join(found.get(1000 * one, "–") for one in shown)
        assert f"| `{algorithm}` |{given}| {seed} | {row_of_page} |" in page
