"""Parsing of command-line arguments: numbers with k and M, sizes with G, arguments of a data source."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from datasets_io.quantities import number, parse_size, whole_number
from off2on.errors import UserError
from off2on.training.command_line import split_arguments
from off2on.training.located_yaml import COMMAND_LINE


def parse_count(text: str) -> int:
    """Parse a whole number: 20000, 20k or 1M."""
    try:
        return whole_number(text)
    except ValueError:
        message = f"'{text}' is not a whole number below 2^53, such as 20000, 20k or 1M."
        raise click.BadParameter(message) from None


def parse_checkpoint(text: str) -> str:
    """Return the name of a policy: handover, last, or the folder of a kept one, given as 50k or 60k-10k."""
    if text in ("handover", "last"):
        return text
    try:
        return "-".join(f"{whole_number(part):09d}" for part in text.split("-", 1))
    except ValueError:
        message = (
            f"'{text}' is not handover, last or a number of updates: 50k, online with the steps: 60k-10k."
        )
        raise click.BadParameter(message) from None


def parse_number(text: str) -> float:
    """Parse a finite number: 0.5, 1e-4 or 20k."""
    try:
        return number(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a finite number, such as 0.5 or 1e-4.") from None


def parse_memory(text: str) -> int:
    """Parse a number of bytes: 500M or 4G, in powers of 1024."""
    try:
        return parse_size(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a size, such as 500M or 4G.") from None


def command_line() -> str:
    """Return the command line of this process without ``--resume``."""
    return shlex.join(["off2on", *(word for word in sys.argv[1:] if word != "--resume")])


class SourceArguments(NamedTuple):
    """Path of a data source, or None, and its options."""

    path: str | None
    options: dict[str, Any]


def source_arguments(
    source: str, words: Sequence[str], columns: Sequence[str], env: str | None
) -> SourceArguments:
    """Parse the arguments of a data source.

    Args:
        source: Name of the source, for messages.
        words: Arguments after the source: a path and NAME=VALUE.
        columns: ROLE=COLUMN,… of a table.
        env: Id of an environment, or None.

    Raises:
        UserError: There are two paths, or the environment cannot be made.
        UnknownName: `columns` contains an unknown role.
    """
    given = split_arguments(words)
    if len(given.positional) > 1:
        raise UserError(
            f"unexpected second path '{given.positional[1]}'.",
            f"{source} is read from {given.positional[0]}.",
        )
    options: dict[str, Any] = dict(given.values)
    if columns:
        from datasets_io.sources.tabular import OPTIONS, parse_columns

        # With `--columns obs=x actions=u`, all values except the first arrive as NAME=VALUE arguments. They
        # are taken as given: a role that is given twice is wrong.
        typed = [word for word in words if "=" in word and not word.startswith("@")]
        read = [f"{role}={names}" for role, names in options.items() if given.origins[role] != COMMAND_LINE]
        roles = [word for word in [*typed, *read] if word.partition("=")[0] not in OPTIONS]
        own = {name: value for name, value in options.items() if name in OPTIONS}
        options = {"columns": parse_columns(" ".join([*columns, *roles])), **own}
    if env is not None:
        from datasets_io.environments import check_named

        check_named(env)
        options["env"] = env
    return SourceArguments(given.positional[0] if given.positional else None, options)
