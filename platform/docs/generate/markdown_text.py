"""Convert texts and tables of the package to Markdown."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CODE = re.compile(r"(``.+?``|`[^`\n]+`)", re.DOTALL)
_SPECIAL = re.compile(r"([\\*_\[\]|])")


def escape(text: str) -> str:
    """Return a text in which nothing but code between backticks is markup; arXiv numbers become links."""
    parts = _CODE.split(text)
    for index in range(0, len(parts), 2):
        plain = parts[index].replace("&", "&amp;").replace("<", "&lt;")
        parts[index] = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", _SPECIAL.sub(r"\\\1", plain))
    return "".join(parts)


def fence(code: str, language: str = "text") -> str:
    """Return a block of code."""
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", code) or [""]))
    return f"{marks}{language}\n{code}\n{marks}"


def docstring(text: str, block: Callable[[str], str] = fence) -> str:
    """Return a docstring as Markdown; `block` writes its indented blocks, which else stay as they are."""
    return "\n\n".join(_blocks(text, block))


def _blocks(text: str, write: Callable[[str], str]) -> Iterator[str]:
    lines = text.strip("\n").splitlines()
    for is_code, group in groupby(_marked(lines), key=lambda pair: pair[0]):
        block = "\n".join(line for _, line in group).strip("\n")
        if block.strip():
            yield write(_dedent(block)) if is_code else escape(block)


def _marked(lines: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Yield each line with True if it belongs to an indented block, which may contain blank lines."""
    is_code = False
    for index, line in enumerate(lines):
        if line.strip():
            is_code = line.startswith("    ")
        elif is_code:
            following = next((later for later in lines[index:] if later.strip()), "")
            is_code = following.startswith("    ")
        yield is_code, line


def _dedent(block: str) -> str:
    return "\n".join(line[4:] for line in block.splitlines())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or "–" for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    """Return a text as code in a line or in a cell of a table, or nothing if it is empty."""
    return f"`{text}`" if text else ""
