"""Add the generated pages to the site; MkDocs calls these functions, see ``platform/mkdocs.yml``.

The pages exist in memory only: nothing that can be computed from the code is written into the repository.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from algorithm_pages import algorithm_page
from cli_page import cli_page
from links import COPIED, ELSEWHERE, ROOT, copy_of, link_issues, rewrite, source_page
from mkdocs.structure.files import File
from rooms import MARK as ROOMS
from rooms import rooms_table
from search_keys import MARK as SEARCH_KEYS
from search_keys import search_keys_table
from strategy_pages import online_settings_page, strategy_page
from tutorial_pages import tutorial_figures, tutorial_names, tutorial_page

from off2on.algorithms import CATALOGUE as ALGORITHMS
from off2on.strategies import CATALOGUE as STRATEGIES

FAMILIES = {
    family: [name for name, entry in ALGORITHMS.items() if entry.family == family]
    for family in dict.fromkeys(entry.family for entry in ALGORITHMS.values())
}
"""Names of the algorithms of each family, in the order of the catalogue."""


def pages() -> dict[str, Callable[[], str]]:
    """Return the generated pages: their paths in the site, and functions that write them."""
    found: dict[str, Callable[[], str]] = {
        "cli.md": cli_page,
        "strategies/settings.md": online_settings_page,
    }
    found |= {f"algorithms/{name}.md": partial(algorithm_page, name) for name in ALGORITHMS}
    found |= {f"strategies/{name}.md": partial(strategy_page, name) for name in STRATEGIES}
    found |= {f"tutorials/{name}.md": partial(tutorial_page, name) for name in tutorial_names()}
    return found | {ELSEWHERE[file]: partial((ROOT / file).read_text, encoding="utf-8") for file in COPIED}


def on_config(config: Any) -> Any:
    """Replace ``algorithms/*`` (by family) and ``strategies/*`` in the navigation by the pages."""
    config["nav"] = _expand(config["nav"])
    return config


def _expand(items: list[Any]) -> list[Any]:
    expanded: list[Any] = []
    for item in items:
        if isinstance(item, dict):
            expanded += [
                {title: _expand(each) if isinstance(each, list) else each} for title, each in item.items()
            ]
        elif item == "algorithms/*":
            expanded += [
                {family.capitalize(): _named("algorithms", names)} for family, names in FAMILIES.items()
            ]
        elif item == "strategies/*":
            expanded += _named("strategies", STRATEGIES)
        elif item == "tutorials/*":
            expanded += [f"tutorials/{name}.md" for name in tutorial_names()]
        else:
            expanded.append(item)
    return expanded


def _named(folder: str, names: Iterable[str]) -> list[Any]:
    return [{name: f"{folder}/{name}.md"} for name in names]


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and copies of the files that pages link to."""
    for path, write in pages().items():
        files.append(File.generated(config, path, content=write()))
    for path, figure in tutorial_figures():
        files.append(File.generated(config, path, content=figure))
    needed: set[str] = set()
    for page in files.documentation_pages():
        needed |= rewrite(page.content_string, page.src_uri)[1]
    for path in sorted(needed):
        if not (ROOT / path).is_file():
            continue  # MkDocs reports the link
        if path.endswith(".py"):
            files.append(File.generated(config, copy_of(path), content=source_page(path)))
        else:
            files.append(File.generated(config, copy_of(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links of a page to the site, and write the tables that it asks for."""
    text, _ = rewrite(markdown, page.file.src_uri)
    if page.file.src_uri == "asked.md":
        text = link_issues(text)
    for mark, write in ((ROOMS, rooms_table), (SEARCH_KEYS, search_keys_table)):
        if mark in text:
            text = text.replace(mark, write())
    return text
