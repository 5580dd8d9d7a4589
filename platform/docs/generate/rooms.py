"""Write the table of rooms from the order that the linter of imports enforces, and their docstrings."""

import ast
import tomllib

from links import ROOT
from markdown_text import code, escape, table

MARK = "<!-- rooms -->"
"""Replaced by the table in the text of a page."""


def rooms_table() -> str:
    """Return the tables of both packages, from the top floor to the bottom."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rows = []
    for contract in project["tool"]["importlinter"]["contracts"]:
        for floor in contract["layers"]:
            modules = [module.strip() for module in floor.split("|")]
            rows += [[code(module), escape(_first_line(module))] for module in modules]
    return table(["room", "content"], rows)


def _first_line(module: str) -> str:
    """Return the first line of the docstring of a module or package, without importing it."""
    parts = module.split(".")
    base = (ROOT if parts[0] == "datasets_io" else ROOT / "platform").joinpath(*parts)
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]
