"""Lead links of the pages to the site: to pages, or to copies of the repository's files."""

import os.path
import posixpath
import re
from pathlib import Path

from markdown_text import fence

from off2on.algorithms import CATALOGUE as ALGORITHMS
from off2on.strategies import CATALOGUE as STRATEGIES

ROOT = Path(__file__).parents[3]
DOCS = "platform/docs"
COPIES = "source"
"""Folder of the site for files of the repository."""
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "docker/README.md": "docker.md",
    "platform/off2on/cli.py": "cli.md",
    "platform/off2on/online/settings.py": "strategies/settings.md",
}
"""Files of the repository that have a page in the site."""
COPIED = ("CHANGELOG.md", ".github/CONTRIBUTING.md", "docker/README.md")
"""Those of them whose text is the page."""
_ORIGINS = {ELSEWHERE[file]: file for file in COPIED}
_ISSUE = re.compile(r"(?<![\w/])([A-Za-z0-9][\w-]*/[\w.-]+)#(\d+)\b")
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)]*\))")


def rewrite(markdown: str, page: str) -> tuple[str, set[str]]:
    """Return the text of a page with its links led to the site.

    Args:
        markdown: Text.
        page: Path of the page in the site.

    Returns:
        The text, and the paths in the repository of the files that the site must have copies of.
    """
    folder = posixpath.dirname(_ORIGINS.get(page, f"{DOCS}/{page}"))
    needed: set[str] = set()

    def replace(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        if "://" in target or target.startswith("mailto:"):
            return link.group()
        path = posixpath.normpath(posixpath.join(folder, target))
        place, copied = _place(path)
        if copied:
            needed.add(copied)
        return before + os.path.relpath(place, posixpath.dirname(page) or ".") + after

    return _LINK.sub(replace, markdown), needed


def link_issues(markdown: str) -> str:
    """Return a text in which issues, ``owner/repository#number``, are links, as GitHub shows them."""
    return _ISSUE.sub(r"[\1#\2](https://github.com/\1/issues/\2)", markdown)


def _place(path: str) -> tuple[str, str]:
    """Return the place in the site of a path of the repository, and the path if a copy is needed."""
    if path in ELSEWHERE:
        return ELSEWHERE[path], ""
    if path.startswith(f"{DOCS}/{COPIES}/"):
        copied = path.removeprefix(f"{DOCS}/{COPIES}/").removesuffix(".md")
        return copy_of(copied), copied
    if path.startswith(f"{DOCS}/"):
        return re.sub(r"^(tutorials/.*)\.ipynb$", r"\1.md", path.removeprefix(f"{DOCS}/")), ""
    room, name = posixpath.split(path.removesuffix(".py"))
    if room == "platform/off2on/algorithms" and name in ALGORITHMS:
        return f"algorithms/{name}.md", ""
    if room == "platform/off2on/strategies" and name in STRATEGIES:
        return f"strategies/{name}.md", ""
    return copy_of(path), path


def copy_of(path: str) -> str:
    """Return the place in the site of a file's copy, without leading dots, which would hide it."""
    shown = "/".join(part.lstrip(".") for part in path.split("/"))
    return f"{COPIES}/{shown}" + (".md" if path.endswith(".py") else "")


def source_page(path: str) -> str:
    """Return a page with the code of a file of the repository, which the search leaves out."""
    code = (ROOT / path).read_text(encoding="utf-8")
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {posixpath.basename(path)}\n\n`{path}`"
    return f"{head}\n\n{fence(code, 'python')}\n"
