"""Find the Python files that a file of the user imports from its own folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

LIMIT = 100
"""Number of files after which the search ends."""


def files_of_code(file: Path) -> list[Path]:
    """Return a Python file, and those that it imports from its folder or package, also through one another.

    Files are read, not imported. Names that are computed, and files that are read as data, are not found.

    Args:
        file: The file; it comes first, the others follow in the order of their paths, at most `LIMIT` of all.
    """
    root = _root(file)
    found, waiting = {file: True}, [file]
    while waiting and len(found) < LIMIT:
        current = waiting.pop()
        for place in _imported(current, root):
            if place not in found:
                found[place] = True
                waiting.append(place)
    return [file, *sorted(found.keys() - {file})][:LIMIT]


def _root(file: Path) -> Path:
    """Return the folder from which a file is imported: that of its outermost package."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files below a folder that the import statements of a file name."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else root
            yield from _files(base, node.module or "")
            for alias in node.names:
                yield from _files(base, f"{node.module or ''}.{alias.name}".strip("."))


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files of a module in a folder, and those of the packages that it is in."""
    for part in name.split(".") if name else []:
        folder = folder / part
        for place in (folder / "__init__.py", folder.with_name(f"{part}.py")):
            if place.is_file():
                yield place
