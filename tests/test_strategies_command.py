"""``off2on strategies``: every setting is listed, and pages can be read by programs."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from datasets_io.quantities import whole_number
from off2on import algorithms
from off2on.commands.strategies import strategies
from off2on.errors import UnknownName
from off2on.online.settings import OnlineSettings
from off2on.strategies import CATALOGUE, find_strategy


def output(*words: str) -> str:
    result = CliRunner().invoke(strategies, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_list_has_every_strategy_and_every_online_setting():
    page = output()
    for name, (_, summary) in CATALOGUE.items():
        assert f"\n{name} " in page
        assert summary in page
    assert all(f"\n{setting} " in page for setting in OnlineSettings.rules())
    assert max(map(len, page.splitlines())) <= 120


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_page_has_the_description_the_options_and_the_online_settings(name: str):
    text, page = output(name), json.loads(output(name, "--json"))
    kind = find_strategy(name)
    assert page["description"].splitlines()[0] in text
    assert page["options"].keys() == kind.Options.rules().keys()
    assert page["online_settings"] == dict(kind.online_settings)
    assert all(f"online.{setting}=" in text for setting in kind.online_settings)
    words = page["try"].split()
    steps = whole_number(words[words.index("--online") + 1])
    assert OnlineSettings.resolve(kind, {}, algorithms.find_algorithm("cql")).updates_due(steps) > 0
    assert page["file"].endswith(f"strategies/{name}.py")


def test_the_list_as_json_can_be_read_by_programs():
    listed: dict[str, Any] = json.loads(output("--json"))
    assert [row["name"] for row in listed["strategies"]] == list(CATALOGUE)
    assert listed["online_settings"]["utd"]["default"] == 1.0


PAPER = [name for name, entry in algorithms.CATALOGUE.items() if entry.paper_options]


@pytest.mark.parametrize("name", PAPER)
def test_the_online_phase_of_an_algorithms_paper_can_be_typed(name: str):
    words = algorithms.CATALOGUE[name].paper_options.split()
    strategy = find_strategy(words[words.index("--strategy") + 1])
    given = dict(word.removeprefix("online.").split("=") for word in words if word.startswith("online."))
    resolved = OnlineSettings.resolve(strategy, given, algorithms.find_algorithm(name))
    assert all(getattr(resolved, key) == float(value) for key, value in given.items())


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="wamr_start") as caught:
        CliRunner().invoke(strategies, ["wamr_start"], catch_exceptions=False)
    assert "warm_start" in caught.value.hint
