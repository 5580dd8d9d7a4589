"""The page on speed shows what was measured: its table is made from the results, and from nothing else."""

from pathlib import Path

import pytest
import speed_page
import updates

RATES = {
    "off2on": [2.0, 6.0, 4.0],
    "slow": [1.0, 1.0, 1.0],
    "fast": [2.0, 2.0, 4.0],
    "floor": [8.0, 8.0, 8.0],
}
ROWS = [
    row
    for name in updates.ALGORITHMS
    for threads in updates.THREADS
    for row in updates.table(name, threads, RATES)
]


def test_the_page_has_the_table_of_the_results_and_says_so_if_there_are_none():
    current = speed_page.PAGE.read_text(encoding="utf-8")
    assert current == speed_page.page(current), "python tests/bench/speed_page.py"
    assert (speed_page.MISSING in current) is not updates.RESULTS.exists()


@pytest.mark.skipif(not updates.RESULTS.exists(), reason="no results yet: make bench")
def test_the_results_are_complete():
    rows, _ = updates.read()
    expected = {(name, threads) for name in updates.ALGORITHMS for threads in updates.THREADS}
    for package in (updates.OURS, updates.FLOOR):
        assert {(row.algorithm, row.threads) for row in rows if row.package == package} == expected


def test_a_ratio_is_taken_within_each_turn_to_the_fastest_peer():
    found = {row.package: row for row in updates.table("bc", 1, RATES)}
    assert found["off2on / fast"] == updates.Row("off2on / fast", "bc", 1, 1.0, 1.0, 3.0, "ratio")
    assert found["floor / off2on"].median == 2.0
    assert "off2on / slow" not in found


def test_results_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / "updates.csv"
    updates.write(ROWS, "today, here", path)
    assert updates.read(path) == (ROWS, "today, here")


def test_the_table_shows_the_results_and_a_dash_for_what_a_peer_does_not_have():
    without = {name: numbers for name, numbers in RATES.items() if name != "slow"}
    table = speed_page.text(updates.table("bc", 1, RATES) + updates.table("iql", 1, without), "today")
    assert table.splitlines() == [
        "today.",
        "",
        "| updates per second | threads | off2on | slow | fast | floor |",
        "| --- | --- | --- | --- | --- | --- |",
        "| BC, 2×256 | 1 | 4 | 1 | **2** | 8 |",
        "| IQL, 2×256 | 1 | 4 | – | **2** | 8 |",
        "",
        "|  | threads | off2on / fastest peer | floor / fastest peer | floor / off2on |",
        "| --- | --- | --- | --- | --- |",
        "| BC, 2×256 | 1 | 1.00 [1.00, 3.00] | 4.00 | 2.00 [1.33, 4.00] |",
        "| IQL, 2×256 | 1 | 1.00 [1.00, 3.00] | 4.00 | 2.00 [1.33, 4.00] |",
    ]


def test_few_turns_and_a_busy_machine_are_a_trial():
    quiet = updates.circumstances(updates.Protocol(), 0.0)
    assert updates.TRIAL not in quiet
    assert "5 of 0.7 s" in quiet
    assert updates.TRIAL in updates.circumstances(updates.Protocol(turns=1), 0.0)
    assert updates.TRIAL in updates.circumstances(updates.Protocol(), 0.5)
