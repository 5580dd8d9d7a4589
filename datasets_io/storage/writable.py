"""Check that a folder can be written, before the work begins whose results it is to contain."""

import os
import tempfile
from pathlib import Path

from datasets_io.errors import UserError
from datasets_io.storage.errors import convert_full_disk
from datasets_io.storage.places import Place


def check_writable(place: Place, given: str, try_: str = "") -> None:
    """Check that a folder can be made and written; nothing is left behind.

    Args:
        place: The folder, which need not exist. One in a bucket is not checked.
        given: What the user gave for it, for the message.
        try_: Line to paste that chooses another folder.

    Raises:
        UserError: The system refuses it: no permission, a file in its place, a read-only disk ….
        NoSpace: The disk is full.
    """
    if not isinstance(place, Path):
        return
    folder = place.absolute()
    for there in (folder, *folder.parents):
        try:
            with convert_full_disk(there):
                there.lstat()
                # Permissions alone do not tell: a disk may be read-only, and an administrator has them all.
                os.rmdir(tempfile.mkdtemp(prefix=".off2on-", dir=there))
            return
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.lexists(there):
                continue  # it would be made in its parent
            reason = os.strerror(error.errno or 0)
            raise UserError(
                f"{given}: nothing can be written in {there}: {reason}.",
                "Expected a folder that can be written, or made.",
                try_,
            ) from None


def example_folder(name: str) -> str:
    """Return the path of a folder in the user's home, for a line to paste."""
    return os.path.expanduser(f"~/{name}")
