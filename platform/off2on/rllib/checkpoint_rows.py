"""Save and load learners' rows, also of learners on machines without access to the checkpoint's folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CallLearners = Callable[..., list[Any]]
"""Calls a function with every learner; see `algorithm.OfflineToOnline.call_learners`."""


def save_rows(call_learners: CallLearners, folder: Path) -> None:
    """Write every learner's rows into a checkpoint: in its process if it sees the folder, else here."""
    for contents in call_learners(_save, folder=str(folder)):
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def load_rows(call_learners: CallLearners, folder: Path) -> None:
    """Load into every learner the rows that `save_rows` wrote."""
    contents: Any = None
    if not all(call_learners(_has_folder, folder=str(folder))):
        import ray

        contents = ray.put({file.name: file.read_bytes() for file in folder.glob("rows-*.pt")})
    call_learners(
        _load, folder=str(folder), contents=[contents]
    )  # in a list: Ray replaces only top-level references


def _has_folder(_: Any, folder: str) -> bool:
    return Path(folder).is_dir()


def _save(learner: Any, folder: str) -> dict[str, bytes]:
    """Return name and content of the file if it could not be written; else nothing."""
    if _has_folder(learner, folder):
        learner.save_rows(folder)
        return {}
    with TemporaryDirectory() as here:
        learner.save_rows(here)
        return {file.name: file.read_bytes() for file in Path(here).iterdir()}


def _load(learner: Any, folder: str, contents: list[Any]) -> None:
    if _has_folder(learner, folder):
        learner.load_rows(folder)
        return
    import ray

    with TemporaryDirectory() as here:
        for name, content in ray.get(contents[0]).items():
            (Path(here) / name).write_bytes(content)
        learner.load_rows(here)
