"""The fields of errors, and their way across processes."""

import pickle

import pytest

from datasets_io.errors import UnknownName, UserError
from off2on.training.located_yaml import COMMAND_LINE, LocatedValue

KNOWN = ("expectile", "beta", "actor_lr")


class Refused(UserError):
    """An error of somebody's source, whose arguments are its own."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"{rows} rows", where="trips.csv:3")


def test_the_nearest_name_is_a_field_and_is_shown_before_what_was_expected() -> None:
    error = UnknownName(
        "no 'expctile'.", "All: …", "off2on algos", given="expctile", known=KNOWN, where="a:3"
    )
    assert (error.given, error.nearest, error.where, error.try_) == (
        "expctile",
        "expectile",
        "a:3",
        "off2on algos",
    )
    assert str(error) == "a:3: no 'expctile'.\n       nearest: expectile. All: …\n  try: off2on algos"
    assert UnknownName("x", given="zzz", known=KNOWN).nearest == ""
    assert UnknownName("x", given="beta", known=(*KNOWN, "beta2")).nearest == ""  # it is not misspelt
    assert UserError("x", known=KNOWN).hint == ""


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("expctile=0.9", "expectile=0.9"),
        ("online.expctile: 1", "online.expectile: 1"),
        ("my-expctile", "my-expctile"),
        ("expctiles", "expctiles"),
    ],
)
def test_a_text_is_corrected_word_by_word(text: str, fixed: str) -> None:
    assert UserError("x", given="expctile", known=KNOWN).corrected(text) == fixed
    assert UserError("x", given="expctile").corrected(text) == text


@pytest.mark.parametrize(
    "error", [UnknownName("what", "expected", "try", given="betta", known=KNOWN, where="f:1"), Refused(3)]
)
def test_fields_survive_pickling(error: UserError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert str(again) == str(error)


def test_a_located_value_adds_its_location_and_the_corrected_line() -> None:
    value = LocatedValue("0.9", "search.yaml:4", "  expctile: 0.9")
    with pytest.raises(UnknownName) as caught, value.located():
        raise UnknownName("x", try_="off2on algos", given="expctile", known=KNOWN)
    assert (caught.value.where, caught.value.try_) == ("search.yaml:4", "expectile: 0.9")
    with pytest.raises(UserError) as caught, LocatedValue("", COMMAND_LINE).located(), value.located():
        raise UserError("x", try_="off2on algos")
    assert (caught.value.where, caught.value.try_) == ("search.yaml:4", "off2on algos")
    assert LocatedValue("", COMMAND_LINE).wrong("x", "", "by: random").try_ == "by=random"
