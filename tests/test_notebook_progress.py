"""Progress of `off2on.train` in a notebook: plain lines, one for each evaluation, while the cell runs."""

import os
import re
import sys
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
COMMAND = (
    "!off2on train iql toy-pendulum --updates 200 --eval-every 100 --eval-episodes 1 --threads 1 hidden=16,16"
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", ["to the cell", "to the terminal"])
def test_a_cell_that_trains_shows_a_line_for_each_evaluation(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, descriptors: str
):
    if descriptors == "to the cell":  # ipykernel shows what goes to descriptors 1 and 2 unless it is tested
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
    outputs = execute(CELL, tmp_path, data_root)
    told, printed = (stream(outputs, name) for name in ("stderr", "stdout"))
    assert printed == "2\n"
    lines = re.findall(r"^\d\d:\d\d:\d\d  (.*)$", told, re.MULTILINE)
    assert len(lines) == 3, told
    assert lines[0] == "iql · toy-pendulum · seed 0  runs/toy-pendulum/iql-s0"
    for line, updates in zip(lines[1:], (100, 200), strict=True):
        assert re.match(rf"offline +{updates}  score +-\d+\.\d  q +-?\d+\.\d ", line)
    assert CONTROL.findall(told) == []
    assert "API stack" not in told
    assert not any("display_data" in output.output_type for output in outputs)


@pytest.mark.slow
def test_a_command_in_a_cell_redraws_nothing(tmp_path: Path, data_root: Path):
    told = stream(execute(COMMAND, tmp_path, data_root), "stdout").replace("\r\n", "\n")
    lines = re.findall(r"^\d\d:\d\d:\d\d  (\w+) ", told, re.MULTILINE)
    assert lines == ["iql", "offline", "offline"], told
    assert CONTROL.findall(told) == []


def execute(code: str, folder: Path, data_root: Path) -> list[Any]:
    """Execute a cell in a folder, and return its outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changes = {"OFF2ON_DATA": str(data_root), "IPYTHONDIR": str(folder / "ipython"), "PATH": programs}
    client.execute(env=os.environ | changes)
    return list(notebook.cells[0].outputs)


def stream(outputs: list[Any], name: str) -> str:
    return "".join(output.text for output in outputs if output.get("name") == name)
