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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from off2on.commands.train import COMMAND_ONLY, train
from off2on.errors import OnlineSettingsError, UserError
from off2on.training.command_line import planned
from off2on.training.located_yaml import LocatedValue
from off2on.training.located_yaml import read as read_file

if TYPE_CHECKING:
    from off2on.training.plan import Plan

KEYS = ("out", "seeds", "handovers", "online", "ways")


@dataclass(frozen=True)
class Comparison:
    """What a file says.

    Attributes:
        path: The file.
        out: Where its runs and its page go.
        seeds: How many of each.
        handovers: Name to words.
        ways: Name to words.
        online: Words that stand in front of those of every way.
    """

    path: Path
    out: Path
    seeds: int
    handovers: Mapping[str, LocatedValue]
    ways: Mapping[str, LocatedValue]
    online: str = ""

    def plan(self, handover: str, way: str | None, seed: int) -> "Plan":
        """The run of a way from a handover; without a way, the one that makes it."""
        if way is None:
            return self._plan(self.handovers[handover], "", self._place(handover, "offline", seed))
        start = shlex.join(["--from", str(self.plan(handover, None, seed).folder)])
        return self._plan(self.ways[way], f"{start} {self.online}", self._place(handover, way, seed))

    def refusals(self) -> dict[tuple[str, str], str]:
        """Checks every run before any is made, and says which ways a handover cannot take, and why.

        Raises:
            UserError: Something that is said cannot be; names the line.
        """
        refused = {}
        for handover, start in self.handovers.items():
            if self._plan(start, "", self._place(handover, "offline", 0)).online:
                raise start.wrong("a handover is made offline, and this line has --online.")
            for way, across in self.ways.items():
                try:
                    self._plan(across, f"{start.text} {self.online}", self._place(handover, way, 0))
                except OnlineSettingsError as error:
                    refused[handover, way] = error.what
        return refused

    def _place(self, handover: str, way: str, seed: int) -> list[str]:
        return ["--out", str(self.out / _slug(handover) / _slug(way)), "--seed", str(seed)]

    def _plan(self, item: LocatedValue, before: str, after: list[str]) -> "Plan":
        """The plan of a command line of the file, checked."""
        words = [*shlex.split(f"{before} {item.text}"), *after]
        with item.blamed():
            try:
                params = train.make_context("train", list(words)).params
            except click.ClickException as error:
                raise UserError(error.format_message()) from None
            options = {name: params[name] for name in params if name not in COMMAND_ONLY}
            (plan,), _ = planned(
                params["words"], options, shlex.join(["off2on", "train", *words]), resume=True
            )
        return plan


def read(path: Path) -> Comparison:
    """Reads a comparison's file.

    Raises:
        UserError: It is not there, is no YAML, or says something that a comparison does not know.
    """
    told = read_file(path).items
    for key, each in told.items():
        if key not in KEYS:
            with each.blamed():
                raise UserError(
                    f"a comparison has no '{key}'.", f"All: {' '.join(KEYS)}", given=key, known=KEYS
                )
    for key in ("handovers", "ways"):
        if key not in told:
            raise UserError(f"{path} has no {key}.", "Expected NAME: words of `off2on train`, a line each.")
    out = told["out"].text if "out" in told else str(Path("runs") / path.stem)
    if "://" in out:
        raise told["out"].wrong(
            f"a comparison is made on this machine, and {out} is not.", "Expected a folder."
        )
    online, ways = told["online"].text if "online" in told else "", _lines(told["ways"])
    for way in ways.values():
        if not {"--online", "--new-data"} & _options(f"{online} {way.text}"):
            raise way.wrong("this way has no online side.", "", "online: --online 5k")
    return Comparison(
        path=path,
        out=Path(out),
        seeds=told["seeds"].whole("seeds", least=1) if "seeds" in told else 3,
        handovers=_lines(told["handovers"]),
        ways=ways,
        online=online,
    )


def _lines(block: LocatedValue) -> dict[str, LocatedValue]:
    """Names to a line of words each; every name has a folder of its own."""
    if not block.items:
        raise block.wrong("expected lines NAME: words of `off2on train`.")
    folders: dict[str, str] = {}
    for name, item in block.items.items():
        if not isinstance(item.value, str):
            raise item.wrong("expected a line of words here.", "As `off2on train` takes them.")
        for option in ("--seed", "--seeds", "--out", "--from"):
            if option in _options(item.value):
                raise item.wrong(f"{option} is the comparison's to say: every way has the same.")
        other = folders.setdefault(_slug(name), name)
        if other != name:
            raise item.wrong(f"'{name}' would have the folder of '{other}'.", "Names must differ in letters.")
    return block.items


def _options(line: str) -> set[str]:
    return {word.partition("=")[0] for word in line.split()}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name)
