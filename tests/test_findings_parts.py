"""The parts of a search's page, each by itself: axes, policies, the forest."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from found import SEARCH, Page, make_search, make_seeds

from off2on.reports.search import write_search_report
from off2on.reports.search.importance import importance
from off2on.reports.search.policies import policies
from off2on.reports.search.record import SearchRecord, load_search


def test_axes_are_logarithmic_where_the_search_or_the_values_are(tmp_path: Path) -> None:
    rows = [
        {"score": 1, "expectile": 0.5, "beta": 1, "actor_lr": 1e-4, "reward": "raw", "other": 3},
        {"score": 2, "expectile": 0.9, "beta": 2, "actor_lr": 1e-3, "reward": "", "other": "none"},
    ]
    search = load_search(make_search(tmp_path / "search", rows))
    axes = {axis.name: axis for axis in search.axes(search.trials)}
    assert {name for name, axis in axes.items() if axis.log} == {"beta", "actor_lr"}
    assert axes["reward"].words == ["raw"]
    np.testing.assert_array_equal(axes["reward"].values, [np.nan, 0])
    assert axes["other"].words == ["3", "none"]


def seeds_of(search: Path, **metadata: Any) -> SearchRecord:
    """Two finished trials, the second with the defaults, and one that was stopped."""
    rows = [{"score": 5, "beta": 1}, {"score": 4, "beta": 3.0}, {"score": 9, "status": "stopped", "beta": 2}]
    make_search(search, rows, SEARCH | metadata)
    make_seeds(search, "0000", [[4, 6], [5, 5, 5]], beta=1.0)
    make_seeds(search, "0001", [[3, 5]])
    make_seeds(search, "0002", [[9, 9]], beta=2.0)
    return load_search(search)


def test_policies_are_the_seeds_of_finished_trials_at_their_last_evaluation(tmp_path: Path) -> None:
    (found,) = policies(seeds_of(tmp_path / "search"))
    assert [each.tolist() for each in found.returns] == [[4, 6], [5, 5, 5], [3, 5]]
    assert (found.default, found.data_return) == (4, -780)


def test_the_policy_before_the_switch_counts_if_its_score_is_maximised(tmp_path: Path) -> None:
    search = seeds_of(tmp_path / "search", maximise="handover_score", online=10)
    run = search.finished[0].runs[0].folder
    with (run / "episodes.csv").open("a") as file:
        file.write("online,310,10,0,0,77,200\n")
    (found,) = policies(search)
    assert found.returns[0].tolist() == [4, 6]
    (found,) = policies(replace(search, metadata={**search.metadata, "maximise": "final_score"}))
    assert found.returns[0].tolist() == [77]


def test_policies_on_different_data_are_not_chosen_among_together(tmp_path: Path) -> None:
    folder = make_search(
        tmp_path / "search", [{"score": 5, "beta": 1}], {**SEARCH, "data": ["toy-pendulum", "<other>"]}
    )
    make_seeds(folder, "0000", [[4, 6], [5, 7]])
    make_seeds(folder, "0000", [[400, 600]], data="<other>")
    told = Page(write_search_report(folder)[0]).words
    assert "Choosing a policy on toy-pendulum by evaluation" in told
    assert "All 2 policies" in told
    assert "There is one policy on <other>: nothing to choose" in told
    assert "normalised, mean over the data sets" in told
    assert (folder / "figures" / "toy-pendulum-choosing.png").is_file()


def test_the_forest_finds_what_matters_also_in_the_middle_and_in_words() -> None:
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.random(24), rng.random(24), rng.integers(0, 3, 24)])
    values[::6, 0] = np.nan  # those that have none
    noise = rng.normal(0, 0.3, 24)
    middle = importance(values, -12 * (values[:, 1] - 0.5) ** 2 + noise)
    assert not middle.why
    assert middle.shares[1] > 0.2 > 4 * max(middle.shares[[0, 2]])
    words = importance(values, 2.0 * (values[:, 2] == 1) + noise)
    assert words.shares[2] > 0.2 > 4 * max(words.shares[:2])


def test_what_cannot_be_said_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values, scores = rng.random((16, 3)), rng.normal(size=16)
    assert "too little to tell" in importance(values, scores).why
    assert importance(values[:11], 9 * values[:11, 0]).why == "11 finished trials are too few: 12 at least"
    assert importance(values, np.ones(16)).why == "all trials score the same"
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)  # as if it could not be imported
    assert "pip install 'off2on[tune]'" in importance(values, scores).why
