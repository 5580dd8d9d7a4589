"""Show the progress of a run: seven lines redrawn in place on a terminal, plain lines elsewhere.

    with open_progress(title=…, folder=…, updates=…, online=…, data_score=…) as progress:
        progress.advance("offline", 1_000, 0, {"updates_per_s": 412.0})     often; cheap
        progress.evaluated(row)                                             for each row of metrics.csv

There is no background thread: `advance` redraws the terminal, at most four times a second.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from off2on.runs.curve import EARLY
from off2on.runs.numbers import duration, points, short
from off2on.training.progress import LineProgress, Progress
from off2on.training.terminal import can_redraw

REDRAW = 0.25  # seconds
SPARKLINE_LEVELS = "▁▂▃▄▅▆▇█"


def open_progress(
    stream: TextIO | None = None,
    *,
    title: str,
    folder: Path | str,
    updates: int,
    online: int,
    data_score: float | None,
    warm_up: int = 0,
) -> Progress:
    """Return the progress of one run: a live display if the stream is a capable terminal, else lines.

    Args:
        stream: Output stream; None: sys.stderr.
        title: Algorithm, data and seed.
        folder: The run's folder.
        updates: Gradient updates before the handover.
        online: Environment steps of the online phase; 0: offline only.
        data_score: Mean return of the data.
        warm_up: Environment steps before the first online update.
    """
    stream = stream or sys.stderr
    able = can_redraw(stream) and "utf" in (stream.encoding or "").lower()
    kind: type[Progress] = LiveDisplay if able else LineProgress
    progress = kind(stream, title, str(folder), updates, online, data_score)
    progress.window = warm_up + EARLY * online
    return progress


class LiveDisplay(Progress):
    """Seven lines that are redrawn in place."""

    def open(self) -> None:
        """Start the display."""
        self.console = Console(file=self.stream, force_terminal=True, highlight=False)
        # Standard output is not redirected, so that `off2on … | cut -f2` gets only results.
        self.live = Live(self._lines(), console=self.console, auto_refresh=False, redirect_stdout=False)
        self.live.start(refresh=True)
        self._drawn = time.monotonic()

    def advance(self, phase: str, updates: int, env_steps: int, speeds: Mapping[str, float]) -> None:
        """Update the numbers, and redraw unless the last drawing is recent."""
        super().advance(phase, updates, env_steps, speeds)
        if time.monotonic() - self._drawn >= REDRAW:
            self._draw()

    def evaluated(self, row: Mapping[str, object]) -> None:
        """Record a row of metrics.csv and redraw."""
        super().evaluated(row)
        self._draw()

    def note(self, text: str) -> None:
        """Write a line above the display."""
        self.console.print(Text(text))

    def close(self) -> None:
        """Draw a last time and release the terminal."""
        if self.live.is_started:
            self._draw()
            self.live.stop()

    def _draw(self) -> None:
        self.live.update(self._lines(), refresh=True)
        self._drawn = time.monotonic()

    def _lines(self) -> Group:
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(no_wrap=True, justify="right")
        head.add_row(Text(f" {self.title}", style="bold"), Text(f"{self.folder} ", style="dim"))
        lines = [self._bar(), self._score(), self._speed(), self._batch(), self._critic(), self._remaining()]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(head, *lines)

    def _bar(self) -> Text:
        count = f"   {short(self.done[self.phase])} of {short(self.planned[self.phase])}"
        end = " online" if self.planned["online"] else ""
        width = max(10, self.console.width - len(" offline ") - len(end) - len(count) - 2)
        split = round(0.55 * width) if end else width
        text = Text(" offline ")
        for phase, columns in (("offline", split), ("online", width - split - 1)):
            if phase == "online" and not end:
                break
            text.append("│" if phase == "online" else "", style="bold")
            done = columns * min(1.0, self.done[phase] / max(1, self.planned[phase]))
            full = "━" * int(done) + "╸" * (done % 1 >= 0.5)
            text.append(full, style="blue").append("─" * (columns - len(full)), style="dim")
        return text.append(end).append(count)

    def _score(self) -> Text:
        went_online = bool(self.scores["online"])
        now = (self.scores["online"] or self.scores["offline"])[-1:]
        parts = [(self.data_score, "data", ""), (self.handover if went_online else None, "handover", "")]
        parts += [(self.lowest, "lowest", "yellow"), *((score, "now", "bold blue") for score in now)]
        text = Text(" score    ")
        for value, name, style in parts:
            if value is not None:
                text.append(" │ " if len(text) > 10 else "", style="dim")
                text.append(points(value), style=style).append(f" {name}")
        return text.append(f"    {self._sparkline()}", style="blue")

    def _sparkline(self) -> str:
        every = self.scores["offline"] + self.scores["online"]
        if len(every) < 2:
            return ""
        low, span = min(every), (max(every) - min(every)) or 1.0
        phases = [
            "".join(
                SPARKLINE_LEVELS[round((score - low) / span * (len(SPARKLINE_LEVELS) - 1))]
                for score in self.scores[phase][-20:]
            )
            for phase in ("offline", "online")
        ]
        return "│".join(phase for phase in phases if phase)

    def _speed(self) -> Text:
        parts = [f"{short(v)} {k.removesuffix('_per_s')}/s" for k, v in self.latest.items() if "_per_s" in k]
        return Text(" speed    " + " · ".join(parts))

    def _batch(self) -> Text:
        share = self.latest.get("offline_share")
        parts = (
            ""
            if share is None
            else f"{100 * share:.0f} % offline shards, {100 - 100 * share:.0f} % online replay"
        )
        return Text(f" batch    {parts}")

    def _critic(self) -> Text:
        named = (("q", "q"), ("critic/loss", "loss"), ("ret", "return to go of the data"))
        parts = [f"{words} {points(self.latest[name])}" for name, words in named if name in self.latest]
        hint = " ← q should stay near it" if "q" in self.latest and "ret" in self.latest else ""
        return Text(" critic   " + " · ".join(parts) + hint)

    def _remaining(self) -> Text:
        left = self.remaining()
        parts = "" if left is None else duration(left)
        if parts and self.phase == "offline" and self.planned["online"]:
            parts += f", then {short(self.planned['online'])} steps online"
        return Text(f" left     {parts}{' · ' if parts else ''}ctrl-c stops the run and writes a checkpoint")
