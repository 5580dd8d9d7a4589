"""What a verb is told about a source: SOURCE [PATH] [NAME=VALUE …] --columns … --env ID."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from off2on.commands.words import split
from off2on.errors import UserError


class Asked(NamedTuple):
    """The path, if one was given, and the options of the source."""

    path: str | None
    options: dict[str, Any]


def asked(source: str, words: Sequence[str], columns: Sequence[str], env: str | None) -> Asked:
    """Sorts the words of a command line.

    Args:
        source: The first of them, for messages.
        words: Those after it: a path and NAME=VALUE.
        columns: ROLE=COLUMN,… of a table.
        env: Id of an environment.

    Raises:
        UserError: There are two paths.
        UnknownName: A word of `columns` names no role.
    """
    given = split(words)
    if len(given.alone) > 1:
        raise UserError(
            f"'{given.alone[1]}' is one path too many.", f"{source} is read from {given.alone[0]}."
        )
    options: dict[str, Any] = dict(given.values)
    if columns:
        from datasets_io.tabular import parse_columns

        # Words after the option's first value reach us as assignments of their own.
        words = [*columns, *(f"{role}={names}" for role, names in options.items())]
        options = {"columns": parse_columns(" ".join(words))}
    if env is not None:
        options["env"] = env
    return Asked(given.alone[0] if given.alone else None, options)
