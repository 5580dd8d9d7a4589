"""Links between the pages of the documentation lead to files that exist."""

import csv
import re
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


def test_the_shares_of_successes_are_those_of_the_file():
    page = (ROOT / "platform" / "docs" / "results.md").read_text(encoding="utf-8")
    updates = [1000 * thousands for thousands in range(10, 101, 10)]
    assert f"| options | {' | '.join(str(one // 1000) for one in updates)} |" in page
    shares: dict[tuple[str, str], dict[int, str]] = {}
    with (ROOT / "tests" / "learning" / "ogbench.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            share = f"{int(row['successes']) / int(row['episodes']):.0%}".replace("%", " %")
            shares.setdefault((row["algorithm"], row["options"]), {})[int(row["updates"])] = share
    assert len(shares) == 5
    for (algorithm, options), found in shares.items():
        given = f" `{options}` " if options else " "
        row_of_page = " | ".join(found.get(one, "–") for one in updates)
        assert f"| `{algorithm}` |{given}| {row_of_page} |" in page
