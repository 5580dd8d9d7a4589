"""The file of a comparison: handovers, variants of the online phase, and their runs.

    out: runs/handover
    seeds: 3
    handovers:
      iql: iql halfcheetah-medium hidden=128,128 --updates 10k
    online: --online 5k --eval-every 500
    variants:
      append: --strategy append
      warm start: --strategy warm_start --warm-up 1k

Values are arguments of ``off2on train``. Each handover is trained once per seed; every variant
starts from it.
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
from off2on.training.command_line import make_plans
from off2on.training.located_yaml import LocatedValue, read_yaml
from off2on.training.options import MOST_SEEDS

if TYPE_CHECKING:
    from off2on.training.plan import Plan

KEYS = ("out", "seeds", "handovers", "online", "variants")
FORMER = "ways"
"""Name of `variants` before version 0.2, accepted until version 0.3."""
REFUSED = {
    **dict.fromkeys(
        ("--seed", "--seeds", "--out", "--from"), "is set by the comparison, the same for every variant"
    ),
    **dict.fromkeys(("--together", "--resume", "--dry-run"), "has no effect on a run of a comparison"),
}
"""Options of ``off2on train`` that no line may have, with the reasons."""


@dataclass(frozen=True)
class Comparison:
    """A comparison, as its file defines it.

    Attributes:
        path: The file.
        out: Folder of its runs and its report.
        seeds: Number of seeds of each run.
        handovers: Names to arguments of the offline phase.
        variants: Names of variants to arguments of the online phase.
        online: Arguments that precede those of every variant.
    """

    path: Path
    out: Path
    seeds: int
    handovers: Mapping[str, LocatedValue]
    variants: Mapping[str, LocatedValue]
    online: str = ""

    def plan(self, handover: str, variant: str | None, seed: int) -> "Plan":
        """Return the plan of a variant from a handover; without a variant, that of the offline run."""
        if variant is None:
            return self._plan(self.handovers[handover], "", self._place(handover, "offline", seed))
        start = shlex.join(["--from", str(self.plan(handover, None, seed).folder)])
        return self._plan(
            self.variants[variant], f"{start} {self.online}", self._place(handover, variant, seed)
        )

    def refusals(self) -> dict[tuple[str, str], str]:
        """Check every run before the first starts; return the excluded pairs with the reasons.

        Raises:
            UserError: A setting is wrong; has the line of the file.
        """
        refused = {}
        for handover, start in self.handovers.items():
            if self._plan(start, "", self._place(handover, "offline", 0)).online:
                raise start.wrong("a handover is an offline run, and this line has --online.")
            for variant, variant_arguments in self.variants.items():
                try:
                    self._plan(
                        variant_arguments, f"{start.text} {self.online}", self._place(handover, variant, 0)
                    )
                except OnlineSettingsError as error:
                    refused[handover, variant] = error.what
        return refused

    def _place(self, handover: str, variant: str, seed: int) -> list[str]:
        return ["--out", str(self.out / _slug(handover) / _slug(variant)), "--seed", str(seed)]

    def _plan(self, item: LocatedValue, before: str, after: list[str]) -> "Plan":
        """Return the checked plan of a command line of the file."""
        words = [*shlex.split(f"{before} {item.text}"), *after]
        with item.located():
            try:
                params = train.make_context("train", list(words)).params
            except click.ClickException as error:
                raise UserError(error.format_message()) from None
            options = {name: params[name] for name in params if name not in COMMAND_ONLY}
            (plan,), _ = make_plans(
                params["words"], options, shlex.join(["off2on", "train", *words]), resume=True
            )
        return plan


def read(path: Path) -> Comparison:
    """Read the file of a comparison.

    Raises:
        UserError: The file does not exist, is not YAML, or has an unknown key.
    """
    entries = dict(read_yaml(path).items)
    if FORMER in entries and "variants" not in entries:
        click.echo(f"warning: '{FORMER}' is now 'variants'; the old name is removed in version 0.3", err=True)
        entries["variants"] = entries.pop(FORMER)
    for key, each in entries.items():
        if key not in KEYS:
            with each.located():
                raise UserError(
                    f"a comparison has no '{key}'.", f"All: {' '.join(KEYS)}", given=key, known=KEYS
                )
    for key in ("handovers", "variants"):
        if key not in entries:
            raise UserError(f"{path} has no {key}.", "Expected lines NAME: ARGUMENTS of `off2on train`.")
    out = entries["out"].text if "out" in entries else str(Path("runs") / path.stem)
    if "://" in out:
        raise entries["out"].wrong(
            f"a comparison runs on this machine, and {out} is in a bucket.", "Expected a folder."
        )
    online = _checked_line(entries["online"]) if "online" in entries else ""
    variants = _lines(entries["variants"])
    for variant in variants.values():
        if not {"--online", "--new-data"} & _options(f"{online} {variant.text}"):
            raise variant.wrong("this variant has no online phase.", "", "online: --online 5k")
    return Comparison(
        path=path,
        out=Path(out),
        seeds=entries["seeds"].whole("seeds", least=1, most=MOST_SEEDS) if "seeds" in entries else 3,
        handovers=_lines(entries["handovers"]),
        variants=variants,
        online=online,
    )


def _lines(block: LocatedValue) -> dict[str, LocatedValue]:
    """Return names to lines of arguments; check that every name has its own folder."""
    if not block.items:
        raise block.wrong("expected lines NAME: ARGUMENTS of `off2on train`.")
    folders: dict[str, str] = {}
    for name, item in block.items.items():
        _checked_line(item)
        other = folders.setdefault(_slug(name), name)
        if other != name:
            raise item.wrong(
                f"'{name}' and '{other}' would have the same folder.", "Names must differ in letters."
            )
    return block.items


def _checked_line(item: LocatedValue) -> str:
    """Return a line of arguments; check that it can be split into words, none of them in `REFUSED`."""
    if not isinstance(item.value, str):
        raise item.wrong("expected a line of arguments.", "Those of `off2on train`.")
    try:
        given = _options(item.value)
    except ValueError as error:
        raise item.wrong(f"the line cannot be split into words: {str(error).lower()}.") from None
    for option, reason in REFUSED.items():
        if option in given:
            raise item.wrong(f"{option} {reason}.")
    return item.value


def _options(line: str) -> set[str]:
    """Return the words of a line, without the values that follow ``=``.

    Raises:
        ValueError: A quotation mark is not closed.
    """
    return {word.partition("=")[0] for word in shlex.split(line)}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name)
