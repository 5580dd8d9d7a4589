"""Check that the tables of a folder belong together: equal columns, and no episode that goes on elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from datasets_io import storage
from datasets_io.episode import Array
from datasets_io.errors import BadValues, MissingColumn, UnknownName
from datasets_io.sources.table_cells import EpisodeCodes
from datasets_io.sources.table_files import SUFFIXES

Roles = Mapping[str, tuple[str, ...]]
"""Role → names of its columns."""


def table_files(folder: storage.Place) -> tuple[list[str], list[str]]:
    """Return the tables of a folder, and the other files, such as those that Spark and macOS leave.

    Raises:
        UnknownName: The folder has no table.
        BadValues: A subfolder has tables.
    """
    root = storage.absolute(folder)
    tables: list[str] = []
    others: list[str] = []
    for file in storage.list_files(root, recursive=True):
        *above, name = file.removeprefix(f"{root}").strip("/").split("/")
        is_table = name.endswith(SUFFIXES) and not any(it.startswith((".", "_")) for it in (*above, name))
        if is_table and above:
            raise BadValues(
                f"{folder} has tables in subfolders: {'/'.join(above)}/{name}.",
                "A folder is read without its subfolders; names of subfolders are no columns.",
                f"off2on data add {folder}/{'/'.join(above)} …",
            )
        if is_table or not above:
            (tables if is_table else others).append(file)
    if not tables:
        raise UnknownName(f"{folder} holds no {' or '.join(SUFFIXES)} file.")
    return tables, others


def check_same_columns(files: Sequence[str], found: Sequence[Roles]) -> None:
    """Check that all files have the same columns.

    Raises:
        MissingColumn: A file has others than the first.
    """
    for file, roles in zip(files, found, strict=True):
        for role in {**found[0], **roles}:
            if roles.get(role) != found[0].get(role):
                listed = [
                    "none" if it is None else ",".join(it) for it in (found[0].get(role), roles.get(role))
                ]
                raise MissingColumn(
                    f"{files[0]} and {file} have different columns for {role}: {listed[0]} and {listed[1]}.",
                    "The files of a folder are one table.",
                )


def is_one_table(
    files: Sequence[str], roles: Roles, read: Callable[[str, Roles, EpisodeCodes], Iterator[dict[str, Array]]]
) -> bool:
    """Return True if episodes go on in other files, and a column orders their rows.

    Args:
        files: The files.
        roles: Their columns.
        read: Reads columns of a file, with numbers of episodes, in blocks.

    Raises:
        BadValues: An episode may go on in another file, and no column orders its rows.
    """
    ends = {role: names for role, names in roles.items() if role in ("episode", "terminated", "truncated")}
    codes = EpisodeCodes()
    closed, owner = np.zeros(0, bool), np.zeros(0, np.int32)  # of each episode: ended? in which file?
    for number, file in enumerate(files):
        before = closed.copy()
        last_is_end = True
        for block in read(file, ends, codes):
            flags = [block[role] for role in ("terminated", "truncated") if role in block]
            is_end = np.logical_or.reduce(flags) if flags else np.zeros(len(block["episode"]), bool)
            last_is_end = bool(is_end[-1]) if len(is_end) else last_is_end
            if "episode" not in block:
                continue
            rows = block["episode"] >= 0
            known, is_end = block["episode"][rows], is_end[rows]
            goes_on = (known < len(before)) & ~np.append(before, True)[np.minimum(known, len(before))]
            if goes_on.any():
                if "step" in roles:
                    return True
                code = int(known[np.argmax(goes_on)])
                episode, other = [*codes.known][code], files[owner[code]]
                raise BadValues(
                    f"episode {episode!r} is in {other} and in {_name(file)}.",
                    "Files have no order: name a column of times or numbers of steps.\n"
                    "If these are two episodes, mark the end of the first: terminated or truncated.",
                    "--columns step=COLUMN",
                )
            closed = np.append(closed, np.zeros(len(codes.known) - len(closed), bool))
            owner = np.append(owner, np.full(len(codes.known) - len(owner), number, np.int32))
            closed[known], owner[known] = is_end, number
        if "episode" not in ends and not last_is_end and number + 1 < len(files):
            raise BadValues(
                f"the last row of {file} ends no episode, which may go on in {_name(files[number + 1])}.",
                "Name a column that identifies episodes, or mark that row as truncated.",
                "--columns episode=COLUMN",
            )
    return False


def _name(file: str) -> str:
    return storage.locate(file).name
