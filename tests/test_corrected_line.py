"""The line to paste after an error has each option once, with the suggested value."""

import shlex

import pytest

from off2on.commands.corrected_line import with_options


@pytest.mark.parametrize(
    ("given", "suggested", "line"),
    [
        ("train iql toy --seeds 1 --together", "--seeds 4 --together", "train iql toy --seeds 4 --together"),
        ("train iql toy --learners=8 beta=2", "--learners 1", "train iql toy beta=2 --learners 1"),
        ("train iql toy --online 0 beta=2", "--online 20k", "train iql toy beta=2 --online 20k"),
        ("train iql toy --resume", "--resume", "train iql toy --resume"),
        ("train iql toy --learner 8", "--learners 1", "train iql toy --learner 8 --learners 1"),
        ("train iql toy", "--learners 2 --workers 3", "train iql toy --learners 2 --workers 3"),
        (
            "data add --columns obs=x a.csv rewards=r --name n",
            "--columns step=t",
            "data add a.csv rewards=r --name n --columns obs=x step=t",
        ),
        (
            "data add a.csv --columns obs=x --columns step=u actions=v",
            "--columns step=t",
            "data add a.csv actions=v --columns obs=x step=t",
        ),
    ],
)
def test_no_option_is_there_twice(given: str, suggested: str, line: str) -> None:
    assert shlex.join(with_options(given.split(), suggested.split())) == line


def test_a_value_with_the_wrong_name_is_left_out() -> None:
    line = with_options(
        ["data", "add", "a.csv", "--columns", "plce=x", "rewards=r"], ["--columns", "obs=x"], "plce"
    )
    assert line == ["data", "add", "a.csv", "rewards=r", "--columns", "obs=x"]
