"""Write the page of a tutorial from its notebook: text, code and outputs, and its figures as files."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from links import DOCS, ROOT
from markdown_text import fence

TUTORIALS = ROOT / DOCS / "tutorials"


def tutorial_names() -> list[str]:
    """Return the names of the tutorials, in their order."""
    return [path.stem for path in sorted(TUTORIALS.glob("*.ipynb"))]


def tutorial_page(name: str) -> str:
    """Return the page of a tutorial.

    Args:
        name: Name of the notebook without its suffix.
    """
    cells = _cells(name)
    title, _, rest = _text(cells[0]["source"]).partition("\n")
    download = (
        f'This page is a notebook: <a href="{name}.ipynb" download>{name}.ipynb</a>. '
        "What a cell prints is below it, without most lines of progress."
    )
    parts = [title, download, rest.strip()]
    for number, cell in enumerate(cells[1:], start=1):
        source = _text(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(fence(source, "python"))
        for place, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![Figure]({_figure(name, number, place)})")
            else:
                parts.append(fence(_text(output.get("text", data.get("text/plain", ""))).rstrip()))
    return "\n\n".join(part for part in parts if part) + "\n"


def tutorial_figures() -> Iterator[tuple[str, bytes]]:
    """Yield the paths in the site and the PNG contents of the figures of all tutorials."""
    for name in tutorial_names():
        for number, cell in enumerate(_cells(name)):
            for place, output in enumerate(cell.get("outputs", [])):
                if "image/png" in output.get("data", {}):
                    content = base64.b64decode(_text(output["data"]["image/png"]))
                    yield f"tutorials/{_figure(name, number, place)}", content


def _cells(name: str) -> list[dict[str, Any]]:
    notebook = json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells: list[dict[str, Any]] = notebook["cells"]
    return cells


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _figure(name: str, cell: int, output: int) -> str:
    return f"{name}_{cell}_{output}.png"
