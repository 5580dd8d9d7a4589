"""Progress of `off2on.train` in a notebook: plain lines, one for each evaluation, while the cell runs."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="off2on[docs] is not installed")
pytest.importorskip("nbclient", reason="off2on[docs] is not installed")

import nbformat
from nbclient import NotebookClient

CELL = """
import off2on
sizes = dict(updates=200, eval_every=100, eval_episodes=1, threads=1, hyperparameters={"hidden": (16, 16)})
run = off2on.train("iql", "toy-pendulum", **sizes)
print(len(run.metrics))
"""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", ["to the cell", "to the terminal"])
def test_a_cell_that_trains_shows_a_line_for_each_evaluation(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, descriptors: str
):
    if descriptors == "to the cell":  # ipykernel shows what goes to descriptors 1 and 2 unless it is tested
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    profile = str(tmp_path / "ipython")
    client.execute(env=os.environ | {"OFF2ON_DATA": str(data_root), "IPYTHONDIR": profile})
    told, printed = (stream(notebook.cells[0].outputs, name) for name in ("stderr", "stdout"))
    assert printed == "2\n"
    lines = re.findall(r"^\d\d:\d\d:\d\d  (.*)$", told, re.MULTILINE)
    assert len(lines) == 3, told
    assert lines[0] == "iql · toy-pendulum · seed 0  runs/toy-pendulum/iql-s0"
    for line, updates in zip(lines[1:], (100, 200), strict=True):
        assert re.match(rf"offline +{updates}  score +-\d+\.\d  q +-?\d+\.\d ", line)
    assert CONTROL.findall(told) == []
    assert not any("display_data" in output.output_type for output in notebook.cells[0].outputs)


def stream(outputs: list[Any], name: str) -> str:
    return "".join(output.text for output in outputs if output.get("name") == name)
