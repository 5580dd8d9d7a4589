"""Replace a folder on a disk, so that a kill at any moment leaves the former or the new one whole."""

import os
from pathlib import Path

from datasets_io.storage.places import delete

PARTIAL = ".partial"
"""Suffix of a folder that is being written, or being replaced; no data set and no run has such a name."""


def partial_of(folder: Path) -> Path:
    """Return the folder beside another one in which its new content is written."""
    return folder.with_name(f"{folder.name}{PARTIAL}")


def replaced_by(folder: Path) -> Path:
    """Return the name that a folder has while a new one takes its place."""
    return folder.with_name(f"{folder.name}.old{PARTIAL}")


def replace_folder(folder: Path) -> None:
    """Put the folder `partial_of` in the place of another one, which need not exist."""
    if folder.exists():
        os.replace(folder, replaced_by(folder))  # a kill while it is deleted would leave half of it
    os.replace(partial_of(folder), folder)
    delete(replaced_by(folder))


def end_replacement(folder: Path) -> None:
    """Delete the former folder of a replacement that was killed, or put it back if there is no new one."""
    former = replaced_by(folder)
    if former.exists() and not folder.exists():
        os.replace(former, folder)
    delete(former)
