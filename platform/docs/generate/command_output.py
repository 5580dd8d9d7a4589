"""Read what commands of the package print as JSON."""

import json
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import click


def described(command: click.Command, *words: str) -> dict[str, Any]:
    """Return what a command prints with these words and ``--json``, with lists as tuples."""
    with redirect_stdout(StringIO()) as printed:
        command.main([*words, "--json"], standalone_mode=False)
    found: dict[str, Any] = _with_tuples(json.loads(printed.getvalue()))
    return found


def _with_tuples(value: Any) -> Any:
    """Return a value of JSON in which lists are tuples, as hyperparameters have them."""
    if isinstance(value, dict):
        return {name: _with_tuples(each) for name, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
