"""Read YAML files so that each value has its file and line.

YAML 1.1 reads 1e-4 as text and `on` as true: here every scalar is text, and the caller converts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_io.quantities import parse_size, whole_number
from off2on.errors import UserError

MAX_BYTES = 2**20
"""Largest file."""

COMMAND_LINE = "command line"
"""Origin of values that are given on the command line."""

READY = Path("tune_configs")
"""Folder of ready files: in the root of the sources, and as data of the installed package."""


@dataclass(frozen=True)
class LocatedValue:
    """A value with its location.

    Attributes:
        value: Text, a list of located values, or a mapping from names to located values.
        origin: ``file:line``, or `COMMAND_LINE`.
        line: Text of the line or argument, from which a corrected line is made.
    """

    value: Any
    origin: str
    line: str = ""

    @property
    def texts(self) -> list[str]:
        """The values of a list as texts; a single value is a list of one.

        Raises:
            UserError: It is empty, or is or contains a mapping.
        """
        if self.value == []:
            raise self.wrong("expected a value, or a list of values.")
        return [item.as_words for item in (self.value if isinstance(self.value, list) else [self])]

    @property
    def as_words(self) -> str:
        """The value as one text, a list separated by commas as on the command line.

        Raises:
            UserError: It is neither a value nor a list of values.
        """
        items = self.value if isinstance(self.value, list) else [self]
        if not items or not all(isinstance(item.value, str) for item in items):
            raise self.wrong("expected a value, or a list of values.")
        return ",".join(item.value for item in items)

    @property
    def text(self) -> str:
        """The single value.

        Raises:
            UserError: There are several values.
        """
        if not isinstance(self.value, str):
            raise self.wrong("expected one value.")
        return self.value

    def whole(self, name: str, least: int = 0, most: int | None = None) -> int:
        """Return the value as a whole number, given as 20000, 20k or 1M.

        Args:
            name: Name of the setting, for the message.
            least: The smallest allowed number.
            most: The largest allowed number; None: any.

        Raises:
            UserError: It is not a whole number, too small or too large.
        """
        try:
            parsed = whole_number(self.text)
        except ValueError:
            parsed = least - 1
        if parsed < least:
            raise self.wrong(f"{name} must be a whole number ≥ {least}, such as 20k: got {self.text}.")
        if most is not None and parsed > most:
            raise self.wrong(f"{name} must be at most {most:,}: got {self.text}.")
        return parsed

    def size(self, name: str) -> int:
        """Return the value in bytes, given as 500M or 4G.

        Raises:
            UserError: It is not a size.
        """
        try:
            return parse_size(self.text)
        except ValueError:
            raise self.wrong(f"{name} must be a size, such as 500M or 4G: got {self.text}.") from None

    @property
    def items(self) -> dict[str, "LocatedValue"]:
        """The mapping from names to located values.

        Raises:
            UserError: It is not a mapping.
        """
        if not isinstance(self.value, dict):
            raise self.wrong("expected lines NAME: VALUE.")
        return self.value

    def wrong(self, what: str, expected: str = "", try_: str = "") -> UserError:
        """Return an error with this location; `try_` is written ``NAME=VALUE`` for the command line."""
        if self.origin == COMMAND_LINE:
            try_ = try_.replace(": ", "=", 1)
        return UserError(what, expected, try_, where=self.origin)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add this location to errors, and the corrected line if a name in it has a nearest name."""
        try:
            yield
        except UserError as error:
            error.where = error.where or self.origin
            fixed = error.corrected(self.line)
            if fixed != self.line:
                error.try_ = fixed.strip()
            raise


def find_yaml(path: Path) -> Path:
    """Return the path of a file; ``tune_configs/NAME`` that does not exist here is looked up in the package.

    Raises:
        UserError: The file does not exist.
    """
    folders = [path.parent]
    if path.parent == READY:
        folders.append(Path(__file__).parents[1] / READY)
    for folder in folders:
        if (folder / path.name).is_file():
            return folder / path.name
    raise UserError(
        f"there is no file '{path}'.",
        f"Looked in {' and '.join(str(folder.absolute()) for folder in folders)}.",
        given=path.name,
        known=(file.name for folder in folders for file in folder.glob("*.yaml")),
    )


def read_yaml(path: Path) -> LocatedValue:
    """Read a file that contains a mapping; see `find_yaml` for ready files.

    Raises:
        UserError: The file does not exist, is not YAML, contains no mapping, or has a name twice.
    """
    import yaml

    from datasets_io.storage.documents import check_yaml, read_content

    path = find_yaml(path)
    try:
        text = read_content(path, MAX_BYTES, UserError).decode()
        check_yaml(text)
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError("the file is not YAML that is read here.", f"{error.problem}.", where=where) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML.", str(error)) from None
    lines = text.splitlines()
    located = LocatedValue({}, str(path)) if root is None else _located(path, lines, root)
    if not isinstance(located.value, dict):
        raise UserError(f"{path} contains no mapping.", "Expected lines NAME: VALUE.")
    return LocatedValue(located.value, str(path))


def _located(path: Path, lines: list[str], node: Any, line: int | None = None) -> LocatedValue:
    number = (node.start_mark.line if line is None else line) + 1
    origin, text = f"{path}:{number}", lines[number - 1] if number <= len(lines) else ""
    if node.id == "mapping":
        found: dict[str, LocatedValue] = {}
        for key, value in node.value:
            at = f"{path}:{key.start_mark.line + 1}"
            if not isinstance(key.value, str):
                raise UserError("expected a name before the colon.", where=at)
            if key.value in found:
                first = found[key.value].origin
                raise UserError(f"'{key.value}' is given twice.", f"First at {first}.", where=at)
            found[key.value] = _located(path, lines, value, key.start_mark.line)
        return LocatedValue(found, origin, text)
    if node.id == "sequence":
        return LocatedValue([_located(path, lines, item) for item in node.value], origin, text)
    return LocatedValue(str(node.value), origin, text)
