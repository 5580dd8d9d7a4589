"""What a command line says: numbers with k and M, sizes with G, NAME=VALUE, @file.yaml."""

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from off2on.errors import UserError
from off2on.said import COMMAND_LINE

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


def whole(text: str) -> int:
    """A whole number: 20000, 20k or 1M."""
    from off2on.hyperparameters import number

    try:
        parsed = number(text)
        exact = parsed == int(parsed)
    except (ValueError, OverflowError):
        exact = False
    if not exact:
        raise click.BadParameter(f"'{text}' is no whole number, such as 20000, 20k or 1M.")
    return int(parsed)


def memory(text: str) -> int:
    """Bytes: 500M or 4G, in powers of 1024."""
    found = re.fullmatch(r"(\d+\.?\d*)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise click.BadParameter(f"'{text}' is no size, such as 500M or 4G.")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


class Words(NamedTuple):
    """The arguments of a verb: those that stand alone, and the assignments with their origins."""

    alone: list[str]
    values: dict[str, object]
    origins: dict[str, str]


def this_command() -> str:
    """The command line of this process, as it was begun: without ``--resume``."""
    return shlex.join(["off2on", *(word for word in sys.argv[1:] if word != "--resume")])


def split(words: Iterable[str]) -> Words:
    """Tells ``ALGO DATA`` from ``NAME=VALUE`` and ``@file.yaml``; what comes later wins.

    Raises:
        UserError: A word that stands alone after an assignment, or a file that cannot be used.
    """
    alone: list[str] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for word in words:
        found = _ASSIGNMENT.fullmatch(word)
        if word.startswith("@"):
            for name, (value, origin) in _from_file(Path(word[1:])).items():
                values[name], origins[name] = value, origin
        elif found:
            values[found[1]], origins[found[1]] = found[2], COMMAND_LINE
        elif values:
            raise UserError(
                f"'{word}' comes after NAME=VALUE and is not one.", "Names come first, then NAME=VALUE."
            )
        else:
            alone.append(word)
    return Words(alone, values, origins)


def _from_file(path: Path) -> dict[str, tuple[object, str]]:
    """Names to (value as text, file:line) of a flat YAML mapping."""
    import yaml

    if not path.is_file():
        raise UserError(f"there is no file '{path}'.", f"Looked in {path.absolute().parent}.")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML.", str(error)) from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(
            f"{path} holds no mapping.", "Expected lines NAME: VALUE.", f"echo 'beta: 3.0' > {path}"
        )
    found: dict[str, tuple[object, str]] = {}
    for key, value in root.value:
        origin = f"{path}:{key.start_mark.line + 1}"
        if key.value in found:
            raise UserError(f"{origin}: '{key.value}' is said twice.", f"First at {found[key.value][1]}.")
        found[key.value] = (_text(value, origin, str(key.value)), origin)
    return found


def _text(node: Any, origin: str, name: str) -> str:
    """A scalar, or a list of scalars with commas: the hyperparameter knows its own type.

    YAML 1.1 alone would read 1e-4 as text, and `on` as true.
    """
    items = node.value if isinstance(node.value, list) else [node]
    if not all(isinstance(getattr(item, "value", None), str) for item in items):
        raise UserError(f"{origin}: '{name}' is neither a value nor a list of values.")
    return ",".join(item.value for item in items)
