"""The table itself: no algorithm is missing from it, no loss, and the page shows what it says."""

import pytest
from readme import FIDELITY, PAGE, embed, read

from off2on.algorithms import CATALOGUE, find_algorithm


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_of_every_algorithm_was_held_against_a_reference(name: str):
    rows = [row for row in read(FIDELITY) if row["algorithm"] == name]
    objectives = {objective.name for objective in find_algorithm(name).objectives_in_order()}
    assert objectives <= {row["loss"].partition(",")[0] for row in rows}
    for row in rows:
        assert row["reference"]
        assert row["relation"]
        assert float(row["loss_error"]) < 1e-3
    for objective in objectives:
        errors = [row["gradient_error"] for row in rows if row["loss"].partition(",")[0] == objective]
        assert any(error and float(error) < 1e-3 for error in errors), objective


def test_the_table_has_no_algorithm_that_is_gone():
    assert {row["algorithm"] for row in read(FIDELITY)} <= set(CATALOGUE)


def test_the_page_shows_the_table():
    text = PAGE.read_text()
    assert embed(text) == text, "make fidelity"
