"""The files of a folder, on a disk or in a bucket."""

from typing import Any

from datasets_io import storage


def contents_of(root: Any) -> dict[str, bytes]:
    """Every file below a folder by its whole path, with its content; none if there is no folder."""
    if not storage.exists(root):
        return {}
    return {name: storage.read_bytes(name) for name in storage.list_files(root, recursive=True)}
