"""Files of guards, trials and searches that somebody changed."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from found import make_search
from made_runs import BOMB

from datasets_io.errors import Corrupt
from off2on.errors import UserError
from off2on.reports.search import write_search_report
from off2on.reports.search.record import load_search
from off2on.search.reading import read as read_search
from off2on.search.searcher import domain
from off2on.search.spec import Dimension
from off2on.search.trial_store import TrialStore
from off2on.training.guard import Guard
from off2on.training.located_yaml import LocatedValue, read_yaml


def test_a_damaged_guard_is_refused():
    valid = Guard.load(
        yaml.safe_dump({"options": {"margin": 0.1}, "handover": [1.0, 2.0], "home": "handover", "trials": []})
    )
    valid.decide(1, "000001", [2.0, 3.0], [])
    plain = yaml.safe_load(valid.dump())
    assert Guard.load(valid.dump()) == valid
    for field, value in (
        ("handover", []), ("handover", [float("nan")]), ("handover", [1.0]), ("home", "../../x"),
        ("home", "/etc"),
        ("options", {"margn": 1}), ("options", {"margin": "x"}), ("trials", [{}]), ("trials", 1),
        *(("trials", [plain["trials"][0] | wrong]) for wrong in ({"serving": "../x"}, {"decision": "go"})),
    ):  # fmt: skip
        with pytest.raises(UserError):
            Guard.load(yaml.safe_dump(plain | {field: value}))


@pytest.mark.parametrize(
    "row",
    [
        {"trial": "../../etc"}, {"trial": "x", "folder": "/"}, {"score": "1e308"}, {"low": "x"},
        {"updates": "many"}, {"seconds": "1e200"},
    ],
)  # fmt: skip
def test_a_damaged_row_of_a_search_is_refused_with_its_line(row: dict[str, str], tmp_path: Path):
    search = make_search(tmp_path / "search", [{"score": 1, "beta": 1}, {"score": 1, "beta": 2} | row])
    with pytest.raises(Corrupt, match=r"trials\.csv:3"):
        load_search(search)


@pytest.mark.parametrize(
    "values", [("$\\frac$", "$x$"), ("a" * 900, "b" * 900), ("1e308", "-1e308"), ("inf", "<script>")]
)
def test_odd_values_of_a_search_are_shown(values: tuple[str, str], tmp_path: Path):
    rows = [{"score": score, values[0]: value, "beta": value} for score, value in enumerate((*values, "1"))]
    page, _ = write_search_report(make_search(tmp_path / "search", rows))
    assert isinstance(page, Path)
    assert "<script" not in page.read_text()


def test_a_damaged_trial_is_refused(tmp_path: Path):
    store = TrialStore(tmp_path, ["beta"])
    trial = store.add("00001", {"beta": 1.0}, {"beta": "1"})
    assert TrialStore(tmp_path, ["beta"]).trials == [trial]
    file = tmp_path / "trials/000/trial.yaml"
    for content in ("", "[]", "name: '000'", file.read_text().replace("'000'", "../x"), BOMB, "name: ["):
        file.write_text(content)
        with pytest.raises(Corrupt, match=r"trial\.yaml"):
            TrialStore(tmp_path, ["beta"])


SEARCH = "algorithm: iql\ndata: toy-pendulum\nsearch:\n  beta: {between: [1, 2]}\n"
SEARCHES = {
    "an alias": ("with: &a {hidden: 8}\nout: *a\n", ":6"),
    "many seeds": ("seeds: 1000000000\n", ":5"),
    "many trials": ("trials: 1e15\n", ":5"),
    "a quote": ("with: {hidden: '8}\n", ":"),
    "a list as a name": ("? [a, b]\n: 1\n", ":5"),
    "deep": ("with: " + "[" * 500 + "\n", ":5"),
    "a tab": ("with:\n\thidden: 8\n", ":6"),
    "a large grid": ("by: grid\nwith: {hidden: 8}\n", ":"),
}


@pytest.mark.parametrize("wrong", SEARCHES)
def test_a_wrong_search_file_is_refused_with_its_line(wrong: str, tmp_path: Path):
    text, told = SEARCHES[wrong]
    start = SEARCH
    if wrong == "a large grid":
        names = (
            "beta",
            "expectile",
            "weight_clip",
            "value_lr",
            "critic_lr",
            "actor_lr",
            "discount",
            "polyak",
        )
        lists = {name: {"one_of": [0.5 + number / 100 for number in range(40)]} for name in names}
        start = yaml.safe_dump({"algorithm": "iql", "data": "toy-pendulum", "search": lists})
    (tmp_path / "search.yaml").write_text(start + text)
    with pytest.raises(UserError) as refused:
        read_search(tmp_path / "search.yaml")
    assert f"search.yaml{told}" in str(refused.value)


def test_a_large_or_special_file_of_a_search_is_not_read(tmp_path: Path):
    (tmp_path / "search.yaml").write_bytes(b"a: b\n" * 2**20)
    for file in (tmp_path / "search.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError):
            read_yaml(file)


@pytest.mark.parametrize(
    ("kind", "bounds", "expected"),
    [
        ("between", ("1.5", "4"), {2, 3, 4}),
        ("between", ("1", "2.5"), {1, 2}),
        ("between", ("1.5", "2.5"), {2}),
        ("log_between", ("0.6", "3.9"), {1, 2, 3}),
    ],
)
def test_whole_numbers_are_drawn_within_fractional_bounds(
    kind: str, bounds: tuple[str, str], expected: set[int]
):
    dimension = Dimension("x", kind, bounds, True, LocatedValue("", ""))
    rng = np.random.default_rng(0)
    assert {int(domain(dimension).sample(random_state=rng)) for _ in range(200)} == expected
    assert {int(dimension.as_text(bound)) for bound in dimension.bounds} == {min(expected), max(expected)}


def test_a_range_without_a_whole_number_is_refused(tmp_path: Path):
    (tmp_path / "search.yaml").write_text(
        SEARCH.replace("beta: {between: [1, 2]}", "batch_size: {between: [16.2, 16.8]}")
    )
    with pytest.raises(UserError, match=r"search\.yaml:4(.|\n)*no whole number: got 16\.2, 16\.8"):
        read_search(tmp_path / "search.yaml")
