"""The tutorials have outputs, are pages of the site, and run as they stand."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="off2on[docs] is not installed")
pytest.importorskip("nbclient", reason="off2on[docs] is not installed")

import nbformat
import tutorial_pages
import tutorials
from links import DOCS, ROOT

SIZES: dict[str, dict[str, Any]] = {
    "01_first_run": {"UPDATES": 6, "STEPS": 4, "EPISODES": 1},
    "02_your_own_logs": {"DAYS": 12, "UPDATES": 4, "OPE_UPDATES": 100, "SERVED_DAYS": 2, "TEST_DAYS": 2},
    "03_your_own_environment": {"UPDATES": 6, "STEPS": 5, "EPISODES": 1},
    "04_extend": {"UPDATES": 4, "STEPS": 4, "EPISODES": 1},
    "05_search": {"UPDATES": 4, "TRIALS": 2, "SEEDS": 1},
    "06_cluster": {"UPDATES": 4, "STEPS": 4},
    "07_waymo": {"SCENES": 4, "UPDATES": 4},
}
"""Values of each tutorial's cell of parameters with which a test executes it."""
BYTES = 400_000
"""A notebook may not be larger."""

every_tutorial = pytest.mark.parametrize("name", SIZES)


def read(name: str) -> Any:
    return nbformat.read(tutorial_pages.TUTORIALS / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[Any]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def python_of(source: str) -> str:
    """Return the code of a cell without commands and magics; a cell of ``%%name`` has none."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        return "\n".join(lines[1:]) if lines[0].endswith(".py") else ""
    return "\n".join(re.sub(r"^(\s*)[!%].*", r"\1pass", line) for line in lines)


def test_every_tutorial_is_here():
    assert tutorial_pages.tutorial_names() == sorted(SIZES)


@every_tutorial
def test_a_tutorial_is_valid_and_not_large(name: str):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    assert (tutorial_pages.TUTORIALS / f"{name}.ipynb").stat().st_size < BYTES


@every_tutorial
def test_the_first_code_of_a_tutorial_sets_its_sizes(name: str):
    first, *others = code_cells(name)
    assert first.metadata.get("tags") == [tutorials.PARAMETERS]
    assert not any(cell.metadata.get("tags") for cell in others)
    assigned = {
        target.id
        for line in ast.parse(python_of(first.source)).body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    }
    assert assigned == SIZES[name].keys()


@every_tutorial
def test_the_code_of_a_tutorial_compiles(name: str):
    for cell in code_cells(name):
        ast.parse(python_of(cell.source))


@every_tutorial
def test_outputs_are_there_without_errors_and_without_traces_of_a_machine(name: str):
    outputs = [output for cell in code_cells(name) for output in cell.outputs]
    assert len(outputs) >= 3
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    texts = [output.get("text", "") for output in outputs]
    texts += [
        text for output in outputs for kind, text in output.get("data", {}).items() if kind[:5] == "text/"
    ]
    for text in texts:
        assert re.findall(r"/(?:tmp|root|home|work)/|\x1b|\b\d\d:\d\d:\d\d\b|upd/s|Traceback", text) == []


@every_tutorial
def test_normalising_a_tutorial_again_changes_nothing(name: str, tmp_path: Path):
    before, after = read(name), read(name)
    tutorials.normalise(after, tmp_path)
    assert after == before


def test_nodes_of_a_cluster_and_times_of_a_search_do_not_stay_in_outputs(tmp_path: Path):
    said = (
        "fits       learners on 10.0.0.2/2868d0 (1), 10.0.0.2/f0d4b2 (1); runners on 10.0.0.2/f0d4b2 (2)\n"
        "running   000  score −1,092 at 1 of 2 evaluations\n"
        "finished  000  score −1,000  alpha=3.4  about 1 min left\n"
    )
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", text=said)])
    tutorials.normalise(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
    assert cell.outputs[0].text == (
        "fits       learners on node-1 (1), node-2 (1); runners on node-2 (2)\n"
        "finished  000  score −1,000  alpha=3.4\n"
    )


@every_tutorial
def test_the_page_of_a_tutorial_has_its_text_code_and_outputs(name: str):
    page = tutorial_pages.tutorial_page(name)
    for cell in read(name).cells[1:]:
        assert cell.source in page
        for output in cell.get("outputs", []):
            assert output.get("text", "").rstrip() in page
    figures = [
        path for path, _ in tutorial_pages.tutorial_figures() if Path(path).name.startswith(f"{name}_")
    ]
    assert [f"tutorials/{file}" for file in re.findall(r"!\[Figure\]\((.*?)\)", page)] == figures


@every_tutorial
def test_the_overview_links_to_a_tutorial(name: str):
    assert f"](tutorials/{name}.ipynb)" in (ROOT / DOCS / "tutorials.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_tutorial
def test_a_tutorial_runs(name: str, tmp_path: Path):
    path = tutorial_pages.TUTORIALS / f"{name}.ipynb"
    before = path.read_bytes()
    notebook = tutorials.execute(path, tmp_path, SIZES[name])
    assert path.read_bytes() == before
    had, has = ([[kind_of(output) for output in cell.outputs] for cell in cells] for cells in (
        code_cells(name), [cell for cell in notebook.cells if cell.cell_type == "code"]
    ))  # fmt: skip
    assert has == had


def kind_of(output: Any) -> tuple[str, ...]:
    return output.output_type, *sorted(output.get("data", {}))
