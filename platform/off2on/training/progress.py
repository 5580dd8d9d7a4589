"""Track the progress of a run, and write it line by line; see `live_display` for terminals."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self, TextIO

from off2on.runs.curve import EARLY
from off2on.runs.numbers import duration

LEAST_SHARE = 0.01
"""Share of a phase that must be done before its remaining time is estimated."""


class Progress(ABC):
    """The state of a run in training; `LineProgress` and `live_display.LiveDisplay` show it."""

    def __init__(
        self, stream: TextIO, title: str, folder: str, updates: int, online: int, data_score: float | None
    ) -> None:
        self.stream, self.title, self.folder, self.data_score = stream, title, folder, data_score
        self.planned = {"offline": updates, "online": online}
        self.done = {"offline": 0, "online": 0}
        self.phase = "offline"
        self.latest: dict[str, float] = {}
        self.recall([])
        self.window = EARLY * online
        """Number of environment steps after the handover in which a drop counts."""
        self._began: tuple[str, int, float] | None = None
        self.open()

    def advance(self, phase: str, updates: int, env_steps: int, speeds: Mapping[str, float]) -> None:
        """Update the numbers of updates and steps.

        Args:
            phase: One of offline, handover and online.
            updates: Gradient updates so far.
            env_steps: Environment steps so far.
            speeds: `updates_per_s`, `steps_per_s`; any other numeric column of metrics.csv may be there too.
        """
        self.phase = "offline" if phase == "offline" else "online"
        if self.phase == "offline":
            self.done["offline"] = updates
        else:
            self.done |= {"offline": self.planned["offline"], "online": env_steps}
        if self._began is None or self._began[0] != self.phase:
            self._began = (self.phase, self.done[self.phase], time.monotonic())
        self.latest.update(speeds)

    def evaluated(self, row: Mapping[str, object]) -> None:
        """Record a row of metrics.csv."""
        numbers = {name: _number(value) for name, value in row.items()}
        known = {name: value for name, value in numbers.items() if value is not None}
        steps = int(known.get("env_steps", 0))
        self.advance(str(row["side"]), int(known.get("updates", 0)), steps, known)
        self._remember(row)

    def recall(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Replace the recorded rows by those of a resumed run, without showing them."""
        self.scores: dict[str, list[float]] = {"offline": [], "online": []}
        self.handover: float | None = None
        self.lowest: float | None = None
        for row in rows:
            self._remember(row)

    def _remember(self, row: Mapping[str, object]) -> None:
        phase, score = str(row["side"]), _number(row.get("score"))
        steps = int(_number(row.get("env_steps")) or 0)
        if score is None:
            return
        self.scores["offline" if phase == "offline" else "online"].append(score)
        if phase == "offline" or (phase == "handover" and self.handover is None):
            self.handover = score  # the last offline score, else the first one at the handover
        if phase != "offline" and steps <= self.window:
            self.lowest = score if self.lowest is None else min(self.lowest, score)

    @abstractmethod
    def open(self) -> None:
        """Start the output."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a permanent line of text."""

    @abstractmethod
    def close(self) -> None:
        """End the output; its last state stays visible."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def drop(self) -> float | None:
        """Score at the handover minus the lowest early online score, at least 0."""
        return None if self.handover is None or self.lowest is None else max(0.0, self.handover - self.lowest)

    def remaining(self) -> float | None:
        """Return the estimated remaining seconds of this phase, evaluations included.

        None before `LEAST_SHARE` of the phase is done: its first steps and evaluations say little
        about its speed.
        """
        phase, start, since = self._began or (self.phase, 0, 0.0)
        done, todo = self.done[phase] - start, self.planned[phase] - self.done[phase]
        known = todo > 0 and done >= LEAST_SHARE * (done + todo)
        return todo * (time.monotonic() - since) / done if known else None


class LineProgress(Progress):
    """One line per evaluation, for logs and files: aligned, without escape codes."""

    def open(self) -> None:
        """Write the title and the folder of the run."""
        self.note(f"{self.title}  {self.folder}")

    def evaluated(self, row: Mapping[str, object]) -> None:
        """Record a row of metrics.csv and write its line."""
        super().evaluated(row)
        phase, score = str(row["side"]), _number(row.get("score"))
        at = self.done["online"] if phase == "online" else self.done["offline"]
        words = [f"{phase:<8}", f"{at:>9}", f"score {'-' if score is None else f'{score:.1f}':>8}"]
        if (rate := _number(row.get("success"))) is not None:
            words += [f"success {rate:>4.0%}"]
        if phase == "handover" and score is not None:
            words += [f"({row.get('episodes', '?')} episodes)"]
        elif "q" in self.latest:
            words += [f"q {self.latest['q']:>9.1f}"]
        if phase == "online" and self.drop is not None:
            words += [f"drop {self.drop:>7.1f}"]
        if "updates_per_s" in self.latest:
            words += [f"{self.latest['updates_per_s']:>6.0f} upd/s"]
        remaining = self.remaining()
        words += [f"left {duration(remaining).replace(' ', '')}"] if remaining is not None else []
        self.note("  ".join(words))

    def note(self, text: str) -> None:
        """Write a line with the time of day."""
        line = f"{datetime.now():%H:%M:%S}  {text}\n"
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(line.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def close(self) -> None:
        """Do nothing: every line is written already."""


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
