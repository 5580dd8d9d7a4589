"""What is known of a run while it runs, and told line by line; see `display` for how a terminal shows it."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self, TextIO

from off2on.runs.curve import EARLY
from off2on.runs.numbers import duration


class Progress(ABC):
    """What is known of a run so far; how it is shown is for `Lines` and `display.Screen`."""

    def __init__(
        self, stream: TextIO, title: str, folder: str, updates: int, online: int, data_score: float | None
    ) -> None:
        self.stream, self.title, self.folder, self.data_score = stream, title, folder, data_score
        self.planned = {"offline": updates, "online": online}
        self.done = {"offline": 0, "online": 0}
        self.side = "offline"
        self.latest: dict[str, float] = {}
        self.recall([])
        self.window = EARLY * online
        """Environment steps in which a drop is looked for."""
        self._began: tuple[str, int, float] | None = None
        self.open()

    def advance(self, side: str, updates: int, env_steps: int, speeds: Mapping[str, float]) -> None:
        """Says how far the run is.

        Args:
            side: offline, handover or online.
            updates: Gradient updates so far.
            env_steps: Environment steps so far.
            speeds: `updates_per_s`, `steps_per_s`; any other numeric column of metrics.csv may be there too.
        """
        self.side = "offline" if side == "offline" else "online"
        if self.side == "offline":
            self.done["offline"] = updates
        else:
            self.done |= {"offline": self.planned["offline"], "online": env_steps}
        if self._began is None or self._began[0] != self.side:
            self._began = (self.side, self.done[self.side], time.monotonic())
        self.latest.update(speeds)

    def evaluated(self, row: Mapping[str, object]) -> None:
        """Takes a row of metrics.csv."""
        numbers = {name: _number(value) for name, value in row.items()}
        known = {name: value for name, value in numbers.items() if value is not None}
        steps = int(known.get("env_steps", 0))
        self.advance(str(row["side"]), int(known.get("updates", 0)), steps, known)
        self._remember(row)

    def recall(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Takes all rows of a run that goes on, instead of those known, and shows nothing of them."""
        self.scores: dict[str, list[float]] = {"offline": [], "online": []}
        self.handover: float | None = None
        self.lowest: float | None = None
        for row in rows:
            self._remember(row)

    def _remember(self, row: Mapping[str, object]) -> None:
        side, score = str(row["side"]), _number(row.get("score"))
        steps = int(_number(row.get("env_steps")) or 0)
        if score is None:
            return
        self.scores["offline" if side == "offline" else "online"].append(score)
        if side == "offline" or (side == "handover" and self.handover is None):
            self.handover = score  # just before the switch, if no other offline one comes
        if side != "offline" and steps <= self.window:
            self.lowest = score if self.lowest is None else min(self.lowest, score)

    @abstractmethod
    def open(self) -> None:
        """Begins to show."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Shows a line of text that stays."""

    @abstractmethod
    def close(self) -> None:
        """Ends the display; what it shows last stays."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def drop(self) -> float | None:
        """The score at the handover less the lowest early online one."""
        return None if self.handover is None or self.lowest is None else max(0.0, self.handover - self.lowest)

    def left(self) -> float | None:
        """Seconds left on this side at the pace it has kept so far, evaluations and all."""
        side, start, since = self._began or (self.side, 0, 0.0)
        gone, ahead = self.done[side] - start, self.planned[side] - self.done[side]
        return ahead * (time.monotonic() - since) / gone if min(gone, ahead) > 0 else None


class Lines(Progress):
    """One line per evaluation, for logs and files: aligned, greppable, no escape codes."""

    def open(self) -> None:
        """Says what runs, and where."""
        self.note(f"{self.title}  {self.folder}")

    def evaluated(self, row: Mapping[str, object]) -> None:
        """Takes a row of metrics.csv and writes its line."""
        super().evaluated(row)
        side, score = str(row["side"]), _number(row.get("score"))
        at = self.done["online"] if side == "online" else self.done["offline"]
        words = [f"{side:<8}", f"{at:>9}", f"score {'-' if score is None else f'{score:.1f}':>8}"]
        if side == "handover":
            words += [f"({row.get('episodes', '?')} episodes)"]
        elif "q" in self.latest:
            words += [f"q {self.latest['q']:>9.1f}"]
        if side == "online" and self.drop is not None:
            words += [f"drop {self.drop:>7.1f}"]
        if "updates_per_s" in self.latest:
            words += [f"{self.latest['updates_per_s']:>6.0f} upd/s"]
        left = self.left()
        words += [f"left {duration(left).replace(' ', '')}"] if left is not None else []
        self.note("  ".join(words))

    def note(self, text: str) -> None:
        """Writes a line with the time of day."""
        line = f"{datetime.now():%H:%M:%S}  {text}\n"
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(line.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def close(self) -> None:
        """Nothing is left to do."""


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
