"""A comparison's file: handovers, ways across, and the runs that they make together.

    out: runs/handover
    seeds: 3
    handovers:
      iql: iql halfcheetah-medium hidden=128,128 --updates 10k
    online: --online 5k --eval-every 500
    ways:
      append: --strategy append
      warm start: --strategy warm_start --warm-up 1k

Words are those of ``off2on train``. Each handover is learned once per seed, and every way sets out from it.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from off2on.commands.planning import planned
from off2on.commands.train import OF_THE_COMMAND, train
from off2on.errors import CrossingError, UserError, nearest

if TYPE_CHECKING:
    from off2on.plan import Plan

KEYS = ("out", "seeds", "handovers", "online", "ways")


@dataclass(frozen=True)
class Comparison:
    """What a file says.

    Attributes:
        path: The file.
        out: Where its runs and its page go.
        seeds: How many of each.
        handovers: Name to (words, line).
        ways: Name to (words, line); the words of `online` are in front.
    """

    path: Path
    out: Path
    seeds: int
    handovers: dict[str, tuple[list[str], int]]
    ways: dict[str, tuple[list[str], int]]

    def plan(self, handover: str, way: str | None, seed: int) -> "Plan":
        """The run of a way from a handover; without a way, the one that makes it."""
        words, line = self.handovers[handover] if way is None else self.ways[way]
        if way is not None:
            words = ["--from", str(self.plan(handover, None, seed).folder), *words]
        return self._plan([*words, *self._place(handover, way or "offline", seed)], line)

    def refusals(self) -> dict[tuple[str, str], str]:
        """Checks every run before any is made, and says which ways a handover cannot take, and why.

        Raises:
            UserError: Something that is said cannot be; names the line.
        """
        refused = {}
        for handover, (start, line) in self.handovers.items():
            self._plan([*start, *self._place(handover, "offline", 0)], line)
            for way, (words, at) in self.ways.items():
                try:
                    self._plan([*start, *words, *self._place(handover, way, 0)], at)
                except CrossingError as error:
                    refused[handover, way] = error.what.removeprefix(f"{self.path}:{at}: ")
        return refused

    def _place(self, handover: str, way: str, seed: int) -> list[str]:
        return ["--out", str(self.out / _slug(handover) / _slug(way)), "--seed", str(seed)]

    def _plan(self, words: list[str], line: int) -> "Plan":
        """The plan of a command line of the file, checked."""
        try:
            said = train.make_context("train", list(words)).params
            options = {name: said[name] for name in said if name not in OF_THE_COMMAND}
            (plan,), _ = planned(said["words"], options, shlex.join(["off2on", "train", *words]), resume=True)
        except click.ClickException as error:
            raise UserError(f"{self.path}:{line}: {error.format_message()}") from None
        except UserError as error:
            raise type(error)(f"{self.path}:{line}: {error.what}", error.expected, error.attempt) from None
        return plan


def read(path: Path) -> Comparison:
    """Reads a comparison's file.

    Raises:
        UserError: It is not there, is no YAML, or says something that a comparison does not know.
    """
    import yaml

    if not path.is_file():
        near = nearest(path.name, [file.name for file in path.parent.glob("*.yaml")])
        raise UserError(f"there is no file '{path}'.", f"{near}Looked in {path.absolute().parent}.")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML.", str(error)) from None
    said = dict(_items(path, root, "the file"))
    for key, (_, line) in said.items():
        if key not in KEYS:
            raise UserError(
                f"{path}:{line}: a comparison has no '{key}'.", f"{nearest(key, KEYS)}All: {' '.join(KEYS)}"
            )
    for key in ("handovers", "ways"):
        if key not in said:
            raise UserError(f"{path} has no {key}.", "Expected NAME: words of `off2on train`, a line each.")
    common = _words(path, *said["online"]) if "online" in said else []
    return Comparison(
        path=path,
        out=Path(_text(path, *said["out"])) if "out" in said else Path("runs") / path.stem,
        seeds=_whole(path, *said["seeds"]) if "seeds" in said else 3,
        handovers={name: (_words(path, *item), item[1]) for name, item in _items(path, *said["handovers"])},
        ways={name: ([*common, *_words(path, *item)], item[1]) for name, item in _items(path, *said["ways"])},
    )


def _items(path: Path, node: Any, where: object) -> Iterator[tuple[str, tuple[Any, int]]]:
    """The keys of a mapping, each with its node and its line; every key once."""
    if not isinstance(getattr(node, "value", None), list) or not node.id == "mapping" or not node.value:
        raise UserError(f"{path}: expected lines NAME: … in {where}.", f"Keys: {' '.join(KEYS)}")
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise UserError(
                f"{path}:{line}: '{key.value}' is said twice.", f"First in line {seen[key.value]}."
            )
        if (other := next((name for name in seen if _slug(name) == _slug(key.value)), None)) is not None:
            raise UserError(
                f"{path}:{line}: '{key.value}' would have the folder of '{other}'.",
                "Names must differ in letters.",
            )
        seen[key.value] = line
        yield str(key.value), (value, line)


def _text(path: Path, node: Any, line: int) -> str:
    if not isinstance(node.value, str):
        raise UserError(f"{path}:{line}: expected a line of words here.", "As `off2on train` takes them.")
    return node.value


def _words(path: Path, node: Any, line: int) -> list[str]:
    return shlex.split(_text(path, node, line))


def _whole(path: Path, node: Any, line: int) -> int:
    text = _text(path, node, line)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{path}:{line}: seeds must be a whole number from 1 on: got {text}.")
    return int(text)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name)
