"""Check that a checkpoint of a run is whole and lies in the run's folder, before it is read.

RLlib's checkpoints are pickled: reading one runs the code in it.
"""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from datasets_io.errors import Corrupt
from datasets_io.storage.documents import read_json

CHECKPOINTS, LAST = "checkpoints", "last"

Name = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
"""Name of a checkpoint's folder."""

NUMBERED = re.compile(r"\d+(-\d+)?(\.partial)?", re.ASCII)
"""Name of a checkpoint that a newer one replaces: its updates and steps; ``.partial`` after a kill."""

PARTS = "parts.json"
"""Name of the list of a checkpoint's files, with their sizes in bytes."""

OLDER_PARTS = ("rllib_checkpoint.json", "algorithm_state.pkl", "class_and_ctor_args.pkl", "learner_group")
"""Files of a checkpoint of version 0.1.0, which has no list."""

ROWS = re.compile(r"rows-\d+-of-(\d{1,4})\.pt", re.ASCII)
"""Rows of a learner, of a number of learners."""


def list_parts(folder: Path) -> str:
    """Return the list of the files below a folder, as it is stored in `PARTS`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return json.dumps({str(path.relative_to(folder)): path.stat().st_size for path in files}, indent=1)


def check_checkpoint(run: Path, name: str) -> Path:
    """Check a checkpoint, and return its folder, without links.

    Args:
        run: Folder of the run.
        name: Name of the checkpoint; `LAST` for the newest.

    Raises:
        Corrupt: It is missing, lies elsewhere, or a part of it is missing or has another size than written.
    """
    named, home = run / CHECKPOINTS / name, run.resolve() / CHECKPOINTS
    folder = named.resolve()
    if home not in folder.parents:
        raise Corrupt(f"the checkpoint {named} leads to {folder}.", f"Expected a folder in {named.parent}.")
    if not folder.is_dir():
        raise Corrupt(f"the checkpoint {named} is missing.", f"It leads to {folder}, which is no folder.")
    if links := [path for path in folder.rglob("*") if path.is_symlink()]:
        raise Corrupt(f"the checkpoint {named} has a link, {links[0]}.", "Expected files.")
    if not (folder / PARTS).is_file():
        _check_older(folder)
        return folder
    for part, size in read_json(folder / PARTS, dict[str, int]).items():
        found = folder / part
        if not found.is_file():
            raise Corrupt(f"the checkpoint {named} lacks {part}.")
        if found.stat().st_size != size:
            raise Corrupt(f"{found} has {found.stat().st_size:,} bytes.", f"It was written with {size:,}.")
    return folder


def _check_older(folder: Path) -> None:
    """Check that a checkpoint without a list of its parts has those that every checkpoint has."""
    count = max([1, *(int(match[1]) for path in folder.iterdir() if (match := ROWS.fullmatch(path.name)))])
    rows = [f"rows-{rank}-of-{count}.pt" for rank in range(count)]
    for part in (*OLDER_PARTS, *rows):
        if not (folder / part).exists():
            raise Corrupt(f"the checkpoint {folder} lacks {part}.")
