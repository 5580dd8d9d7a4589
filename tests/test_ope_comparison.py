"""The lines of `off2on ope` about two policies."""

from typing import Any

import pytest

from off2on.commands.ope import _comparison_lines


def result(run: str, *estimates: tuple[str, float, float, float, str]) -> dict[str, Any]:
    names = ("method", "value", "low", "high", "trust")
    return {
        "run": run,
        "checkpoint": "last",
        "estimates": [dict(zip(names, each, strict=True)) for each in estimates],
    }


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (
            ("fqe", -540.0, -667.0, -413.0, "no warnings"),
            ("fqe", -738.0, -762.0, -715.0, "use with care"),
            "fqe: a (last) is higher by 198.0, the intervals do not overlap",
        ),
        (
            ("fqe", -540.0, -567.0, -513.0, "no warnings"),
            ("fqe", -500.0, -520.0, -480.0, "no warnings"),
            "fqe: b (last) is higher by 40.0, the intervals overlap",
        ),
        (
            ("fqe", 5.0, 4.0, 6.0, "do not use"),
            ("fqe", 1.0, 0.0, 2.0, "no warnings"),
            "fqe: a (last) is higher by 4.00, the intervals do not overlap; an estimate is not to be used",
        ),
    ],
)
def test_the_higher_estimate_is_named_with_the_difference(first: Any, second: Any, text: str):
    assert list(_comparison_lines(result("a", first), result("b", second))) == [("comparison", text)]


def test_a_method_that_one_policy_lacks_is_not_compared():
    fqe, wis = ("fqe", 1.0, 0.0, 2.0, "no warnings"), ("wis", 1.0, 0.0, 2.0, "no warnings")
    lines = list(_comparison_lines(result("a", wis, fqe), result("b", fqe)))
    assert lines == [("comparison", "fqe: the estimates are equal")]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_policy_without_an_estimate_is_not_compared(is_first: bool):
    nan = float("nan")
    both = [("wis", nan, nan, nan, "do not use"), ("wis", 1.0, 0.0, 2.0, "no warnings")]
    first, second = both if is_first else both[::-1]
    lines = list(_comparison_lines(result("a", first), result("b", second)))
    assert lines == [("comparison", "wis: one of the policies has no estimate")]
