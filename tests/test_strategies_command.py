"""``off2on strategies``: everything that can be set is on it, and what is typed from it works."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from off2on import algorithms
from off2on.commands.strategies import strategies
from off2on.errors import UnknownName
from off2on.online.settings import OnlineSettings
from off2on.strategies import CATALOGUE, find_strategy


def said(*words: str) -> str:
    result = CliRunner().invoke(strategies, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list_has_every_strategy_and_every_factor():
    page = said()
    for name, (_, summary) in CATALOGUE.items():
        assert f"\n{name} " in page
        assert summary in page
    assert all(f"\n{factor} " in page for factor in OnlineSettings.rules())
    assert max(map(len, page.splitlines())) <= 120


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_page_has_the_paper_the_options_and_what_else_the_paper_does(name: str):
    page, told = said(name), json.loads(said(name, "--json"))
    kind = find_strategy(name)
    assert told["description"].splitlines()[0] in page
    assert told["options"].keys() == kind.Options.rules().keys()
    assert told["online_settings"] == dict(kind.online_settings)
    assert all(f"online.{factor}=" in page for factor in kind.online_settings)
    assert told["file"].endswith(f"strategies/{name}.py")


def test_the_list_as_json_can_be_read_by_programs():
    told: dict[str, Any] = json.loads(said("--json"))
    assert [row["name"] for row in told["strategies"]] == list(CATALOGUE)
    assert told["online_settings"]["utd"]["default"] == 1.0


PAPER = [name for name, entry in algorithms.CATALOGUE.items() if entry.paper_options]


@pytest.mark.parametrize("name", PAPER)
def test_the_online_phase_of_an_algorithms_paper_can_be_typed(name: str):
    words = algorithms.CATALOGUE[name].paper_options.split()
    strategy = find_strategy(words[words.index("--strategy") + 1])
    given = dict(word.removeprefix("online.").split("=") for word in words if word.startswith("online."))
    resolved = OnlineSettings.resolve(strategy, given, algorithms.find_algorithm(name))
    assert all(getattr(resolved, key) == float(value) for key, value in given.items())


def test_a_strategy_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="wamr_start") as caught:
        CliRunner().invoke(strategies, ["wamr_start"], catch_exceptions=False)
    assert "warm_start" in caught.value.expected
