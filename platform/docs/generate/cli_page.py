"""Write the reference of the command line from click's commands."""

import inspect
import re
from collections.abc import Iterator

import click
from markdown_text import code, docstring, escape, fence, table

from off2on import cli


def cli_page() -> str:
    """Return the page of all commands."""
    parts = [
        "# Command line",
        _help(cli.off2on.help or ""),
        docstring(inspect.getdoc(cli) or ""),
        *_sections(cli.off2on, click.Context(cli.off2on, info_name="off2on")),
    ]
    return "\n\n".join(parts) + "\n"


def _sections(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.commands[name]
        with click.Context(command, info_name=name, parent=context) as inner:
            yield f"## {inner.command_path}"
            yield fence(f"{inner.command_path} {' '.join(command.collect_usage_pieces(inner))}")
            yield _help(command.help or "")
            rows = [
                [code(record[0]), escape(record[1])]
                for option in command.get_params(inner)
                if option.param_type_name == "option"
                and option.name != "help"  # every command has it
                and (record := option.get_help_record(inner))
            ]
            if rows:
                yield table(["option", "meaning"], rows)
            if command.epilog:
                yield _help(command.epilog)
            if isinstance(command, click.Group):
                yield from _sections(command, inner)


def _help(text: str) -> str:
    """Return the help of a command; a paragraph after click's mark for no re-wrapping is code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = paragraph.strip("\n")
        if lines.lstrip().startswith("\b"):
            parts.append(fence(lines.lstrip().removeprefix("\b").strip("\n")))
        else:
            parts.append(escape(lines))
    return "\n\n".join(parts)
