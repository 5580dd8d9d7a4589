"""Command-line options made from the declarations of `training.options`, and one of several commands."""

from collections.abc import Callable
from typing import Any

import click

from off2on.commands.arguments import parse_checkpoint, parse_count, parse_memory, parse_number
from off2on.training.options import ONLINE_SHORTCUTS, OPTIONS, Option, default_text, flag

GUARD = Option("Collect with a new policy only after a test shows that it is not worse.", kind="flag")
TYPES: dict[str, Any] = {"count": parse_count, "number": parse_number, "size": parse_memory, "text": str}

checkpoint_option = click.option(
    "--checkpoint",
    type=parse_checkpoint,
    default="last",
    show_default=True,
    metavar="NAME",
    help="handover, last, or the updates of a policy that --keep-policies kept (online UPDATES-STEPS).",
)
"""Decorator that adds ``--checkpoint`` to a command about a run's policy."""


def run_options(*names: str) -> Callable[[Any], Any]:
    """Return a decorator that adds options of a run to a command, in the order of declaration.

    Args:
        names: Which options; without names, all of them.
    """
    known = {**OPTIONS, **ONLINE_SHORTCUTS, "guard": GUARD}

    def decorate(command: Any) -> Any:
        for name in reversed([each for each in known if not names or each in names]):
            command = _option(name, known[name])(command)
        return command

    return decorate


def _option(name: str, known: Option) -> Callable[[Any], Any]:
    """Return an option of click, whose value is None unless it is given."""
    if known.kind == "flag":
        return click.option(flag(name), name, is_flag=True, default=None, help=known.help)
    default = default_text(name)
    help_ = f"{known.help}  [{default}]" if default else known.help
    if known.kind == "texts":
        return click.option(
            flag(name),
            name,
            metavar=known.metavar,
            multiple=True,
            callback=lambda _, __, values: values or None,
            help=help_,
        )
    return click.option(flag(name), name, type=TYPES[known.kind], metavar=known.metavar, help=help_)
