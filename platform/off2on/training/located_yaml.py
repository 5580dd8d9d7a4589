"""What a YAML file says, each value with the line that it stands in; the types are for others to know.

YAML 1.1 alone would read 1e-4 as text, and `on` as true: here everything is text, lists and mappings.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from off2on.errors import UserError, nearest
from off2on.recipe.hyperparameters import number

COMMAND_LINE = "command line"
"""The origin of what is said there."""


@dataclass(frozen=True)
class LocatedValue:
    """A value and where it is said.

    Attributes:
        value: Text, a list of them, or names to what is said of each.
        origin: ``file:line``, or `COMMAND_LINE`.
        line: The line, or the word, as it stands, to be put right.
    """

    value: Any
    origin: str
    line: str = ""

    @property
    def texts(self) -> list[str]:
        """The value as a list: of one, if it is not a list.

        Raises:
            UserError: It is a mapping, or holds one.
        """
        if self.value == []:
            raise self.wrong("expected a value, or a list of values.")
        return [item.joined for item in (self.value if isinstance(self.value, list) else [self])]

    @property
    def joined(self) -> str:
        """The value as one text: a list with commas, as a command line has it.

        Raises:
            UserError: It is neither a value nor a list of values.
        """
        items = self.value if isinstance(self.value, list) else [self]
        if not items or not all(isinstance(item.value, str) for item in items):
            raise self.wrong("expected a value, or a list of values.")
        return ",".join(item.value for item in items)

    @property
    def text(self) -> str:
        """The value, of which there is one.

        Raises:
            UserError: There are several.
        """
        if not isinstance(self.value, str):
            raise self.wrong("expected one value.")
        return self.value

    def whole(self, name: str, least: int = 0) -> int:
        """A whole number: 20000, 20k or 1M.

        Args:
            name: What it is of.
            least: The smallest that it may be.

        Raises:
            UserError: It is none, or too small.
        """
        try:
            parsed = number(self.text)
            right = parsed == int(parsed) and parsed >= least
        except (ValueError, OverflowError):
            right = False
        if not right:
            raise self.wrong(f"{name} must be a whole number from {least} on, such as 20k: got {self.text}.")
        return int(parsed)

    @property
    def items(self) -> dict[str, "LocatedValue"]:
        """Names to what is said of each.

        Raises:
            UserError: It is no mapping.
        """
        if not isinstance(self.value, dict):
            raise self.wrong("expected lines NAME: VALUE.")
        return self.value

    def wrong(self, what: str, expected: str = "", attempt: str = "") -> UserError:
        """What to raise about it; of a line ``NAME: VALUE`` to paste, a command line has ``NAME=VALUE``."""
        if self.origin == COMMAND_LINE:
            attempt = attempt.replace(": ", "=", 1)
        return UserError(f"{self.origin}: {what}", expected, attempt)

    @contextmanager
    def blamed(self, where: str = "") -> Iterator[None]:
        """What goes wrong inside is told with the line, and with the line put right if a name is near."""
        try:
            yield
        except UserError as error:
            what = error.what if error.what.startswith(self.origin) else f"{self.origin}: {where}{error.what}"
            raise type(error)(what, error.expected, self._mended(error) or error.attempt) from None

    def _mended(self, error: UserError) -> str:
        near = re.match(r"nearest: (\S+?)[.,;]? ", f"{error.expected} ")
        wrong = re.search(r"'([^']+)'", error.what)
        if not near or not wrong:
            return ""
        fixed = re.sub(rf"(?<![\w-]){re.escape(wrong[1])}(?![\w-])", near[1], self.line)
        return fixed.strip() if fixed != self.line else ""


def read(path: Path) -> LocatedValue:
    """Reads a file that holds a mapping.

    Raises:
        UserError: It is not there, is no YAML, holds no mapping, or says a name twice.
    """
    import yaml

    if not path.is_file():
        near = nearest(path.name, [file.name for file in path.parent.glob("*.yaml")])
        raise UserError(f"there is no file '{path}'.", f"{near}Looked in {path.absolute().parent}.")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML.", str(error)) from None
    lines = text.splitlines()
    said = LocatedValue({}, str(path)) if root is None else _said(path, lines, root)
    if not isinstance(said.value, dict):
        raise UserError(f"{path} holds no mapping.", "Expected lines NAME: VALUE.")
    return LocatedValue(said.value, str(path))


def _said(path: Path, lines: list[str], node: Any, line: int | None = None) -> LocatedValue:
    number = (node.start_mark.line if line is None else line) + 1
    origin, text = f"{path}:{number}", lines[number - 1] if number <= len(lines) else ""
    if node.id == "mapping":
        found: dict[str, LocatedValue] = {}
        for key, value in node.value:
            at = f"{path}:{key.start_mark.line + 1}"
            if not isinstance(key.value, str):
                raise UserError(f"{at}: expected a name before the colon.")
            if key.value in found:
                raise UserError(f"{at}: '{key.value}' is said twice.", f"First at {found[key.value].origin}.")
            found[key.value] = _said(path, lines, value, key.start_mark.line)
        return LocatedValue(found, origin, text)
    if node.id == "sequence":
        return LocatedValue([_said(path, lines, item) for item in node.value], origin, text)
    return LocatedValue(str(node.value), origin, text)
