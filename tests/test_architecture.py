import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from off2on import strategies
from off2on.algorithms import CATALOGUE, Entry, find_algorithm
from off2on.errors import UnknownName
from off2on.replay.strategy import Strategy
from off2on.strategies import find_strategy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "platform" / "off2on"


def imported(file: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
    return names


def imports_any(file: Path, *packages: str) -> bool:
    return any(
        name == package or name.startswith(f"{package}.") for name in imported(file) for package in packages
    )


def module_file(target: str) -> Path:
    return ROOT / "platform" / (target.partition(":")[0].replace(".", "/") + ".py")


def test_the_catalogue_of_algorithms_is_the_folder():
    listed = {module_file(entry.target) for entry in CATALOGUE.values()}
    assert listed == set((PACKAGE / "algorithms").glob("*.py")) - {PACKAGE / "algorithms" / "__init__.py"}


def test_the_catalogue_of_strategies_is_the_folder():
    listed = {module_file(target) for target, _ in strategies.CATALOGUE.values()}
    assert listed == set((PACKAGE / "strategies").glob("*.py")) - {PACKAGE / "strategies" / "__init__.py"}


@pytest.mark.parametrize("name", strategies.CATALOGUE)
def test_every_listed_strategy_is_found(name: str):
    assert issubclass(find_strategy(name), Strategy)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_algorithm_is_one_short_file_that_names_its_paper_and_writes_its_losses(entry: Entry):
    file = module_file(entry.target)
    assert len(file.read_text().splitlines()) <= 150
    module = importlib.import_module(entry.target.partition(":")[0])
    text = module.__doc__ or ""
    assert re.search(r"arXiv:\d{4}\.\d{5}|\b(19|20)\d\d\b", text), "no paper"
    paper = re.search(r"arXiv:\d{4}\.\d{5}", entry.paper)
    assert (paper.group() if paper else entry.paper.split()[0]) in text, "the catalogue names another paper"
    cls = getattr(module, entry.target.partition(":")[2])
    for name in vars(cls):
        if written := re.fullmatch(r"compute_(\w+)_loss", name):
            assert re.search(rf"^    {written[1]} +L_\w+ += ", text, re.MULTILINE), (
                f"{name} is not written out"
            )


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_algorithm_imports_neither_ray_nor_numpy(entry: Entry):
    assert not imports_any(module_file(entry.target), "ray", "numpy")


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_algorithm_imports_no_sibling_but_its_parent(entry: Entry):
    module, _, name = entry.target.partition(":")
    parents = {base.__module__ for base in getattr(importlib.import_module(module), name).__mro__}
    siblings = {other.target.partition(":")[0] for other in CATALOGUE.values()}
    assert imported(module_file(entry.target)) & siblings <= parents


def test_only_one_room_knows_rllib():
    know = {file for file in PACKAGE.rglob("*.py") if imports_any(file, "ray.rllib")}
    assert {file.relative_to(PACKAGE).parts[0] for file in know} == {"rllib"}
    assert not [
        file
        for file in (ROOT / "datasets_io").rglob("*.py")
        if imports_any(file, "ray.rllib", "off2on", "torch")
    ]


def test_the_machine_names_no_algorithm():
    words = {
        word.lower() for word in re.findall(r"[A-Za-z0-9_]+", (PACKAGE / "rllib/learner.py").read_text())
    }
    classes = {entry.target.partition(":")[2].lower() for entry in CATALOGUE.values()}
    assert words & ({*CATALOGUE} | classes) == set()


def test_imports_only_go_down():
    tool = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_an_unknown_algorithm_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="iql") as refusal:
        find_algorithm("ikl")
    assert "cql" in str(refusal.value)
    for wrong in (
        "no.such.module:Class",
        "off2on.algorithms.iql:NoSuchClass",
        "off2on.recipe.networks:Critic",
    ):
        with pytest.raises(UnknownName):
            find_algorithm(wrong)


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="balanced"):
        find_strategy("ballanced")
    for wrong in (
        "no.such.module:Class",
        "off2on.strategies.append:Nothing",
        "off2on.recipe.networks:Critic",
    ):
        with pytest.raises(UnknownName):
            find_strategy(wrong)


def test_an_algorithm_is_found_by_its_module_and_class():
    assert find_algorithm("off2on.algorithms.iql:IQL") is find_algorithm("iql")


def test_few_modules_lie_outside_the_rooms():
    def flat(folder: Path) -> set[str]:
        return {file.stem for file in folder.glob("*.py")} - {"__init__"}

    assert len(flat(PACKAGE)) <= 8
    assert len(flat(ROOT / "datasets_io")) <= 15


def test_class_names_are_unique():
    found: dict[str, list[str]] = {}
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "datasets_io").rglob("*.py")]:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_no_module_hides_something_behind_its_length():
    long = {file.name for file in PACKAGE.rglob("*.py") if len(file.read_text().splitlines()) > 300}
    assert long == set()
