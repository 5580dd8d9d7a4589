"""Save and load the rows of learners, also on machines that cannot access the checkpoint's folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CallLearners = Callable[..., list[Any]]
"""Calls a function with every learner; see `algorithm.OfflineToOnline.call_learners`."""


def save_rows(call_learners: CallLearners, folder: Path) -> None:
    """Write every learner's rows into a checkpoint: in the learner if it can access the folder, else here."""
    for contents in call_learners(_save, folder=str(folder)):
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def load_rows(call_learners: CallLearners, folder: Path) -> None:
    """Load into every learner the rows that `save_rows` wrote."""
    contents: Any = None
    if not all(call_learners(_has_folder, folder=str(folder))):
        import ray

        contents = ray.put({file.name: file.read_bytes() for file in folder.glob("rows-*.pt")})
    # In a list: Ray would replace a top-level reference by its value.
    call_learners(_load, folder=str(folder), contents=[contents])


def _has_folder(_: Any, folder: str) -> bool:
    return Path(folder).is_dir()


def _save(learner: Any, folder: str) -> dict[str, bytes]:
    """Write the rows if the learner can access the folder, else return the file's name and content."""
    if _has_folder(learner, folder):
        learner.save_rows(folder)
        return {}
    with TemporaryDirectory() as temporary:
        learner.save_rows(temporary)
        return {file.name: file.read_bytes() for file in Path(temporary).iterdir()}


def _load(learner: Any, folder: str, contents: list[Any]) -> None:
    if _has_folder(learner, folder):
        learner.load_rows(folder)
        return
    import ray

    with TemporaryDirectory() as temporary:
        for name, content in ray.get(contents[0]).items():
            (Path(temporary) / name).write_bytes(content)
        learner.load_rows(temporary)
