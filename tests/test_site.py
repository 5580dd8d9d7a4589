"""The generated pages of the site say what the code says, and the site is built without a warning."""

import csv
import dataclasses
import html
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="off2on[docs] is not installed")

import equations
import links
from algorithm_pages import FAMILIES, METRICS, algorithm_page
from cli_page import cli_page
from command_output import described
from equations import typeset, with_equations
from logged_metrics import logged_metrics
from markdown_text import docstring, escape, fence, table
from rooms import rooms_table
from strategy_pages import online_settings_page, strategy_page

from off2on import cli
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.commands.algos import algos
from off2on.online.settings import OnlineSettings
from off2on.strategies import CATALOGUE as STRATEGIES
from off2on.strategies import find_strategy

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "platform" / "mkdocs.yml"


# Markdown.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Q'_i(s, a) * 2 < [3]", r"Q'\_i(s, a) \* 2 &lt; \[3\]"),
        ("``a_b`` and `c*d` | e", r"``a_b`` and `c*d` \| e"),
        ("X 2020, arXiv:2006.04779", "X 2020, [arXiv:2006.04779](https://arxiv.org/abs/2006.04779)"),
    ],
)
def test_nothing_but_code_is_markup_in_an_escaped_text(text: str, expected: str):
    assert escape(text) == expected


def test_indented_blocks_of_a_docstring_stay_as_they_are():
    text = "Paper_1.\n\n    L_Q  = E[ x^2 ]\n\n    L_pi = 1\n\nMore."
    assert docstring(text) == "Paper\\_1.\n\n```text\nL_Q  = E[ x^2 ]\n\nL_pi = 1\n```\n\nMore."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L_pi = -E[ Q'_1(s, pi(s)) ]", "L<sub>π</sub> = −E[ Q′<sub>1</sub>(s, π(s)) ]"),
        ("(r + gamma^h V(s_t+1))^2", "(r + γ<sup>h</sup> V(s<sub>t+1</sub>))<sup>2</sup>"),
        ("e^(u - M) <= ok_{h-1}", "e<sup>u − M</sup> ≤ ok<sub>h−1</sub>"),
        ("min_{j in M} Q'_(k), a~ ~ pi'", "min<sub>j ∈ M</sub> Q′<sub>(k)</sub>, a\u0303 ∼ π′"),
        ("TD3's, at s' of the data's actions' mean", "TD3’s, at s′ of the data’s actions’ mean"),
        ("pi_1(s), L_pi1, alpha1", "π<sub>1</sub>(s), L<sub>π1</sub>, α<sub>1</sub>"),
        ("1(u < 0), see `a_b`", "1(u &lt; 0), see <code>a_b</code>"),
        ("SAC-N's log-sum-exp", "SAC-N’s log-sum-exp"),
    ],
)
def test_mathematics_in_ascii_is_typeset(text: str, expected: str):
    assert typeset(text) == expected


def test_equations_become_a_table_of_objective_symbol_and_definition():
    block = "    critic  L_Q = 1\n            a'  the action\n            + 2\n    then SAC's"
    assert with_equations(f"Text.\n\n{block}").splitlines()[2:-1] == [
        '<table class="equations">',
        "<tr><th>critic</th><td>L<sub>Q</sub></td><td>= 1</td></tr>",
        "<tr><th></th><td>a′</td><td>the action</td></tr>",
        "<tr><th></th><td></td><td>+ 2</td></tr>",
        '<tr><td colspan="3">then SAC’s</td></tr>',
    ]


def test_code_with_backticks_gets_a_longer_fence():
    assert fence("```\nx\n```") == "````text\n```\nx\n```\n````"


def test_an_empty_cell_is_a_dash():
    assert table(["a", "b"], [["1", ""]]).splitlines()[-1] == "| 1 | – |"


# Pages of algorithms and strategies.


def cells(page: str, heading: str) -> list[str]:
    """Return the first cells of the table below a heading."""
    rows = f"\n{page}".partition(f"\n{heading}\n")[2].partition("\n#")[0].splitlines()
    return [row.split(" | ")[0].strip("| `") for row in rows if re.match(r"\| (?!---)", row)][1:]


def symbols(text: str) -> str:
    """Return equations in ASCII or in HTML as the same letters, without spaces and what groups."""
    text = html.unescape(re.sub(r"</?(table|tr|th|td|sub|sup|code)\b[^>]*>", "", text))
    for sign, word in (GREEK | SIGNS).items():
        text = text.replace(sign, word)
    return re.sub(r"[\s_^{}()`]", "", text)


GREEK = {sign: word for word, sign in equations.GREEK.items()}
SIGNS = {sign: word for word, sign in equations.OPERATORS.items()} | {
    "Q̄": "Qbar", "Σ": "sum", "∇": "grad", "∈": "in", "⟨": "<", "⟩": ">", "∼": "~", "\u0303": "~",
    "−": "-", "′": "'", "″": "''", "’": "'",
}  # fmt: skip


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_page_of_an_algorithm_has_all_that_its_class_states(name: str):
    page, kind = algorithm_page(name), find_algorithm(name)
    assert cells(page, "## Hyperparameters") == list(kind.Hyperparameters.rules())
    assert cells(page, "### Presets") == list(kind.Hyperparameters.presets)
    for objective in kind.objectives_in_order():
        assert f"`{objective.name}/loss`" in page
    doc = inspect.getdoc(sys.modules[kind.__module__]) or ""
    assert symbols("".join(line for line in doc.splitlines() if line.startswith("    "))) == symbols(
        "".join(re.findall(r'<table class="equations">.*?</table>', page, re.DOTALL))
    )
    assert ("## Differences from the paper" in page) is ("\nDifferences" in doc)


def test_the_page_names_and_explains_every_metric_that_the_losses_log(
    problem: Callable[..., Any], recipe: Any
):
    case = problem(recipe)
    batch, logged = case.prepared(), set()
    for objective in recipe.objectives_in_order():
        logged |= set(recipe.loss(objective.name, case.nets, batch, case.hp)[1])
    named = set(logged_metrics(recipe))
    assert logged <= named, "generate/logged_metrics.py does not find them"
    assert not named - METRICS.keys(), "they have no meaning in platform/docs/generate/metrics.csv"


def test_every_family_has_a_text_when_to_use_it():
    families = {entry.family for entry in CATALOGUE.values()}
    assert not families - FAMILIES.keys(), "platform/docs/generate/families.csv"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_algorithm_has_a_text_when_to_use_it_in_terms_that_exist(name: str):
    text = described(algos, name)["when"]
    assert text, "platform/off2on/algorithms/when.csv"
    assert 2 <= len(re.findall(r"[.?!](?= |$)", text)) <= 4
    assert len(text) <= 360
    known = CATALOGUE.keys() | find_algorithm(name).Hyperparameters.rules().keys()
    for code in re.findall(r"`([^`]+)`", text):
        if strategy := re.fullmatch(r"--strategy (\w+)", code):
            assert strategy[1] in STRATEGIES
        elif code != "--updates 0":
            assert code.partition("=")[0] in known, code
    assert escape(text) in algorithm_page(name)


def test_scores_on_a_page_are_those_of_the_table():
    with (ROOT / "tests" / "learning" / "scores.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["algorithm"] == "iql")
    page = algorithm_page("iql")
    assert f"{row['iqm']} ({row['low']} to {row['high']})" in page
    assert "pytest -m learning -s tests/learning/test_scores.py -k iql" in page


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_page_of_a_strategy_has_its_options_and_online_settings(name: str):
    page, kind = strategy_page(name), find_strategy(name)
    assert cells(page, "## Options") == list(kind.Options.rules())
    assert cells(page, "## Online settings") == [f"online.{key}" for key in kind.online_settings]


def test_the_page_of_online_settings_has_all():
    assert cells(online_settings_page(), "# Online settings") == list(OnlineSettings.rules())


# Other generated pages.


def test_the_reference_of_commands_has_every_option():
    page = cli_page()

    def check(command: Any, path: str) -> None:
        section = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert section, path
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                assert all(name in section for name in option.opts), (path, option.opts)
        for name, inner in getattr(command, "commands", {}).items():
            check(inner, f"{path} {name}")

    for name, command in cli.off2on.commands.items():
        check(command, f"off2on {name}")


def test_the_rooms_are_those_that_the_linter_orders():
    rooms = re.findall(r"^\| `([\w.]+)` \| \S", rooms_table(), re.MULTILINE)
    assert rooms[0] == "off2on.cli"
    folders = {path.parent.name for path in (ROOT / "platform" / "off2on").glob("*/__init__.py")}
    assert {f"off2on.{name}" for name in folders} <= set(rooms)


@pytest.mark.parametrize(
    ("page", "link", "expected", "copied"),
    [
        ("algorithms.md", "../off2on/algorithms/iql.py", "algorithms/iql.md", set()),
        ("algorithms/iql.md", "../choosing.md#a", "../choosing.md#a", set()),
        ("online.md", "../off2on/strategies/so2.py", "strategies/so2.md", set()),
        ("index.md", "../off2on/cli.py", "cli.md", set()),
        ("docker.md", "../tune_configs/iql.yaml", "source/tune_configs/iql.yaml", {"tune_configs/iql.yaml"}),
        ("contributing.md", "../platform/docs/glossary.md", "glossary.md", set()),
        ("index.md", "../../.github/handover.png", "source/github/handover.png", {".github/handover.png"}),
        ("data.md", "../../tests/test_cli.py", "source/tests/test_cli.py.md", {"tests/test_cli.py"}),
        ("index.md", "https://x.org/a.md", "https://x.org/a.md", set()),
    ],
)
def test_links_lead_to_the_site(page: str, link: str, expected: str, copied: set[str]):
    assert links.rewrite(f"see [it]({link}).", page) == (f"see [it]({expected}).", copied)


def test_issues_of_other_projects_are_links():
    issue = "https://github.com/pytorch/rl/issues/3034"
    assert links.link_issues("pytorch/rl#3034, x/y") == f"[pytorch/rl#3034]({issue}), x/y"
    assert links.link_issues("[a](online.md#the-guard), `docs/online.md#1a`") == (
        "[a](online.md#the-guard), `docs/online.md#1a`"
    )


def test_the_page_of_the_installation_has_every_optional_part():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "platform" / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(cells(page, "## Optional parts")) == extras.keys()


def test_names_of_other_libraries_and_ours_exist():
    d3rlpy = pytest.importorskip("d3rlpy.algos", reason="the reference of the tests is not installed")
    from ray.rllib.algorithms.cql import CQLConfig

    def fields(config: Any) -> set[str]:
        return {field.name for field in dataclasses.fields(config)}

    theirs = {
        ("d3rlpy", "IQL"): fields(d3rlpy.IQLConfig),
        ("d3rlpy", "CQL"): fields(d3rlpy.CQLConfig),
        ("d3rlpy", "TD3PlusBC"): fields(d3rlpy.TD3PlusBCConfig),
        ("RLlib", "CQL"): set(inspect.signature(CQLConfig.training).parameters),
    }
    ours = {"IQL": "iql", "IQLLoss": "iql", "CQL": "cql", "CQLLoss": "cql"}
    library, checked = "", 0
    for line in (ROOT / "platform" / "docs" / "migrating.md").read_text().splitlines():
        library = line.removeprefix("## ") if line.startswith("## ") else library
        row = re.match(r"\| (\w+): (.*?) \| (.*) \|$", line)
        if row is None:
            continue
        names = re.findall(r"`(\w+)`", row[2])
        assert set(names) <= theirs.get((library, row[1]), set(names)), line
        if row[1] in ours:
            rules = find_algorithm(ours[row[1]]).Hyperparameters.rules()
            assert set(re.findall(r"`(\w+)`", row[3])) <= rules.keys(), line
        checked += 1
    assert checked >= 10


# The site.


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing_from_the_network(tmp_path: Path):
    site = tmp_path / "site"
    done = build(CONFIG, site)
    assert done.returncode == 0, done.stderr
    for folder, names in (("algorithms", CATALOGUE), ("strategies", STRATEGIES)):
        assert {*names} <= {page.stem for page in (site / folder).glob("*.html")}
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"([^\"]*)", page.read_text())
        assert [url for url in loaded if re.match(r"(\w+:)?//", url)] == [], page
    assert "Conservative Q-Learning" in (site / "search" / "search_index.json").read_text()


FAULTS = {"page.md": "[a](missing.md)", "heading.md": "[a](index.md#missing)", "path.md": "[a](/index.md)"}


@pytest.mark.slow
@pytest.mark.parametrize("faults", [FAULTS, {}], ids=["wrong", "right"])
def test_wrong_links_stop_the_build(tmp_path: Path, faults: dict[str, str]):
    pages = {"index.md": "[a](index.md)"} | faults
    (tmp_path / "docs").mkdir()
    for name, link in pages.items():
        (tmp_path / "docs" / name).write_text(f"# Page\n\n{link}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        f"INHERIT: {CONFIG}\ndocs_dir: docs\nhooks: []\nplugins: [search]\nnav: [{', '.join(pages)}]\n"
    )
    done = build(config, tmp_path / "site")
    assert (done.returncode == 0) is (not faults)
    assert set(re.findall(r"WARNING.*'(\w+\.md)' contains", done.stderr)) == faults.keys()
