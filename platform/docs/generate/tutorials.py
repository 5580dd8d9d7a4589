"""Execute the tutorials and write them back with their outputs: ``make tutorials``.

The outputs are normalised, so that a file changes only where its text, its code or a result does.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from tutorial_pages import TUTORIALS

PARAMETERS = "parameters"
"""Tag of the first cell of code, which sets the sizes of a tutorial."""
PATIENCE = 1200
"""Seconds until a cell counts as stuck."""
LEFT_OUT = ("OFF2ON_DATA", "PYTHONPATH", "PYTHONWARNINGS", "RAY_ADDRESS")
"""Variables of the environment that change what the cells do."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = re.compile(r"^\d\d:\d\d:\d\d  ", re.MULTILINE)
_SPEED = re.compile(r" +\d+ upd/s.*$|^done in .*\n?", re.MULTILINE)
_PROGRESS = re.compile(r"(?:offline|online) +\d+ ")
_TRIAL = re.compile(r"^running   \d+  .*\n|  about .* left$", re.MULTILINE)
_NODE = re.compile(r"\b\d+(?:\.\d+){3}/[0-9a-f]{6}\b")


def main(names: list[str]) -> None:
    """Execute tutorials and write them back.

    Args:
        names: Names of files without their suffix; none: all.
    """
    for path in [TUTORIALS / f"{name}.ipynb" for name in names] or sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}\n")


def execute(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> Any:
    """Execute a tutorial in a folder and return it with normalised outputs; its file stays as it is.

    Args:
        path: Notebook.
        folder: Working directory of its code; an empty folder.
        parameters: Values for names of the cell of parameters.

    Raises:
        CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    if parameters:
        cell = next(cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", []))
        cell.source = "\n".join([cell.source, *(f"{name} = {value!r}" for name, value in parameters.items())])
    with tempfile.TemporaryDirectory() as profile:
        environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        environment |= {
            "IPYTHONDIR": profile,
            "COLUMNS": "110",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        client = NotebookClient(
            notebook, timeout=PATIENCE, kernel_name="python3", record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )  # fmt: skip
        client.execute(env=environment)
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
    normalise(notebook, folder)
    return notebook


def normalise(notebook: Any, folder: Path) -> None:
    """Remove from a notebook what differs between two executions with equal results.

    Args:
        notebook: Notebook with outputs; it is changed.
        folder: Working directory of its code; paths in it become relative.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [*_normalised(cell.outputs, str(folder))]


def _normalised(outputs: list[Any], folder: str) -> Iterator[Any]:
    """Yield the outputs of a cell: standard output in one piece, without standard error."""
    kept = [output for output in outputs if output.get("name") != "stderr"]
    for is_text, group in groupby(kept, key=lambda output: output.output_type == "stream"):
        if is_text:
            text = _plain("".join(output.text for output in group), folder)
            if text:
                yield nbformat.v4.new_output("stream", name="stdout", text=text)
            continue
        for output in group:
            if "execution_count" in output:
                output.execution_count = None
            output.metadata = nbformat.from_dict({})
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = _plain(value, folder)
            yield output


def _plain(text: str, folder: str) -> str:
    """Return a text without colours, times of day, speeds, the folder's path and most lines of progress."""
    text = _ESCAPE.sub("", text)
    text = re.sub(r"^.*\r", "", re.sub(r"\r+\n", "\n", text), flags=re.MULTILINE)
    for path in (os.path.realpath(folder), folder):
        text = text.replace(f"{path}{os.sep}", "").replace(path, ".")
    for number, node in enumerate(dict.fromkeys(_NODE.findall(text)), start=1):
        text = text.replace(node, f"node-{number}")
    text = _TRIAL.sub("", _SPEED.sub("", _TIME.sub("", text)))
    return "".join(_shortened(text.splitlines(keepends=True)))


def _shortened(lines: list[str]) -> Iterator[str]:
    """Yield lines; of consecutive lines of progress only the first and the last."""
    for is_progress, group in groupby(lines, key=lambda line: _PROGRESS.match(line) is not None):
        block = list(group)
        yield from [block[0], "…\n", block[-1]] if is_progress and len(block) > 3 else block


if __name__ == "__main__":
    main(sys.argv[1:])
