"""``off2on algos`` as its users meet it: real processes."""

import csv
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any
from unittest import mock

import command
import pytest

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.commands import algos
from off2on.recipe.hyperparameters import Hyperparameters
from off2on.replay.augmentation import catalogue

OFF2ON = Path(sys.executable).with_name("off2on")
FIDELITY = Path(algos.__file__).parents[1] / "algorithms" / "fidelity.csv"
EXPANDED = '''
from dataclasses import dataclass
from off2on.algorithms.iql import IQL, IQLHyperparameters
from off2on.recipe.hyperparameters import hp


@dataclass(frozen=True)
class Own(IQLHyperparameters):
    shyness: float = hp(0.5, "how much it hesitates", least=0, search=("choice", 0.1, 0.5))
    presets = {"forklifts": {"shyness": 0.9, "hidden": (64, 64)}}


class Lean(IQL):
    """IQL without a critic's data."""

    Hyperparameters = Own
'''


@cache
def off2on(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A verb on a screen of 120 columns; the same words are run once."""
    with mock.patch.dict(os.environ, COLUMNS="120"):
        return command.off2on(cwd or Path.cwd(), *words)


@cache
def page_of(*words: str) -> Any:
    """A page as JSON, in this process: a process of its own takes seconds for each of thirty pages."""
    with redirect_stdout(StringIO()) as printed:
        algos.algos.main([*words, "--json"], standalone_mode=False)
    return json.loads(printed.getvalue())


# The catalogue.


def test_the_listing_groups_every_algorithm_under_its_family_once():
    done = off2on("algos")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = lines[0].split()
    assert head == ["name", "lines", "paper", "summary"]
    found: list[tuple[str, str]] = []
    family = ""
    for line in lines[1:]:
        if line and not line.startswith(" "):
            family = line
        elif line.startswith("  ") and line[2] != " ":
            found.append((family, line.split()[0]))
    families = [family for family, _ in groupby(CATALOGUE.values(), key=lambda entry: entry.family)]
    assert len(set(families)) == len(families)  # the catalogue itself is grouped
    assert found == [(entry.family, name) for name, entry in CATALOGUE.items()]


def test_a_line_says_how_long_the_file_is_whose_paper_it_is_and_what_it_does():
    text = off2on("algos").stdout
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["td3_bc"]]
    file = Path(sys.modules[find_algorithm("td3_bc").__module__].__file__ or "")
    for part in (str(len(file.read_text().splitlines())), "Fujimoto & Gu 2021", "TD3 with a behaviour"):
        assert part in line


@pytest.mark.parametrize("words", [("algos",), ("algos", "iql")])
def test_tables_fit_the_screen(words: tuple[str, ...]):
    lines = off2on(*words).stdout.splitlines()
    tables = [line for line in lines if not line.startswith("    ")]  # equations are as they are
    assert max(map(len, tables)) <= 120


def test_the_listing_in_json():
    rows = page_of()
    assert [row["name"] for row in rows] == list(CATALOGUE)
    for row in rows:
        entry = CATALOGUE[row["name"]]
        assert (row["family"], row["paper"], row["summary"]) == (entry.family, entry.paper, entry.summary)
        assert 10 < row["lines"] <= 150


# A page.


def test_a_page_holds_what_there_is_to_know():
    page = page_of("iql")
    kind = find_algorithm("iql")
    assert page["family"] == CATALOGUE["iql"].family
    assert page["paper"] == CATALOGUE["iql"].paper
    assert page["actions"] == "continuous"
    assert "L_V" in page["description"]
    assert "arXiv:2110.06169" in page["description"]
    assert page["file"].endswith("iql.py")
    assert list(page["hyperparameters"]) == list(kind.Hyperparameters.rules())
    tau = page["hyperparameters"]["expectile"]
    assert (tau["default"], tau["range"]) == (0.7, "(0, 1)")
    assert tau["search"][0] in ("log", "uniform", "choice")
    assert "mean" in tau["meaning"]
    assert page["hyperparameters"]["augment"]["range"] == "NAME:NUMBER,…"
    assert page["presets"] == json.loads(
        json.dumps({n: dict(v) for n, v in kind.Hyperparameters.presets.items()})
    )
    assert page["augmentations"][0] == {
        "name": "top",
        "summary": catalogue.CATALOGUE["top"][1],
        "number": "share of the episodes that is kept, at least one",
        "range": "(0, 1]",
        "default": 0.1,
    }


def test_the_page_in_words_says_the_same():
    text, page = off2on("algos", "iql").stdout, page_of("iql")
    assert text.startswith("IQL: ")
    for part in (page["description"], f"({page['lines']} lines)", "off2on train iql toy-pendulum"):
        assert part in text
    assert page["when"] in " ".join(text.split())
    lines = text.splitlines()
    for name in page["hyperparameters"]:
        assert any(line.split()[:1] == [name] for line in lines), name
    for preset, values in page["presets"].items():
        ((first, *_),) = [lines[number:] for number, line in enumerate(lines) if line.split()[:1] == [preset]]
        more = takewhile(lambda line: line.startswith(" "), lines[lines.index(first) + 1 :])
        described = " ".join([first, *more])
        assert all(f"{name}=" in described for name in values)
    for word in page["augmentations"]:
        assert any(line.startswith(f"{word['name']}:{word['default']:g} ") for line in lines)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("bc", {"mixup", "steps", "bootstrap"}),
        ("dqn", set()),
        ("qc", {"mixup", "steps"}),
        ("dt", {"noise", "uniform", "amplitude", "dropout", "mixup", "steps", "bootstrap"}),
    ],
)
def test_only_the_augmentations_that_fit_are_listed(name: str, absent: set[str]):
    listed = {word["name"] for word in algos._page(name)["augmentations"]}
    assert listed == set(catalogue.CATALOGUE) - absent


def test_an_algorithm_of_another_package_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "forklift_rl.py").write_text(EXPANDED)
    metadata = tmp_path / "forklift_rl-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: forklift-rl\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[off2on.algorithms]\nlean = forklift_rl:Lean\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_algorithm("lean").__name__ == "Lean"
    page = algos._page("lean")
    assert page["hyperparameters"]["shyness"]["default"] == 0.5
    assert page["try"] == "off2on train lean toy-pendulum --updates 10k --online 5k"
    (row,) = (row for row in algos._catalogue() if row["family"] == algos.OTHERS)
    assert (row["name"], row["summary"], row["target"]) == ("lean", "from forklift_rl", "forklift_rl:Lean")


def test_a_discrete_algorithm_is_tried_on_discrete_data():
    assert "off2on train dqn toy-cartpole" in off2on("algos", "dqn").stdout


@pytest.mark.parametrize("name", ["iql", "sac"])
def test_fidelity_is_the_tables(name: str):
    rows = []
    if FIDELITY.is_file():
        with FIDELITY.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.pop("algorithm") == name]
    assert page_of(name)["fidelity"] == rows


def test_fidelity_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "fidelity.csv").write_text(
        "algorithm,loss,reference,relation,loss_error,gradient_error\n"
        "iql,value,d3rlpy 2.8.1,=,1.2e-07,3.4e-07\n"
        "iql,critic,plain loops,2 x theirs,0.0e+00,\n"
        "bc,actor,d3rlpy 2.8.1,=,9.9e-08,9.9e-08\n"
    )
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    page = algos._page("iql")
    assert [row["loss"] for row in page["fidelity"]] == ["value", "critic"]
    algos._show(page)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["value", "1.2e-07", "3.4e-07", "=", "d3rlpy", "2.8.1"] in printed
    assert ["critic", "0.0e+00", "–", "2", "x", "theirs", "plain", "loops"] in printed


def test_a_users_own_algorithm_has_a_page(tmp_path: Path):
    (tmp_path / "my_own_lab.py").write_text(EXPANDED)
    done = off2on("algos", "my_own_lab:Lean", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert (page["file"], page["family"], page["paper"]) == ("my_own_lab.py", None, None)
    assert page["hyperparameters"]["shyness"] == {
        "default": 0.5,
        "range": "≥ 0",
        "meaning": "how much it hesitates",
        "search": ["choice", 0.1, 0.5],
    }
    assert page["presets"] == {"forklifts": {"shyness": 0.9, "hidden": [64, 64]}}
    text = off2on("algos", "my_own_lab:Lean", cwd=tmp_path).stdout
    assert "forklifts  shyness=0.9 hidden=64,64" in text
    assert "0.1,0.5" in text


def test_an_unknown_algorithm_is_refused_with_the_nearest():
    done = off2on("algos", "iqll")
    assert done.returncode == 2
    assert "nearest: iql" in done.stderr
    assert "off2on algos iql" in done.stderr


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_page_can_be_made(name: str, capsys: pytest.CaptureFixture[str]):
    page = algos._page(name)
    assert json.loads(json.dumps(page))["name"] == name
    shared = set(Hyperparameters.rules())
    assert shared <= set(page["hyperparameters"])
    algos._show(page)
    assert f"off2on train {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("iql", "--updates 10k --online 5k"),
        ("dt", "--updates 10k"),
        ("rlpd", "--updates 0 --strategy rlpd --online 5k"),
    ],
)
def test_the_line_to_try_has_the_phases_that_the_algorithm_has(name: str, tail: str):
    with redirect_stdout(StringIO()) as printed:
        algos.algos.main([name], standalone_mode=False)
    assert f"off2on train {name} toy-pendulum {tail}\n" in printed.getvalue()
