"""Learners' rows to and from a checkpoint, also of learners on machines that do not see its folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

Ask = Callable[..., list[Any]]
"""Calls a function of a learner on every learner; see `algorithm.OfflineToOnline.ask`."""


def save_rows(ask: Ask, folder: Path) -> None:
    """Have every learner's rows written into a checkpoint: by itself, or here if it cannot."""
    for contents in ask(_save, folder=str(folder)):
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def load_rows(ask: Ask, folder: Path) -> None:
    """Give every learner the rows that `save_rows` wrote."""
    contents: Any = None
    if not all(ask(_sees, folder=str(folder))):
        import ray

        contents = ray.put({file.name: file.read_bytes() for file in folder.glob("rows-*.pt")})
    ask(_load, folder=str(folder), contents=[contents])  # in a list, so that Ray leaves it a reference


def _sees(_: Any, folder: str) -> bool:
    return Path(folder).is_dir()


def _save(learner: Any, folder: str) -> dict[str, bytes]:
    """Nothing, if they could be written; else the file's name and content."""
    if _sees(learner, folder):
        learner.save_rows(folder)
        return {}
    with TemporaryDirectory() as here:
        learner.save_rows(here)
        return {file.name: file.read_bytes() for file in Path(here).iterdir()}


def _load(learner: Any, folder: str, contents: list[Any]) -> None:
    if _sees(learner, folder):
        learner.load_rows(folder)
        return
    import ray

    with TemporaryDirectory() as here:
        for name, content in ray.get(contents[0]).items():
            (Path(here) / name).write_bytes(content)
        learner.load_rows(here)
